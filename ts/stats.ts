/** Statistics of ports and queues. */
import type { QueueCounters } from '../index.js'
import { native } from './binding.ts'

/** Packets dropped, by name; only names that happened. The names are explained in docs/ports.md. */
export type Drops = Readonly<Record<string, number>>

/** What a queue counted since the last reset. */
export interface QueueStats {
  /** Packets received, or sent: what was dropped at once, such as `rx_runt` or `tx_too_big`, is not among them. */
  readonly packets: number
  /** Bytes of those packets, without virtio-net headers and without the Ethernet checksum. */
  readonly bytes: number
  /** Times that no buffer of the mempool was free for a waiting packet, which stayed with the peer. Always 0 for a transmit queue. */
  readonly nombuf: number
  /** Notifications sent to the peer: each is a system call. */
  readonly notifications: number
  /** Notifications that came from the peer. Who polls asks for none, and gets few: 0 from a peer that has no eventfd, such as a tap. */
  readonly notified: number
  /** Pages of a guest behind an IOMMU whose translation had to be asked for: what waits for it stays in the ring. */
  readonly iotlbMisses: number
  /** Packets dropped, by name. */
  readonly drops: Drops
  /**
   * Packets received, or taken to be sent, by size (`undersize`, `size_64` to `size_1519_max`) and by where they go (`multicast`, `broadcast`):
   * counted while {@link Port.countKinds} asks for it.
   */
  readonly kinds: Readonly<Record<string, number>>
}

/** What a port counted since the last reset: a snapshot, which does not change any more. */
export interface PortStats {
  /** Packets received, on all queues. */
  readonly rxPackets: number
  /** Bytes of the packets received. */
  readonly rxBytes: number
  /**
   * Packets lost since nobody polled in time: the drop `rx_missed`. Only `net_af_packet` can lose one that way; elsewhere a packet that has no
   * room waits with its sender.
   */
  readonly rxMissed: number
  /** Packets that came and could not be received: the drops `rx_…`, but for `rx_missed`, `rx_unhandled` and `rx_filtered`. */
  readonly rxErrors: number
  /** Times that no buffer of the mempool was free for a waiting packet: a number of moments, not of packets. */
  readonly rxNombuf: number
  /** Packets sent, on all queues: accepted, and not dropped at once. */
  readonly txPackets: number
  /** Bytes of the packets sent. */
  readonly txBytes: number
  /**
   * Packets that were taken from a burst and did not go out: the drops `tx_…`, but for `tx_unconfirmed`. Those were sent, and counted as sent,
   * as far as this side can know.
   */
  readonly txErrors: number
  /** Packets dropped on any queue of the port, by name. */
  readonly drops: Drops
  /** Each receive queue, by its index. */
  readonly rx: readonly QueueStats[]
  /** Each transmit queue, by its index. */
  readonly tx: readonly QueueStats[]
}

let kindNames: readonly string[] | undefined

function queueStats({ drops, kinds, ...counters }: QueueCounters): QueueStats {
  const names = (kindNames ??= native.packetKinds())
  return {
    ...counters,
    drops: Object.fromEntries(drops),
    kinds: Object.fromEntries(names.map((name, i) => [name, kinds[i] ?? 0])),
  }
}

/** Numbers added up. */
export const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)

function addDrops(queues: readonly QueueStats[]): Drops {
  const total: Record<string, number> = {}
  for (const { drops } of queues) {
    for (const [name, count] of Object.entries(drops)) total[name] = (total[name] ?? 0) + count
  }
  return total
}

/** Drops that are no errors, or are counted apart: of packets that were received, or sent, all the same, and of those that nobody wanted. */
const COUNTED: ReadonlySet<string> = new Set(['rx_missed', 'rx_unhandled', 'rx_filtered', 'tx_unconfirmed'])

/** Packets among the drops of some queues that are errors. */
export const errorsAmong = (queues: readonly QueueStats[]): number =>
  sum(Object.entries(addDrops(queues)).map(([name, count]) => (COUNTED.has(name) ? 0 : count)))

/** Adds the queues of a port up. */
export function portStats(
  rxCounters: readonly QueueCounters[],
  txCounters: readonly QueueCounters[],
): PortStats {
  const [rx, tx] = [rxCounters.map(queueStats), txCounters.map(queueStats)]
  return {
    rxPackets: sum(rx.map((queue) => queue.packets)),
    rxBytes: sum(rx.map((queue) => queue.bytes)),
    rxMissed: sum(rx.map(({ drops }) => drops.rx_missed ?? 0)),
    rxErrors: errorsAmong(rx),
    rxNombuf: sum(rx.map((queue) => queue.nombuf)),
    txPackets: sum(tx.map((queue) => queue.packets)),
    txBytes: sum(tx.map((queue) => queue.bytes)),
    txErrors: errorsAmong(tx),
    drops: addDrops([...rx, ...tx]),
    rx,
    tx,
  }
}
