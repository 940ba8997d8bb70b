// Promise: what reads DPDK's telemetry reads vring's, and finds the same names and true numbers.
import { execFile } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { promisify } from 'node:util'
import test from 'ava'
import { Mempool, Port, Telemetry, VringError } from '../ts/index.ts'
import { ask, dpdkTelemetry, needs, scratch, Testpmd, unprivileged } from './rig/index.ts'

const run = promisify(execFile)
const needed = needs(test, 'telemetry', 'dpdk')
const keys = (value: unknown): readonly string[] => Object.keys(value as object)
let prefixes = 0
const freshPrefix = (): string => `vring-api-${process.pid}-${(prefixes += 1)}`

// As DPDK's programs, ours leave their folder.
test.after.always(() => {
  for (let i = 1; i <= prefixes; i++) {
    rmSync(`/var/run/dpdk/vring-api-${process.pid}-${i}`, { recursive: true, force: true })
  }
})

needed(
  'dpdk-telemetry.py gets from vring testpmd what it gets from dpdk-testpmd, and the counts agree',
  async (t) => {
    using folder = scratch()
    const path = folder.path('s')
    // The port without a peer is there for its names: those of DPDK's port of the same driver.
    const vdevs = [`net_vhost0,iface=${path}`, `net_virtio_user0,path=${folder.path('none')},server=1`]
    await using ours = await Testpmd.vring({
      vdevs,
      forward: 'rxonly',
      telemetry: true,
      args: ['--nb-ports=1'],
    })
    const theirVdevs = [`net_virtio_user0,path=${path}`]
    await using theirs = await Testpmd.dpdk({ vdevs: theirVdevs, forward: 'txonly', telemetry: true })
    await ours.waitForLink()
    await ours.command('start')
    await theirs.command('start')
    await ours.waitForStats('10000 packets', ({ rxPackets }) => rxPackets >= 10_000)
    await theirs.command('stop')
    await ours.waitForQuiet()

    const fixed = [
      '/',
      '/info',
      '/help,/ethdev/stats',
      '/ethdev/list',
      '/mempool/list',
      '/nope',
      '/ethdev/stats,7',
    ]
    const [list, info, help, ports, pools, nope, noPort] = await dpdkTelemetry(ours.prefix, fixed)
    const dpdk = await dpdkTelemetry(theirs.prefix, fixed)
    const commands = list!['/'] as readonly string[]
    t.deepEqual(commands, commands.toSorted())
    for (const command of commands) {
      if (!/^\/(ethdev\/(macs|rx_queue|tx_queue|rss_info|vlan)|eal\/(version|lcore.*))$/.test(command)) {
        t.true((dpdk[0]!['/'] as readonly string[]).includes(command), command)
      }
    }
    t.deepEqual(keys(info!['/info']), keys(dpdk[1]!['/info']))
    t.deepEqual(help, dpdk[2])
    t.deepEqual(ports, { '/ethdev/list': [0, 1] })
    t.deepEqual(pools, dpdk[4])
    t.deepEqual([nope, noPort], dpdk.slice(5))

    // The same driver on both sides: our port 1, their port 0.
    const perPort = ['stats', 'info', 'link_status', 'xstats'].map((name) => `/ethdev/${name}`)
    const [mine, yours] = await Promise.all([
      dpdkTelemetry(
        ours.prefix,
        perPort.map((name) => `${name},1`),
      ),
      dpdkTelemetry(
        theirs.prefix,
        perPort.map((name) => `${name},0`),
      ),
    ])
    t.deepEqual(keys(mine[0]!['/ethdev/stats']), keys(yours[0]!['/ethdev/stats']))
    t.deepEqual(keys(mine[1]!['/ethdev/info']), keys(yours[1]!['/ethdev/info']))
    const kinds = /_(size_\w+|undersize|multicast|broadcast)_packets$/
    const plain = keys(yours[3]!['/ethdev/xstats']).filter((name) => !kinds.test(name))
    t.deepEqual(
      plain.filter((name) => !keys(mine[3]!['/ethdev/xstats']).includes(name)),
      [],
    )
    const [link] = await dpdkTelemetry(ours.prefix, ['/ethdev/link_status,0'])
    t.deepEqual(keys(link!['/ethdev/link_status']), keys(yours[2]!['/ethdev/link_status']))

    const [received, sent] = [
      (await dpdkTelemetry(ours.prefix, ['/ethdev/stats,0']))[0]!['/ethdev/stats'] as Record<string, number>,
      yours[0]!['/ethdev/stats'] as Record<string, number>,
    ]
    t.is(received['ipackets'], sent['opackets'])
    t.is(received['ibytes'], sent['obytes'])
    t.deepEqual(received['q_ipackets'], sent['q_opackets'])

    const socket = ours.telemetry
    t.true(existsSync(socket))
    t.is(await ours.quit(), 0)
    t.false(existsSync(socket))
  },
)

