// Promise: every engine does to packets what dpdk-testpmd's mode of that name does. The same capture goes from DPDK through the engine and
// back, once with the engine of dpdk-testpmd and once with ours: what comes back is the same, byte for byte.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { needs, scratch, Testpmd, type TestpmdOptions } from '../rig/index.ts'
import { pcap, readCapture } from '../interop/captures.ts'
import { PACKETS } from './packets.ts'

const BOTH = needs(test, 'dpdk')
const programs = { dpdk: Testpmd.dpdk.bind(Testpmd), vring: Testpmd.vring.bind(Testpmd) }

interface Through {
  readonly forward: NonNullable<TestpmdOptions['forward']>
  readonly args?: readonly string[]
  /** What is typed before `start`. */
  readonly commands?: readonly string[]
}

/** What comes back of `packets` from the engine of a program. */
async function returned(
  program: keyof typeof programs,
  { forward, args = [], commands = [] }: Through,
  packets: readonly Buffer[],
): Promise<readonly Buffer[]> {
  using folder = scratch()
  const [socket, input, output] = [folder.path('s0'), folder.path('in.pcap'), folder.path('out.pcap')]
  writeFileSync(input, pcap(packets))
  const engine = await programs[program]({ vdevs: [`net_vhost0,iface=${socket}`], forward, args })
  await using _engine = engine
  const vdevs = [`net_pcap0,rx_pcap=${input},tx_pcap=${output}`, `net_virtio_user0,path=${socket}`]
  await using sender = await Testpmd.dpdk({ vdevs, args: ['--no-flush-rx'] })
  await engine.waitForLink()
  for (const command of commands) await engine.command(command)
  await engine.command('start')
  await sender.command('start')
  await engine.waitForStats('all came', ({ rxPackets }) => rxPackets >= packets.length)
  await sender.waitForQuiet()
  await sender.stop()
  expectAll(await engine.stop(), packets.length)
  await sender.quit()
  await engine.quit()
  return readCapture(output)
}

/** What was received was sent, or was not meant to be. */
function expectAll(report: Awaited<ReturnType<Testpmd['stop']>>, sent: number): void {
  const { rxPackets, txDropped } = report.total
  if (rxPackets !== sent || txDropped !== 0)
    throw new Error(`${rxPackets} of ${sent} packets came, ${txDropped} were dropped`)
}

const hex = (packets: readonly Buffer[]): readonly string[] => packets.map((packet) => packet.toString('hex'))

async function same(t: ExecutionContext, through: Through, packets = PACKETS): Promise<readonly Buffer[]> {
  const theirs = await returned('dpdk', through, packets)
  const ours = await returned('vring', through, packets)
  t.true(theirs.length > 0)
  t.deepEqual(hex(ours), hex(theirs))
  return ours
}

for (const forward of ['io', 'mac', 'macswap', '5tswap', 'noisy', 'icmpecho'] as const)
  BOTH(`${forward}: what comes back is what comes back from DPDK's`, async (t) => {
    await same(t, { forward })
  })

/** What tcpdump says of the checksums of packets: `incorrect`, `bad cksum`. */
function complaints(packets: readonly Buffer[]): readonly string[] {
  using folder = scratch()
  const file = folder.path('check.pcap')
  writeFileSync(file, pcap(packets))
  const text = execFileSync('tcpdump', ['-vvnr', file], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return text.split('\n').filter((line) => /incorrect|bad cksum|bad udp cksum/.test(line))
}

needs(
  test,
  'dpdk',
  'tcpdump',
)('csum: as DPDK, with every checksum right by tcpdump; peers as set', async (t) => {
  const sound = PACKETS.filter((packet) => packet.readUInt16BE(12) !== 0x8100)
  t.true(complaints(PACKETS).length > 0)
  const commands = ['set eth-peer 0 02:00:00:00:00:77']
  const back = await same(t, { forward: 'csum', commands }, sound)
  t.deepEqual(complaints(back), [])
  t.true(back.every((packet) => packet.subarray(0, 6).toString('hex') === '020000000077'))
  t.deepEqual(complaints(await returned('vring', { forward: '5tswap' }, back)), [])
})

/** The different packets that a generator sends to a DPDK that captures. */
async function generated(program: keyof typeof programs, through: Through): Promise<ReadonlySet<string>> {
  using folder = scratch()
  const [socket, output] = [folder.path('s0'), folder.path('out.pcap')]
  const { forward, args = [] } = through
  await using engine = await programs[program]({ vdevs: [`net_vhost0,iface=${socket}`], forward, args })
  const vdevs = [`net_pcap0,tx_pcap=${output}`, `net_virtio_user0,path=${socket}`]
  await using receiver = await Testpmd.dpdk({ vdevs })
  await engine.waitForLink()
  await receiver.command('start')
  await engine.command('start')
  await receiver.waitForStats('packets came', ({ rxPackets }) => rxPackets > 4000, { port: 1 })
  await engine.stop()
  await receiver.stop()
  await receiver.quit()
  // What follows the headers is what the buffer held before.
  return new Set(readCapture(output).map((packet) => packet.subarray(0, 42).toString('hex')))
}

for (const through of [
  { forward: 'txonly', args: ['--tx-ip=10.1.0.1,10.2.0.2', '--tx-udp=7,8', '--txpkts=100'] },
  { forward: 'flowgen', args: ['--flowgen-flows=17'] },
  { forward: 'flowgen', args: ['--flowgen-flows=16', '--flowgen-clones=3'] },
] as const)
  BOTH(`${through.forward} ${through.args.join(' ')}: the packets of DPDK's`, async (t) => {
    const theirs = await generated('dpdk', through)
    const ours = await generated('vring', through)
    t.deepEqual([...ours].toSorted(), [...theirs].toSorted())
  })
