// Promise: what a person can get wrong around `vring testpmd` ends with status 1 and one sentence that names it, with a
// stable code and without a stack trace, and leaves nothing behind; the API gives the same code. What a peer does wrong is
// an event of the port, which serves the next peer. Signals end the program as they end dpdk-testpmd.
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket, connect } from 'node:net'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { Lcore, Mempool, Port, VringError } from '../ts/index.ts'
import { pcap, randomPackets } from './interop/captures.ts'
import { LIMIT, options, until } from './interop/link.ts'
import { needs, scratch, Terminal, unprivileged } from './rig/index.ts'

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))
const EAL = ['--lcores', '(0-1)@0', '--no-huge', '-m', '256']

interface Ending {
  readonly code: number | null
  readonly errors: string
}

/** Runs a program to its end, its input closed. */
async function run(argv: readonly string[]): Promise<Ending> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, errors }
}

const command = (vdev: string, app: readonly string[] = [], eal: readonly string[] = EAL): string[] => [
  ...[process.execPath, CLI, 'testpmd', ...eal, '--vdev', vdev, '--'],
  ...['--total-num-mbufs=4096', ...app],
]

/** The program ended with status 1 and says why, and nothing but that. */
function refused(t: ExecutionContext, { code, errors }: Ending, expected: RegExp): void {
  t.is(code, 1, errors)
  t.regex(errors, /EAL: Error - exiting with code: 1\n {2}Cause: .+\n$/)
  t.regex(errors, expected)
  t.notRegex(errors, /^\s+at |node:internal|panicked/m)
}

/** The program and the API refuse a device with the same code and sentence, and the API keeps no buffer. */
async function bothRefuse(t: ExecutionContext, vdev: string, code: string, message: RegExp): Promise<void> {
  refused(t, await run(command(vdev)), message)
  refused(t, await run(command(vdev)), new RegExp(`\\(${code}\\)\n$`))
  using pool = new Mempool(options)
  await t.throwsAsync(Port.open(vdev, { mempool: pool }), { instanceOf: VringError, code, message }, vdev)
  t.is(pool.freeCount, pool.count)
}

for (const [driver, key] of [
  ['net_vhost', 'iface'],
  ['net_virtio_user', 'path'],
] as const) {
  test(`${driver}: a path without its folder, that is no socket, or is too long`, async (t) => {
    using folder = scratch()
    writeFileSync(folder.path('file'), 'mine')
    const vdev = (name: string): string => `${driver}0,${key}=${folder.path(name)}`
    await bothRefuse(
      t,
      vdev('no/s0'),
      'ERR_VRING_NO_SUCH_PATH',
      /\/no does not exist: expected an existing folder/,
    )
    await bothRefuse(
      t,
      vdev('file'),
      'ERR_VRING_NOT_A_SOCKET',
      /\/file exists and is no socket; it was left alone/,
    )
    await bothRefuse(t, vdev('x'.repeat(120)), 'ERR_VRING_PATH_TOO_LONG', /expected 1 to 107 bytes/)
    t.deepEqual(readdirSync(folder.path('')), ['file'])
  })

  test(`${driver}: a socket that somebody listens on is in use, and stays theirs`, async (t) => {
    using folder = scratch()
    const socket = folder.path('s0')
    const listen = driver === 'net_virtio_user' ? ',server=1' : ''
    const server = createServer((peer) => peer.destroy()).listen(socket)
    await once(server, 'listening')
    try {
      const vdev = `${driver}0,${key}=${socket}${listen}`
      await bothRefuse(t, vdev, 'ERR_VRING_SOCKET_IN_USE', /s0 is in use: another process listens on it/)
      t.true(existsSync(socket))
    } finally {
      server.close()
    }
  })

  needs(test, 'unprivileged')(`${driver}: without permission for the folder or the socket`, async (t) => {
    using folder = scratch({ owner: unprivileged.uid })
    const locked = folder.path('locked')
    mkdirSync(locked)
    chmodSync(locked, 0o755)
    const listen = driver === 'net_virtio_user' ? ',server=1' : ''
    const asNobody = (vdev: string) => run([...unprivileged.wrapper, ...command(vdev)])
    const noPermission = /no permission for socket .*expected write access.*\(ERR_VRING_PERMISSION\)/
    refused(t, await asNobody(`${driver}0,${key}=${locked}/s0${listen}`), noPermission)
    t.deepEqual(readdirSync(locked), [])
    const dial = driver === 'net_vhost' ? ',client=1' : ''
    const server = createServer((peer) => peer.destroy()).listen(folder.path('s0'))
    await once(server, 'listening')
    try {
      chmodSync(folder.path('s0'), 0o600)
      refused(t, await asNobody(`${driver}0,${key}=${folder.path('s0')}${dial}`), noPermission)
    } finally {
      server.close()
    }
  })
}

