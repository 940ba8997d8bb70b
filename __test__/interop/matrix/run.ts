// One cell of the matrix, from the handshake to the last buffer: what it throws is what is wrong.
import assert from 'node:assert/strict'
import { Link, until } from '../link.ts'
import { type Cell, expected, linkOptions } from './cells.ts'
import { echo } from './content.ts'

/** Descriptors that go through each ring: 16-bit indexes come round twice. */
const WRAPS = 2 * 65_536 + 4096
const BURSTS = 2
const PACKETS_OF_A_BURST = 32
const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)

/** What went through a cell. */
export interface CellReport {
  readonly packets: number
  readonly bytes: number
  /** Packets a second and direction while they went round, in millions: for the curious, the machine was not quiet. */
  readonly mpps: number
}

function checkFeatures(link: Link, cell: Cell): void {
  const { has, lacks } = expected(cell)
  const { features } = link.port.info
  const missing = has.filter((name) => !features.includes(name))
  const surplus = lacks.filter((name) => features.includes(name))
  assert.deepEqual({ missing, surplus }, { missing: [], surplus: [] }, 'the features agreed on')
}

/** Packets of all sizes go to the peer and come back: counted, and the same. */
async function content({ port, dpdk }: Link): Promise<{ packets: number; bytes: number }> {
  await dpdk.command('clear port stats all')
  port.resetStats()
  await dpdk.command('start')
  const { packets, bytes, same } = await echo(port)
  await dpdk.stop()
  const both = { rxPackets: packets, rxBytes: bytes, txPackets: packets, txBytes: bytes }
  const ours = port.stats()
  assert.deepEqual(pick(await dpdk.portStats(), both), both, 'what the peer counted')
  assert.deepEqual(pick(ours, both), both, 'what we counted')
  assert.deepEqual(ours.drops, {}, 'what we dropped')
  assert.ok(!same.includes(false), `the digests of each queue agree: ${same.join(', ')}`)
  return { packets, bytes }
}

function pick(stats: object, like: Readonly<Record<string, number>>): Record<string, number> {
  const all = stats as Readonly<Record<string, number>>
  return Object.fromEntries(Object.keys(like).map((name) => [name, all[name] ?? -1]))
}

/** A window of packets circulates on every queue until all indexes came round twice. None is lost. */
async function circulate({ port, dpdk, receiver, both }: Link): Promise<{ packets: number; mpps: number }> {
  const window = BURSTS * PACKETS_OF_A_BURST * both.length
  receiver.start('io', both)
  await dpdk.command('set txpkts 64')
  await dpdk.command('clear port stats all')
  port.resetStats()
  const begin = performance.now()
  await dpdk.command(`start tx_first ${BURSTS}`)
  await until('every index came round twice', () => port.stats().rx.every(({ packets }) => packets >= WRAPS))
  const mpps = port.stats().rxPackets / (performance.now() - begin) / 1000
  await dpdk.stop()
  const theirs = await dpdk.portStats()
  await until('all of them back', () => port.stats().txPackets >= theirs.txPackets)
  const { streams } = await receiver.stop()
  const ours = port.stats()
  assert.equal(ours.rxPackets, theirs.txPackets, 'all that the peer sent')
  assert.equal(ours.txPackets, theirs.txPackets, 'all of it sent back')
  // The window is under way to the peer, which has stopped looking.
  assert.equal(ours.txPackets - theirs.rxPackets, window, 'the window')
  assert.equal(sum(streams.map(({ dropped }) => dropped)), 0, 'none dropped by our engine')
  assert.deepEqual(ours.drops, {}, 'what we dropped')
  const wrong = { rxErrors: 0, rxMissed: 0, txErrors: 0 }
  assert.deepEqual(pick(theirs, wrong), wrong, 'what the peer found wrong')
  return { packets: ours.rxPackets, mpps }
}

/** Runs one cell. */
export async function runCell(cell: Cell): Promise<CellReport> {
  await using link = await Link.up(linkOptions(cell))
  checkFeatures(link, cell)
  const whole = await content(link)
  const round = await circulate(link)
  assert.deepEqual(
    await link.end(),
    { missing: 0, code: 0 },
    'buffers that are missing, and the exit code of the peer',
  )
  return {
    packets: whole.packets + round.packets,
    bytes: whole.bytes + 64 * round.packets,
    mpps: round.mpps,
  }
}
