// Promise: a session with `vring testpmd` reads like the same session with dpdk-testpmd. What only one of the two says
// (EAL's start, the vhost library's log) is left out, and numbers count as numbers of that width.
import test from 'ava'
import { needs, scratch, Testpmd, type TestpmdOptions } from '../rig/index.ts'

/** Lines that one program prints and the other has no reason to. */
const OWN = [
  /^(EAL|VHOST_CONFIG|testpmd|TELEMETRY|vdev_probe\(\)|virtio_user_\w+\(\)): .*\n/gm,
  /^Warning: NUMA should be configured manually .*\n/gm,
  /^Error during enabling promiscuous mode .*\n/gm,
  /^\nPrimary: Sending 'stop_req' request to secondary\.\.\.\n/gm,
  // The vhost library reports each queue that a peer enables; a port here reports its link.
  /^\nPort \d+: queue state event\n/gm,
]

/** A number with the blanks around it is its width; at the end of a line where nothing is padded, just a number. */
function widths(line: string): string {
  const padded = /[RT]x-[pb]ps/.test(line)
  return line.replace(/ *\b\d+(?![\w:.-]) */g, (match, at: number) => {
    const bare = !padded && at + match.length === line.length && !match.endsWith(' ')
    return bare ? '<n>' : `<${match.length}>`
  })
}

function comparable(transcript: string): string {
  const begun = transcript.slice(transcript.indexOf('Interactive-mode selected'))
  const shared = OWN.reduce((text, pattern) => text.replaceAll(pattern, ''), begun)
  return (
    shared
      // What is typed while a program takes the echo over from the terminal may be shown by both.
      .replaceAll(/^testpmd> (.+)\n\1\n/gm, 'testpmd> $1\n')
      .replaceAll(/\b[0-9A-F]{2}(:[0-9A-F]{2}){5}\b/g, 'MAC')
      // Limits are each program's own.
      .replaceAll(/^(Max possible [RT]X queues|Maximum number of MAC addresses): \d+/gm, '$1: N')
      .split('\n')
      .map((line) => (/[RT]x-[pb]ps|[RT]X-(packets|bytes|nombuf|errors)/.test(line) ? widths(line) : line))
      .join('\n')
  )
}

/** A command, or something to wait for, whose looks at the counters are left out of the comparison. */
type Step = string | ((testpmd: Testpmd) => Promise<unknown>)

const LOOKS = /^testpmd> show port stats 0\n[^]*?(?=^testpmd> )/gm

async function transcriptOf(program: Promise<Testpmd>, steps: readonly Step[]): Promise<string> {
  await using testpmd = await program
  for (const step of steps) await (typeof step === 'string' ? testpmd.command(step) : step(testpmd))
  const code = await testpmd.quit()
  const text = comparable(testpmd.terminal.transcript)
  const waits = steps.some((step) => typeof step !== 'string')
  return `${waits ? text.replaceAll(LOOKS, '') : text}\nexit status ${code}\n`
}

const BOTH = needs(test, 'dpdk')

async function same(
  t: Parameters<Parameters<typeof BOTH>[1]>[0],
  options: TestpmdOptions,
  steps: readonly Step[],
) {
  const theirs = await transcriptOf(Testpmd.dpdk({ ...options, memory: 1024 }), steps)
  const ours = await transcriptOf(Testpmd.vring({ ...options, memory: 1024 }), steps)
  t.is(ours, theirs)
}

const WRONG = [
  'foo',
  'start foo',
  'set fwd nothing',
  'show port stats',
  'show port stats 7',
  'stop',
  'QUIT',
  '# comment',
  '',
]

BOTH('a vhost port without a peer: the same words for every command', async (t) => {
  using folder = scratch()
  const commands = ['show port stats all', 'show port info all', 'show port summary all', 'show config fwd']
  commands.push('show config rxtx', 'show config cores', 'start', 'start', 'show port stats 0', 'stop')
  commands.push(
    'set fwd txonly',
    'set txpkts 100,60',
    'show config txpkts',
    'start',
    'stop',
    'set fwd rxonly',
    'start',
    'stop',
  )
  commands.push(
    'set fwd macswap',
    'set burst 16',
    'set burst 513',
    'set nbcore 1',
    'set nbcore 9',
    'start tx_first 3',
    'stop',
  )
  await same(t, { vdevs: [`net_vhost0,iface=${folder.path('s0')}`] }, [
    ...commands,
    'clear port stats all',
    'clear port stats 0',
    ...WRONG,
  ])
})

BOTH('two rings and packets that go round: the same layout of counts', async (t) => {
  const commands = [
    'show port info 1',
    'start tx_first 2',
    'show port stats all',
    'stop',
    'show port stats all',
    'clear port stats all',
  ]
  await same(t, { vdevs: ['net_ring0', 'net_ring1'] }, commands)
})

BOTH('several queues and cores, chained: the same streams', async (t) => {
  const vdevs = ['net_null0', 'net_null1', 'net_null2']
  const queues = { rxq: 2, txq: 2, rxd: 256, txd: 1024 }
  const options = { vdevs, ...queues, cpus: [0, 0], topology: 'chained', burst: 64 } as const
  // One lcore serves all streams in turn: when much was sent on one port, each of them has moved something.
  const busy = (testpmd: Testpmd) =>
    testpmd.waitForStats('all streams move', (stats) => stats.txPackets > 10_000)
  const forward: readonly Step[] = ['set nbcore 1', 'start', busy, 'stop']
  await same(t, options, ['show config fwd', 'show config cores', ...forward, 'show config fwd'])
})