test('unknown and impossible device arguments: the nearest known one, the range', async (t) => {
  using folder = scratch()
  const user = `net_virtio_user0,path=${folder.path('s0')}`
  const [unknown, bad] = ['ERR_VRING_UNKNOWN_DEVARG', 'ERR_VRING_BAD_DEVARG']
  await bothRefuse(t, `${user},quueues=2`, unknown, /'quueues' \(did you mean queues\?\); it knows path, /)
  await bothRefuse(t, 'net_vhots0', 'ERR_VRING_UNKNOWN_DRIVER', /did you mean net_vhost\?/)
  await bothRefuse(t, 'net_vhost0', 'ERR_VRING_MISSING_DEVARG', /expected the argument iface .*, got none/)
  await bothRefuse(t, `${user},queues=1000`, bad, /expected queues to be a number from 1 to 128, got '1000'/)
  await bothRefuse(t, `${user},server=yes`, bad, /expected server to be 0 or 1, got 'yes'/)
  for (const size of [0, 1, 100, 65536]) {
    const range = new RegExp(`a power of two from 2 to 32768, got ${size}`)
    await bothRefuse(t, `${user},queue_size=${size}`, 'ERR_VRING_QUEUE_SIZE', range)
  }
  refused(
    t,
    await run(command(user, ['--rxd=100'])),
    /a power of two from 2 to 32768, got 100 \(ERR_VRING_QUEUE_SIZE\)/,
  )
  refused(
    t,
    await run(command(user, ['--rxq=2', '--txq=2'])),
    /expected 1 to 1 .*queues, got 2;.*\(ERR_VRING_OUT_OF_RANGE\)/,
  )
  t.deepEqual(readdirSync(folder.path('')), [])
})

test('memory that is not there: too little by -m, none from the system, no hugepages', async (t) => {
  const many = ['--total-num-mbufs=1000000']
  refused(t, await run(command('net_null0', many)), /need 2\d{3} MiB, -m allows 256; give -m 2\d{3} or more/)
  const eal = ['--lcores', '(0-1)@0', '--no-huge']
  const limited = ['sh', '-c', 'ulimit -v 4194304; exec "$@"', 'sh']
  const all = await run([...limited, ...command('net_null0', ['--total-num-mbufs=1900000'], eal)])
  refused(t, all, /mbuf pool .*failed: .*memory.*\(ERR_VRING_NO_MEMORY\)/)
  const error = t.throws(() => new Mempool({ count: 60_000, bufferSize: 65_535, pages: '1G' }), {
    instanceOf: VringError,
    code: 'ERR_VRING_NO_HUGEPAGES',
  })
  t.regex(error.message, /nr_hugepages/)
})

test('a foreign, missing or truncated capture', async (t) => {
  using folder = scratch()
  const path = folder.path('in.pcap')
  const vdev = `net_pcap0,rx_pcap=${path}`
  refused(t, await run(command(vdev)), /in\.pcap.*No such file or directory/)
  writeFileSync(path, 'GIF89a, which is no capture at all')
  await bothRefuse(
    t,
    vdev,
    'ERR_VRING_CAPTURE',
    /expected a pcap or pcapng capture, got a file that begins with 47 49 46/,
  )
  const packets = randomPackets(12, 5)
  const whole = pcap(packets)
  writeFileSync(path, whole.subarray(0, 20))
  await bothRefuse(t, vdev, 'ERR_VRING_CAPTURE', /in\.pcap: expected/)
  // The end of the last packet is missing: the others arrive, and the loss has a name.
  writeFileSync(path, whole.subarray(0, whole.length - 10))
  using pool = new Mempool(options)
  await using port = await Port.open(vdev, { mempool: pool })
  using burst = pool.createBurst()
  await until('the end of the file', () => {
    port.rxQueues[0]!.rxBurst(burst)
    return port.info.details['rx eof'] === 'true'
  })
  t.is(burst.length, packets.length - 1)
  t.deepEqual(Buffer.from(burst.bytes(10)), packets[10]!)
  t.like(port.stats(), { rxPackets: packets.length - 1, rxErrors: 1, drops: { rx_truncated: 1 } })
})

/** GET_FEATURES in a vhost-user of version 2. */
const VERSION_2 = Buffer.from(Uint32Array.from([1, 2, 0]).buffer)

/** Packets pass from one port to the other. */
async function passes(t: ExecutionContext, from: Port, to: Port): Promise<void> {
  await Promise.all([from, to].map((port) => port.waitForLink(true, { timeout: LIMIT })))
  await using lcore = new Lcore()
  const before = to.stats().rxPackets
  lcore.start('rxonly', [{ rx: to.rxQueues[0]! }])
  await using sender = new Lcore()
  sender.start('txonly', [{ tx: from.txQueues[0]! }], { limit: 64 })
  await sender.wait()
  await until('64 packets', () => to.stats().rxPackets - before >= 64)
  t.is(to.stats().rxPackets - before, 64)
}