needed('the command line, the lcores and the queues are told', async (t) => {
  await using program = await Testpmd.vring({ vdevs: ['net_null0'], telemetry: true, rxq: 2, txq: 2 })
  const answers = await ask(
    program.telemetry,
    ...['/eal/params', '/eal/app_params', '/eal/lcore/list', '/eal/lcore/info,1', '/eal/version'],
    ...['/ethdev/rx_queue,0,1', '/ethdev/tx_queue,0,1', '/ethdev/rx_queue,0', '/ethdev/rx_queue,0,2'],
    ...['/ethdev/macs,0', '/ethdev/vlan,0', '/mempool/info,mb_pool_0', '/mempool/info,x', '/mempool/info'],
  )
  const value = (command: string, at = 0): unknown =>
    answers.filter((answer) => command in answer)[at]?.[command]
  t.true((value('/eal/params') as readonly string[]).includes('net_null0'))
  t.true((value('/eal/app_params') as readonly string[]).includes('--rxq=2'))
  t.deepEqual(value('/eal/lcore/list'), [0, 1])
  t.regex(String(value('/eal/version')), /^vring \d/)
  t.like(value('/ethdev/rx_queue'), { mempool_name: 'mb_pool_0', queue_state: 1 })
  // Two queues: the number must be given, and be one of them.
  t.deepEqual([value('/ethdev/rx_queue', 1), value('/ethdev/rx_queue', 2)], [null, null])
  t.like(value('/ethdev/tx_queue'), { queue_state: 1 })
  t.is((value('/ethdev/macs') as readonly string[]).length, 1)
  t.like(value('/ethdev/vlan'), { VLAN_FILTER: 'off', vlan_num: 0 })
  const pool = value('/mempool/info') as Record<string, number>
  t.is(pool['avail_count']! + pool['in_use_count']!, pool['size']!)
  t.deepEqual([value('/mempool/info', 1), value('/mempool/info', 2)], [{}, null])
})

needs(
  test,
  'telemetry',
  'dpdk',
  'unprivileged',
)('an unprivileged user has the socket where DPDK looks for it', async (t) => {
  using folder = scratch({ owner: unprivileged.uid })
  const env = { XDG_RUNTIME_DIR: folder.path(''), HOME: folder.path('') }
  const { wrapper } = unprivileged
  await using program = await Testpmd.vring({ vdevs: ['net_null0'], telemetry: true, env, wrapper })
  const [list] = await dpdkTelemetry(program.prefix, ['/ethdev/list'], { wrapper, env })
  t.deepEqual(list, { '/ethdev/list': [0] })
})

needed('a script has telemetry with commands of its own', async (t) => {
  using mempool = new Mempool({ name: 'packets', count: 1024, pages: '4K' })
  await using port = await Port.open('net_ring0', { mempool })
  const filePrefix = freshPrefix()
  let open: readonly Port[] = [port]
  using telemetry = Telemetry.listen({ ports: () => open, filePrefix, appParams: ['x'] })
  telemetry.register('/app/echo', 'Returns its parameters', (parameters) => ({ got: parameters ?? null }))
  telemetry.register('/app/broken', 'Throws', () => {
    throw new Error('broken')
  })
  telemetry.register('/app/long', 'Returns more than an answer holds', () =>
    Array.from({ length: 100_000 }, (_, i) => `${i}`),
  )
  using burst = mempool.createBurst()
  for (let i = 0; i < 8; i++) burst.push(Buffer.alloc(60, i))
  t.is(port.txQueues[0]!.txBurst(burst), 8)
  const [hello, echo, none, broken, long, stats, pool, params] = await ask(
    telemetry.path,
    ...['/app/echo,a,b', '/app/echo', '/app/broken', '/app/long', '/ethdev/stats,0', '/mempool/info,packets'],
    '/eal/app_params',
  )
  t.like(hello, { pid: process.pid })
  t.deepEqual(echo, { '/app/echo': { got: 'a,b' } })
  t.deepEqual(none, { '/app/echo': { got: null } })
  t.deepEqual(broken, { '/app/broken': null })
  // Cut where it no longer fits, and JSON all the same.
  const list = long!['/app/long'] as readonly string[]
  t.true(list.length > 1000 && list.length < 100_000)
  t.is(list.at(-1), String(list.length - 1))
  t.like(stats!['/ethdev/stats'], { opackets: 8, obytes: 480 })
  t.like(pool!['/mempool/info'], { size: 1024, in_use_count: 8 })
  t.deepEqual(params, { '/eal/app_params': ['x'] })

  for (const bad of ['echo', '/with space', `/${'x'.repeat(60)}`]) {
    const error = t.throws(() => telemetry.register(bad, '', () => null), { instanceOf: VringError })
    t.is(error.code, 'ERR_VRING_INVALID_ARGUMENT')
  }
  for (const bad of ['a/b', '..', '']) {
    const listen = (): Telemetry => Telemetry.listen({ ports: () => [], filePrefix: bad })
    t.is(t.throws(listen, { instanceOf: VringError }).code, 'ERR_VRING_INVALID_ARGUMENT')
  }
  open = []
  const [, gone] = await ask(telemetry.path, '/ethdev/stats,0')
  t.deepEqual(gone, { '/ethdev/stats': null })
  burst.free()
})

