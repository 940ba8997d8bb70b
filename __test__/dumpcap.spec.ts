// Promises: what passes through queues is in the capture, byte for byte, in files that Wireshark's programs read; filters, limits, rings of files and
// pipes do what they say; queues go on as they were, whoever captures and whatever becomes of him.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { SOCKET } from '../ts/dumpcap/protocol.ts'
import { DumpcapServer } from '../ts/dumpcap/server.ts'
import { Capture, Mempool, Port } from '../ts/index.ts'
import { runtimeDirectory } from '../ts/telemetry/runtime.ts'
import { until } from './interop/link.ts'
import { needs } from './rig/available.ts'
import { Testpmd } from './rig/index.ts'
import { type Scratch, scratch } from './rig/scratch.ts'

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))
const run = promisify(execFile)

/** A port whose packets come back to it, in a program that lets itself be captured. */
class Rig implements AsyncDisposable {
  readonly folder: Scratch
  readonly mempool: Mempool
  readonly port: Port
  readonly #server: DumpcapServer

  private constructor(folder: Scratch, mempool: Mempool, port: Port, server: DumpcapServer) {
    ;[this.folder, this.mempool, this.port, this.#server] = [folder, mempool, port, server]
  }

  static async start(name: string): Promise<Rig> {
    const [folder, mempool] = [scratch(), new Mempool({ count: 4096, pages: '4K' })]
    // EAL's folder of run-time files: one of our own.
    process.env['RUNTIME_DIRECTORY'] = folder.path('run')
    const port = await Port.open(`net_ring_${name},size=2048`, { mempool })
    mkdirSync(runtimeDirectory('rte'), { recursive: true })
    const server = await DumpcapServer.listen(join(runtimeDirectory('rte'), SOCKET), () => [port])
    return new Rig(folder, mempool, port, server)
  }

  /** Packets of so many bytes: UDP to ports that count up from 1000. */
  pass(count: number, bytes = 100): void {
    using burst = this.mempool.createBurst(32)
    for (let sent = 0; sent < count;) {
      while (burst.length < 32 && sent + burst.length < count)
        burst.push(datagram(1000 + sent + burst.length, bytes))
      sent += this.port.txQueues[0]!.txBurst(burst)
      burst.free()
      this.port.rxQueues[0]!.rxBurst(burst)
      burst.free()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]()
    await this.port.close()
    this.mempool.close()
    this.folder[Symbol.dispose]()
  }
}

function datagram(port: number, bytes: number): Buffer {
  const packet = Buffer.alloc(bytes, port & 255)
  Buffer.from('0200000000010200000000020800450000000000000040110000c6120001c6120002', 'hex').copy(packet)
  packet.writeUInt16BE(bytes - 14, 16)
  packet.writeUInt16BE(1, 34)
  packet.writeUInt16BE(port & 0xffff, 36)
  packet.writeUInt16BE(bytes - 34, 38)
  return packet
}

/** A field of each packet of a capture, as tshark reads it. */
async function fields(file: string, ...names: readonly string[]): Promise<readonly string[]> {
  const wanted = names.flatMap((name) => ['-e', name])
  const { stdout } = await run('tshark', ['-r', file, '-T', 'fields', ...wanted], { maxBuffer: 1 << 26 })
  return stdout.split('\n').filter(Boolean)
}

interface Client {
  readonly process: ChildProcess
  readonly status: Promise<number | null>
  readonly err: () => string
}

/** `vring dumpcap`, which runs until it ends. */
function dumpcap(...args: readonly string[]): Client {
  const child = spawn(process.execPath, [CLI, 'dumpcap', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const status = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { process: child, status, err: () => text }
}

/** … and captures already. */
async function capturing(...args: readonly string[]): Promise<Client> {
  const client = dumpcap(...args)
  let ended = false
  void client.status.then(() => (ended = true))
  await until('dumpcap captures', () => client.err().includes('Capturing on') || ended)
  return client
}

needs(test, 'tshark')(
  'a capture through the API is a file that Wireshark reads, with port, direction, queue and filter',
  async (t) => {
    await using rig = await Rig.start('api')
    const { port } = rig
    const capture = await Capture.start([port.rxQueues[0]!, port.txQueues[0]!], {
      filter: 'udp dst portrange 1010-1019',
    })
    rig.pass(100)
    const [rx, tx] = capture.stats()
    t.deepEqual(rx, { queue: port.rxQueues[0]!.label, captured: 10, filtered: 90, dropped: 0 })
    t.deepEqual(tx, { queue: port.txQueues[0]!.label, captured: 10, filtered: 90, dropped: 0 })
    capture.stop()
    const bytes = await buffer(capture.stream)
    t.is(capture.stats()[0]!.captured, 10)
    const file = rig.folder.path('api.pcapng')
    writeFileSync(file, bytes)
    const rows = await fields(
      file,
      'frame.interface_name',
      'frame.packet_flags_direction',
      'udp.dstport',
      'frame.len',
    )
    const expected = ['0x00000002', '0x00000001'].flatMap((direction) =>
      Array.from({ length: 10 }, (_, i) => `${port.name}\t${direction}\t${1010 + i}\t100`),
    )
    t.deepEqual(rows.toSorted(), expected.toSorted())
    t.is(rig.mempool.freeCount, rig.mempool.count)
  },
)

test('a filter that is none is refused with what tcpdump says, and a capture of no queue too', async (t) => {
  await using rig = await Rig.start('refused')
  const queues = [rig.port.rxQueues[0]!]
  const error = await t.throwsAsync(Capture.start(queues, { filter: 'no such thing' }))
  t.is((error as { code?: string }).code, 'ERR_VRING_FILTER')
  await t.throwsAsync(Capture.start([]), { message: /array of queues/ })
  await t.throwsAsync(Capture.start(queues, { snaplen: 0 }), { message: /snaplen/ })
})

needs(test, 'tshark')('dumpcap lists ports, and captures so many packets that a filter takes', async (t) => {
  await using rig = await Rig.start('count')
  t.is((await run(process.execPath, [CLI, 'dumpcap', '-D'])).stdout, `${rig.port.id}. ${rig.port.name}\n`)
  const file = rig.folder.path('count.pcapng')
  const client = await capturing(
    '-c',
    '7',
    '-f',
    'udp dst port 1003',
    '-s',
    '64',
    '--direction',
    'out',
    '-w',
    file,
  )
  for (let i = 0; i < 9; i++) rig.pass(10)
  t.is(await client.status, 0, client.err())
  t.deepEqual(await fields(file, 'udp.dstport', 'frame.len', 'frame.cap_len'), Array(7).fill('1003\t100\t64'))
  t.regex(client.err(), /Packets captured: 7\n/)
})

needs(test, 'tshark')('Ctrl-C ends a capture with all that came before in it, also as pcap', async (t) => {
  await using rig = await Rig.start('pcap')
  const file = rig.folder.path('all.pcap')
  const client = await capturing('-P', '-i', 'any', '-w', file)
  rig.pass(500)
  client.process.kill('SIGINT')
  t.is(await client.status, 0, client.err())
  t.is((await fields(file, 'frame.number')).length, 1000)
  t.regex(client.err(), new RegExp(`on interface '${rig.port.name}': 1000/0 \\(100.0%\\)`))
})

needs(test, 'tshark')(
  'a ring of files keeps the last ones, each readable by itself, with no packet in two or in none',
  async (t) => {
    await using rig = await Rig.start('files')
    const args = [
      '-w',
      rig.folder.path('ring.pcapng'),
      '-b',
      'packets:100',
      '-b',
      'files:3',
      '--direction',
      'out',
      '-c',
      '550',
    ]
    const client = await capturing(...args)
    rig.pass(550)
    t.is(await client.status, 0, client.err())
    const files = readdirSync(rig.folder.path('')).filter((name) => name.startsWith('ring_'))
    t.is(files.length, 3)
    const ports = await Promise.all(
      files.toSorted().map((name) => fields(rig.folder.path(name), 'udp.dstport')),
    )
    t.deepEqual(
      ports.flat().map(Number),
      Array.from({ length: 250 }, (_, i) => 1300 + i),
    )
  },
)

needs(test, 'tshark')('what goes to a pipe can be read while it comes', async (t) => {
  await using rig = await Rig.start('pipe')
  const [ours, theirs] = [
    `'${CLI}' dumpcap -w - --direction in -c 300`,
    'tshark -r - -T fields -e udp.dstport',
  ]
  const shell = spawn('sh', ['-c', `'${process.execPath}' ${ours} | ${theirs}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let err = ''
  shell.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  await until('dumpcap captures', () => err.includes('Capturing on'))
  rig.pass(300)
  const seen = (await buffer(shell.stdout)).toString().trim().split('\n').map(Number)
  t.deepEqual(
    seen,
    Array.from({ length: 300 }, (_, i) => 1000 + i),
  )
})

test('a client that is killed costs nothing: the queues go on, and the next one captures', async (t) => {
  await using rig = await Rig.start('killed')
  const file = rig.folder.path('killed.pcapng')
  const first = await capturing('-w', file)
  rig.pass(100)
  first.process.kill('SIGKILL')
  await first.status
  rig.pass(1000)
  const second = await capturing('-w', file, '-c', '10')
  rig.pass(10)
  t.is(await second.status, 0, second.err())
  t.true(statSync(file).size > 1000)
  t.is(rig.mempool.freeCount, rig.mempool.count)
})

test('what cannot be is said, with what to do', async (t) => {
  await using rig = await Rig.start('wrong')
  const refused = async (args: readonly string[], pattern: RegExp): Promise<void> => {
    const client = dumpcap(...args)
    t.is(await client.status, 1, args.join(' '))
    t.regex(client.err(), pattern)
  }
  await refused(
    ['-i', 'net_vhost7'],
    new RegExp(`expected one of the ports ${rig.port.id} \\(${rig.port.name}\\), got 'net_vhost7'`),
  )
  await refused(['--queue', '5'], /none of the ports has such a queue/)
  await refused(['-f', 'no such thing'], /ERR_VRING_FILTER/)
  await refused(['--file-prefix', 'nobody'], /no program lets itself be captured at .*nobody/)
  await refused(['-b', 'size:3'], /filesize:kB/)
  await refused(['-w', '/no/such/folder/x.pcapng'], /ENOENT/)
})

test('nobody else may connect', async (t) => {
  await using _rig = await Rig.start('mode')
  t.is(statSync(join(runtimeDirectory('rte'), SOCKET)).mode & 0o777, 0o600)
})

needs(
  test,
  'tshark',
  'terminal',
)('a running testpmd lets itself be captured, on a virtual port and while it forwards', async (t) => {
  using folder = scratch()
  process.env['RUNTIME_DIRECTORY'] = folder.path('run')
  const vdevs = ['net_ring_front,size=1024']
  await using testpmd = await Testpmd.vring({ vdevs, autoStart: true })
  const file = folder.path('testpmd.pcapng')
  const client = await capturing('--file-prefix', testpmd.prefix, '-c', '100', '-w', file)
  await testpmd.command('stop')
  await testpmd.command('start tx_first 8')
  t.is(await client.status, 0, client.err())
  t.is((await fields(file, 'udp.dstport')).length, 100)
})
