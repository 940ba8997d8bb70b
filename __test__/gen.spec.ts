// Promises: the generator's options say what they mean; a search finds the highest rate without loss; over real ports every packet that a
// device under test loses, doubles, changes or reorders is named; rates are kept; a capture is played as it came.
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { search, type Step } from '../ts/gen/search.ts'
import type { Trial } from '../ts/gen/trial.ts'
import { parseRate, parseSizes } from '../ts/gen/values.ts'
import { Testpmd } from './rig/index.ts'
import { needs } from './rig/available.ts'
import { scratch } from './rig/scratch.ts'

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))
const run = promisify(execFile)

interface Outcome {
  readonly status: number
  readonly out: string
  readonly err: string
}

/** Runs `vring gen` to its end. */
async function gen(...args: readonly string[]): Promise<Outcome> {
  try {
    const { stdout, stderr } = await run(process.execPath, [CLI, 'gen', ...args], { maxBuffer: 1 << 26 })
    return { status: 0, out: stdout, err: stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { status: code, out: stdout, err: stderr }
  }
}

test('rates and sizes are read as people write them', (t) => {
  t.deepEqual(parseRate('1.5Mpps'), { pps: 1.5e6 })
  t.deepEqual(parseRate('250000'), { pps: 250_000 })
  t.deepEqual(parseRate('10Gbps'), { bps: 1e10 })
  t.deepEqual(parseRate('40%'), { percent: 40 })
  t.deepEqual(parseRate('max'), { max: true })
  for (const bad of ['', '0', '-1', '1Xpps', 'fast', '1%pps']) t.throws(() => parseRate(bad), undefined, bad)
  t.deepEqual(parseSizes('60,1514:3'), [
    { bytes: 60, weight: 1 },
    { bytes: 1514, weight: 3 },
  ])
  t.deepEqual(
    parseSizes('imix').map(({ bytes, weight }) => bytes * weight),
    [420, 2360, 1514],
  )
  for (const bad of ['', '59', '9747', '60:0', '60,', 'a']) t.throws(() => parseSizes(bad), undefined, bad)
})

/** What a device that forwards `most` packets a second and no more makes of a trial at `pps`. */
function trialAt(pps: number, most: number): Trial {
  const sent = Math.round(pps)
  const unique = Math.min(sent, Math.floor(most))
  const latency = { min: 1, mean: 1, max: 1, jitter: 0, p50: 1, p90: 1, p99: 1, p999: 1 }
  const clean = {
    reordered: 0,
    duplicated: 0,
    stale: 0,
    damaged: 0,
    foreign: 0,
    missing: [],
    duplicates: [],
    late: [],
  }
  return {
    sent: [{ packets: sent, bytes: sent * 60, late: 0, nanoseconds: 1e9 }],
    received: { packets: unique, bytes: unique * 60, unique, latency, ...clean },
    lost: sent - unique,
    pps,
    bps: 0,
    drops: {},
  }
}

async function steps(from: number, most: number, loss = 0): Promise<readonly Step[]> {
  const all: Step[] = []
  const options = { from, loss, resolution: 1 }
  for await (const step of search(options, async (pps) => trialAt(pps, most))) all.push(step)
  return all
}

test('a search ends at the highest rate without loss, to the resolution', async (t) => {
  const best = (all: readonly Step[]): number => all.findLast(({ good }) => good)?.pps ?? 0
  const found = best(await steps(10e6, 3_456_789))
  t.true(found <= 3_456_789 && found > 3_456_789 * 0.98, String(found))
  const lenient = best(await steps(10e6, 3_456_789, 10))
  t.true(lenient > found && lenient <= 3_456_789 / 0.9, String(lenient))
  t.deepEqual(
    (await steps(1e6, 2e6)).map(({ pps, good }) => [pps, good]),
    [[1e6, true]],
    'nothing above what was asked for is tried',
  )
  t.is(best(await steps(1e6, 0)), 0, 'and a device that forwards nothing has no such rate')
})

test('what cannot be is refused, with what is expected', async (t) => {
  const refused = async (args: readonly string[], pattern: RegExp): Promise<void> => {
    const { status, err } = await gen(...args)
    t.is(status, 1, args.join(' '))
    t.regex(err, pattern)
  }
  await refused([], /--vdev/)
  await refused(['--vdev', 'net_null0', '--rate', '1Xpps'], /1\.5Mpps/)
  await refused(['--vdev', 'net_null0', '--tx', '1'], /there is no port 1/)
  await refused(['--vdev', 'net_null0', '--protocol', 'tcp', '--size', '60'], /from 72 to 9746, got 60/)
  await refused(['--vdev', 'net_null0', '--search', '--replay', 'x.pcap'], /leave out --replay/)
  await refused(['--vdev', 'net_null0', '--replay', '/no/such.pcap'], /no\/such\.pcap/)
})

test('a run over a perfect link loses nothing, keeps its rate, and says so as JSON', async (t) => {
  const rate = 200_000
  const args = [
    '--vdev',
    'net_ring0,size=4096',
    '--packets',
    '100000',
    '--rate',
    String(rate),
    '--size',
    'imix',
  ]
  const { status, out } = await gen(...args, '--flows', '100', '--check', '--json')
  t.is(status, 0)
  const trial = JSON.parse(out) as Trial
  t.is(trial.sent[0]!.packets, 100_000)
  t.is(trial.received!.unique, 100_000)
  t.is(trial.lost, 0)
  // No packet leaves before it is due; what could not leave in time on a busy machine is told apart.
  const due = (trial.sent[0]!.nanoseconds * rate) / 1e9
  t.true(100_000 + trial.sent[0]!.late <= due + 2, `${due} were due`)
})

/** A script for testpmd that does to some packets what networks do. Of the packets that are sent, even ones are flow 0, odd ones flow 1. */
const HARM = `
let seen = 0
let again
export default function harm(burst, { pool }) {
  for (let i = 0, first = seen; i < burst.length; i++) {
    const [nth, at] = [first + i, burst.addr[i]]
    if (nth === 1000) pool.bytes[at + 50] ^= 1 // in the signature
    if (nth === 2001) pool.bytes[at + burst.len[i] - 1] ^= 1 // the last byte
    if (nth === 4000) again = burst.bytes(i).slice()
    seen++
  }
  const lost = 3000 - (seen - burst.length) // before anything is pushed
  if (again && burst.push(again)) again = undefined
  if (lost < 0 || lost >= burst.length) return
  const [last, addr, len] = [burst.length - 1, burst.addr[lost], burst.len[lost]]
  for (const array of [burst.addr, burst.len]) array.copyWithin(lost, lost + 1, last + 1)
  burst.addr[last] = addr
  burst.len[last] = len
  burst.drop(last)
}
`

/** A script that takes at least so many milliseconds for each burst. */
const SLOW = `
export default function slow() {
  const since = performance.now()
  while (performance.now() - since < 2);
}
`

needs(test, 'tshark')('packets have right checksums, whatever they are made of', async (t) => {
  using folder = scratch()
  const file = folder.path('out.pcap')
  for (const args of [
    ['--protocol', 'udp', '--size', '60,61,1514,9000'],
    ['--protocol', 'tcp', '--size', '77,1514', '--vlan', '7'],
    ['--protocol', 'icmp', '--size', '60,1513', '--vary', 'dst-ip'],
    ['--protocol', 'udp', '--size', '81,9000', '--src-ip', '2001:db8::1', '--dst-ip', '2001:db8::2'],
  ]) {
    const { status, err } = await gen(
      '--vdev',
      `net_pcap0,tx_pcap=${file}`,
      '--packets',
      '64',
      '--flows',
      '5',
      ...args,
    )
    t.is(status, 0, err)
    const checks = ['ip', 'udp', 'tcp'].flatMap((name) => ['-o', `${name}.check_checksum:TRUE`])
    const bad = ['ip', 'udp', 'tcp', 'icmp', 'icmpv6'].map((name) => `${name}.checksum.status == 0`)
    const read = async (filter: string): Promise<number> => {
      const { stdout } = await run('tshark', [
        '-r',
        file,
        ...checks,
        '-Y',
        filter,
        '-T',
        'fields',
        '-e',
        'frame.number',
      ])
      return stdout.split('\n').filter(Boolean).length
    }
    t.is(await read(bad.join(' or ')), 0, args.join(' '))
    t.is(await read('ip or ipv6'), 64)
  }
})

/** A device under test: testpmd with this script, and what the generator has to say about it. */
async function through(code: string, ...args: readonly string[]): Promise<Outcome> {
  using folder = scratch()
  const [socket, script] = [folder.path('s'), folder.path('script.mjs')]
  writeFileSync(script, code)
  await using _dut = await Testpmd.vring({
    vdevs: [`net_vhost0,iface=${socket}`],
    autoStart: true,
    args: [`--script=${script}`],
  })
  return await gen('--vdev', `net_virtio_user0,path=${socket},queue_size=4096`, '--json', ...args)
}

needs(test, 'terminal')('what a device under test does to packets is found, and named', async (t) => {
  const { status, out, err } = await through(
    HARM,
    ...['--packets', '5000', '--rate', '100kpps', '--size', '60,1514', '--flows', '2', '--check'],
  )
  t.is(status, 1, err)
  const { received, lost } = JSON.parse(out) as Trial
  t.deepEqual(received!.missing, [
    [0, 500, 500],
    [0, 1500, 1500],
    [1, 1000, 1000],
  ])
  t.deepEqual([lost, received!.damaged, received!.duplicated], [3, 2, 1])
  t.deepEqual(received!.duplicates, [[0, 2000]])
})

needs(test, 'terminal')('no packet is said to be faster than the device under test is slow', async (t) => {
  const { out, err } = await through(SLOW, '--packets', '50', '--rate', '100pps')
  const { received } = JSON.parse(out) as Trial
  t.is(received!.unique, 50, err)
  t.true(received!.latency.min >= 2e6, JSON.stringify(received!.latency))
})

needs(test, 'terminal')(
  'a capture is played through a device under test, byte for byte and as often as asked',
  async (t) => {
    using folder = scratch()
    const [file, socket] = [folder.path('in.pcap'), folder.path('s')]
    await gen(
      '--vdev',
      `net_pcap0,tx_pcap=${file}`,
      '--packets',
      '100',
      '--size',
      'imix',
      '--rate',
      '100kpps',
    )
    const back = folder.path('back.pcap')
    await using dut = await Testpmd.vring({
      vdevs: [`net_vhost0,iface=${socket}`, `net_pcap0,tx_pcap=${back}`],
      autoStart: true,
    })
    const { status, out, err } = await gen(
      ...[
        '--vdev',
        `net_virtio_user0,path=${socket}`,
        '--replay',
        file,
        '--loops',
        '2',
        '--speedup',
        '1000',
        '--json',
      ],
    )
    t.is(status, 0, err)
    t.is((JSON.parse(out) as Trial).sent[0]!.packets, 200)
    await dut[Symbol.asyncDispose]()
    const records = (path: string): string => {
      const bytes = readFileSync(path)
      let [at, all] = [24, '']
      while (at < bytes.length) {
        const length = bytes.readUInt32LE(at + 8)
        all += bytes.subarray(at + 16, at + 16 + length).toString('hex')
        at += 16 + length
      }
      return all
    }
    t.is(records(back), records(file).repeat(2))
  },
)