needed(
  'programs with the same prefix have a socket each; one that was killed leaves its place',
  async (t) => {
    const filePrefix = freshPrefix()
    const files = (): number => readdirSync('/proc/self/fd').length
    const before = files()
    const first = Telemetry.listen({ ports: () => [], filePrefix })
    const second = Telemetry.listen({ ports: () => [], filePrefix })
    t.is(second.path, `${first.path}:1`)
    for (const one of [first, second]) t.like((await ask(one.path))[0], { pid: process.pid })
    second.close()
    second.close()
    first.close()
    t.false(existsSync(first.path))
    // Not when they are collected: a peer waits for the end of its connection.
    while (files() > before) await new Promise((resolve) => setImmediate(resolve))
    t.true(files() <= before)

    await using program = await Testpmd.vring({ vdevs: [], telemetry: true })
    await program.kill()
    t.true(existsSync(program.telemetry))
    using next = Telemetry.listen({ ports: () => [], filePrefix: program.prefix })
    t.is(next.path, program.telemetry)
    t.like((await ask(next.path))[0], { pid: process.pid })
  },
)

const HOSTILE = `
import socket, sys, os
path = sys.argv[1]
def client():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    return s
clients = [client() for _ in range(10)]
for c in clients: c.recv(1 << 20)
print(client().recv(1 << 20))
for c in clients: c.close()
while True: # until the ten are forgotten
    s = client()
    if s.recv(1 << 20): break
for junk in [os.urandom(1000), b'\\0', b',', b',,,', b'/' * 1000, b'/info,' + b'x' * 60000, b'\\xff\\xfe']:
    s.send(junk); print(type(s.recv(1 << 20)).__name__)
lazy = client()
try:
    for _ in range(100000): lazy.send(b'/app/long')
    print('served without end')
except OSError as e: print(type(e).__name__)
s.send(b'/info'); print('pid' in s.recv(1 << 20).decode())
`

needed('clients that are too many, send anything, or do not read, harm nobody', async (t) => {
  using telemetry = Telemetry.listen({ ports: () => [], filePrefix: freshPrefix() })
  telemetry.register('/app/long', 'Returns much', () => 'x'.repeat(100_000))
  const { stdout } = await run('python3', ['-c', HOSTILE, telemetry.path])
  const [eleventh, ...rest] = stdout.trim().split('\n')
  t.is(eleventh, "b''")
  t.deepEqual(
    rest.slice(0, 7),
    Array.from({ length: 7 }, () => 'bytes'),
  )
  t.regex(rest[7]!, /^(BrokenPipeError|ConnectionResetError)$/)
  t.is(rest[8], 'True')
})

needs(test, 'unprivileged')('a folder that is somebody else’s is refused', (t) => {
  using folder = scratch()
  const before = process.env['RUNTIME_DIRECTORY']
  process.env['RUNTIME_DIRECTORY'] = folder.path('')
  try {
    Telemetry.listen({ ports: () => [], filePrefix: 'mine' }).close()
    using foreign = scratch({ owner: unprivileged.uid })
    chmodSync(foreign.path(''), 0o755)
    process.env['RUNTIME_DIRECTORY'] = foreign.path('')
    mkdirSync(foreign.path('dpdk/mine'), { recursive: true })
    chownSync(foreign.path('dpdk/mine'), unprivileged.uid, unprivileged.uid)
    const error = t.throws(() => Telemetry.listen({ ports: () => [], filePrefix: 'mine' }), {
      instanceOf: VringError,
    })
    t.is(error.code, 'ERR_VRING_PERMISSION')
  } finally {
    if (before === undefined) delete process.env['RUNTIME_DIRECTORY']
    else process.env['RUNTIME_DIRECTORY'] = before
  }
})
