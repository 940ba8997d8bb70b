/** Statistics of ports and queues. */
import type { QueueCounters } from '../index.js'

/** Drops by name; only those that happened. */
export type Drops = Readonly<Record<string, number>>

/** What a queue counted since the last reset. */
export interface QueueStats {
  /** Packets. */
  readonly packets: number
  /** Bytes, without virtio-net headers. */
  readonly bytes: number
  /** Times that no buffer was free for a waiting packet, which stayed with the peer. */
  readonly nombuf: number
  /** Notifications sent to the peer. */
  readonly notifications: number
  /** Drops by name. */
  readonly drops: Drops
}

/** What a port counted since the last reset: a snapshot, which does not change any more. */
export interface PortStats {
  readonly rxPackets: number
  readonly rxBytes: number
  /** Always 0: what has no room waits with the peer. There for testpmd's table. */
  readonly rxMissed: number
  /** Packets that came and could not be received: the drops `rx_…`, but for `rx_unhandled`. */
  readonly rxErrors: number
  /** Times that no buffer was free for a waiting packet. */
  readonly rxNombuf: number
  readonly txPackets: number
  readonly txBytes: number
  /** Packets that were accepted and did not go out: the drops `tx_…`. */
  readonly txErrors: number
  /** Every drop of the port under its name. */
  readonly drops: Drops
  /** Each receive queue. */
  readonly rx: readonly QueueStats[]
  /** Each transmit queue. */
  readonly tx: readonly QueueStats[]
}

const queueStats = ({ drops, ...counters }: QueueCounters): QueueStats => ({
  ...counters,
  drops: Object.fromEntries(drops),
})

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)

function addDrops(queues: readonly QueueStats[]): Drops {
  const total: Record<string, number> = {}
  for (const { drops } of queues) {
    for (const [name, count] of Object.entries(drops)) total[name] = (total[name] ?? 0) + count
  }
  return total
}

/** Drops that are the script's doing, not the peer's or the link's. */
const OWN_DROPS: ReadonlySet<string> = new Set(['rx_unhandled'])

/** Adds the queues of a port up. */
export function portStats(
  rxCounters: readonly QueueCounters[],
  txCounters: readonly QueueCounters[],
): PortStats {
  const [rx, tx] = [rxCounters.map(queueStats), txCounters.map(queueStats)]
  const errors = (queues: readonly QueueStats[]): number =>
    sum(Object.entries(addDrops(queues)).map(([name, count]) => (OWN_DROPS.has(name) ? 0 : count)))
  return {
    rxPackets: sum(rx.map((queue) => queue.packets)),
    rxBytes: sum(rx.map((queue) => queue.bytes)),
    rxMissed: 0,
    rxErrors: errors(rx),
    rxNombuf: sum(rx.map((queue) => queue.nombuf)),
    txPackets: sum(tx.map((queue) => queue.packets)),
    txBytes: sum(tx.map((queue) => queue.bytes)),
    txErrors: errors(tx),
    drops: addDrops([...rx, ...tx]),
    rx,
    tx,
  }
}
