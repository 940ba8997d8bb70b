/** Extended statistics: a port's counters under the names that DPDK has for them. */
import { native } from './binding.ts'
import { errorsAmong, type PortStats, type QueueStats } from './stats.ts'

type Entry = readonly [name: string, value: number]

/** What the counters are of. */
export interface XstatsPort {
  /** `net_virtio_user` has other names than the drivers for which ethdev fills in the queues' statistics. */
  readonly driver: string
  /** Packets are counted by size and by kind of address. */
  readonly byKind: boolean
}

let dropNames: readonly string[] | undefined

/** The drops that a queue of a direction can have, without the direction. */
function dropsOf(direction: 'rx' | 'tx'): readonly string[] {
  dropNames ??= native.dropNames()
  return dropNames
    .filter((name) => name.startsWith(`${direction}_`))
    .map((name) => name.slice(direction.length + 1))
}

/** The names as DPDK orders them: addresses before sizes. */
const KIND_ORDER = ['multicast', 'broadcast', 'undersize']

function kindEntries(prefix: string, kinds: Readonly<Record<string, number>>): readonly Entry[] {
  const sizes = Object.keys(kinds).filter((name) => !KIND_ORDER.includes(name))
  return [...KIND_ORDER, ...sizes].map((name) => [`${prefix}_${name}_packets`, kinds[name] ?? 0])
}

function basicQueue(direction: 'rx' | 'tx', queue: QueueStats, index: number): readonly Entry[] {
  const prefix = `${direction}_q${index}`
  const errors: readonly Entry[] = direction === 'rx' ? [[`${prefix}_errors`, errorsAmong([queue])]] : []
  return [[`${prefix}_packets`, queue.packets], [`${prefix}_bytes`, queue.bytes], ...errors]
}

function driverQueue(
  { driver, byKind }: XstatsPort,
  direction: 'rx' | 'tx',
  queue: QueueStats,
  index: number,
): readonly Entry[] {
  const prefix = `${direction}_q${index}`
  const virtio = driver === 'net_virtio_user'
  // The other drivers have these of ethdev, among the basic ones.
  const errors: readonly Entry[] =
    virtio && direction === 'rx' ? [[`${prefix}_errors`, errorsAmong([queue])]] : []
  const notified = virtio ? 'notifications' : 'guest_notifications'
  return [
    [`${prefix}_good_packets`, queue.packets],
    [`${prefix}_good_bytes`, queue.bytes],
    ...errors,
    ...(byKind ? kindEntries(prefix, queue.kinds) : []),
    [`${prefix}_${notified}`, queue.notifications],
    ...(driver === 'net_vhost' ? [[`${prefix}_iotlb_misses`, queue.iotlbMisses] as const] : []),
    ...dropsOf(direction).map((name): Entry => [
      `${prefix}_${name}_packets`,
      queue.drops[`${direction}_${name}`] ?? 0,
    ]),
  ]
}

/**
 * A port's counters by DPDK's names, in DPDK's order: the port's own, then each queue's. Names that DPDK has not are those of the drops,
 * `rx_q0_runt_packets` for the drop `rx_runt` of queue 0. Which names there are depends on the port only, not on what has happened.
 */
export function xstatsOf(port: XstatsPort, stats: PortStats): ReadonlyMap<string, number> {
  const entries: Entry[] = [
    ['rx_good_packets', stats.rxPackets],
    ['tx_good_packets', stats.txPackets],
    ['rx_good_bytes', stats.rxBytes],
    ['tx_good_bytes', stats.txBytes],
    ['rx_missed_errors', stats.rxMissed],
    ['rx_errors', stats.rxErrors],
    ['tx_errors', stats.txErrors],
    ['rx_mbuf_allocation_errors', stats.rxNombuf],
  ]
  if (port.driver !== 'net_virtio_user') {
    for (const [i, queue] of stats.rx.entries()) entries.push(...basicQueue('rx', queue, i))
    for (const [i, queue] of stats.tx.entries()) entries.push(...basicQueue('tx', queue, i))
  }
  for (const [i, queue] of stats.rx.entries()) entries.push(...driverQueue(port, 'rx', queue, i))
  for (const [i, queue] of stats.tx.entries()) entries.push(...driverQueue(port, 'tx', queue, i))
  return new Map(entries)
}