test('net_vhost: a peer of another version is told of by name, and the next peer is served', async (t) => {
  using folder = scratch()
  using pool = new Mempool(options)
  const socket = folder.path('s0')
  await using port = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool: pool })
  const errors: VringError[] = []
  port.on('error', (error) => errors.push(error))
  const peer = connect(socket)
  peer.on('error', () => {}) // the port hangs up
  peer.write(VERSION_2)
  await once(peer.resume(), 'close')
  await until('the event', () => errors.length > 0)
  t.is(errors[0]!.code, 'ERR_VRING_VHOST_HEADER')
  t.regex(
    errors[0]!.message,
    /^net_vhost\d+: .*expected a vhost-user request \(version 1\), got request number 1 with flags 0x2/,
  )
  await using user = await Port.open({ driver: 'net_virtio_user', path: socket }, { mempool: pool })
  await passes(t, user, port)
  t.is(errors.length, 1)
})

test('net_virtio_user: a back end of another version is told of by name, and the next one is driven', async (t) => {
  using folder = scratch()
  using pool = new Mempool(options)
  const socket = folder.path('s0')
  // Answers whatever it is asked for in version 2.
  const open = new Set<Socket>()
  const server = createServer((peer) => {
    open.add(peer.on('error', () => {}))
    peer.on('data', () => peer.write(Buffer.from(Uint32Array.from([1, 2 | 4, 8, 0, 0]).buffer)))
  }).listen(socket)
  const hangUp = async (): Promise<void> => {
    server.close()
    for (const peer of open) peer.destroy()
    await once(server, 'close')
  }
  await once(server, 'listening')
  await using port = await Port.open({ driver: 'net_virtio_user', path: socket }, { mempool: pool })
  const errors: VringError[] = []
  port.on('error', (error) => errors.push(error))
  try {
    await until('the event', () => errors.length > 0)
  } finally {
    await hangUp()
  }
  t.is(errors[0]!.code, 'ERR_VRING_VHOST_HEADER')
  t.regex(
    errors[0]!.message,
    /^net_virtio_user\d+: expected a vhost-user reply .*\(version 1\), got request number 1 with flags 0x6/,
  )
  await using vhost = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool: pool })
  await passes(t, port, vhost)
  t.is(errors.length, 1, 'it is told once, however often it was dialled')
})

test('a back end with fewer queues than are asked for is told of by name', async (t) => {
  using folder = scratch()
  using pool = new Mempool(options)
  const socket = folder.path('s0')
  await using vhost = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool: pool })
  const two = { mempool: pool, rxQueues: 2, txQueues: 2 }
  await using user = await Port.open({ driver: 'net_virtio_user', path: socket, queues: 2 }, two)
  const errors: VringError[] = []
  user.on('error', (error) => errors.push(error))
  await until('the event', () => errors.length > 0)
  t.is(errors[0]!.code, 'ERR_VRING_PEER')
  t.regex(errors[0]!.message, /expected a back end with 2 queue pairs, it has 1; ask for fewer queues/)
  await user.close()
  await using other = await Port.open({ driver: 'net_virtio_user', path: socket }, { mempool: pool })
  await passes(t, other, vhost)
})

/** Starts a program that forwards without a prompt, sends it the signal, gives how it ended. */
async function signalled(
  argv: readonly string[],
  signal: NodeJS.Signals,
): Promise<readonly [number, string]> {
  await using terminal = new Terminal(argv[0]!, argv)
  await terminal.until(
    'traffic',
    LIMIT,
    () => terminal.transcript.includes('Press enter to exit') || undefined,
  )
  terminal.signal(signal)
  return [await terminal.exited, terminal.transcript]
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  needs(test, 'dpdk')(
    `${signal} without a prompt: the status of dpdk-testpmd, statistics, no socket left`,
    async (t) => {
      using folder = scratch()
      const prefix = `vring-${process.pid}-${signal}`
      const socket = folder.path('ours')
      const argv = (vdev: string): string[] => [
        ...[...EAL, '--no-pci', '--file-prefix', prefix, '--vdev', vdev],
        ...['--', '--total-num-mbufs=4096', '--forward-mode=txonly'],
      ]
      const program = [process.execPath, CLI, 'testpmd', ...argv(`net_vhost0,iface=${socket}`)]
      const [code, text] = await signalled(program, signal)
      const [theirs] = await signalled(
        ['dpdk-testpmd', ...argv(`net_vhost0,iface=${folder.path('dpdk')}`)],
        signal,
      )
      // DPDK never removes the folder of its run-time files.
      rmSync(`/var/run/dpdk/${prefix}`, { recursive: true, force: true })
      t.is(code, theirs)
      t.regex(
        text,
        /Telling cores to stop\.\.\.[^]*Accumulated forward statistics for all ports[^]*Bye\.\.\./,
      )
      t.notRegex(text, /^\s+at |node:internal|panicked/m)
      t.false(existsSync(socket))
    },
  )
}
