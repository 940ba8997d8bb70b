/** What the two loops of an interface counted. */
import type { Drops, PortStats } from '../stats.ts'

/** One direction. All that was received was sent, or is among the drops `not_taken` and `tx_…` but for `tx_unconfirmed`. */
export interface KniFlow {
  /** Packets that the loop received. */
  readonly received: number
  /** Bytes of those. */
  readonly receivedBytes: number
  /** Packets that the other side accepted. */
  readonly sent: number
  /** Bytes of those. */
  readonly sentBytes: number
  /** Packets dropped on the whole way, by name; only names that happened. docs/kni.md explains those that no port has. */
  readonly drops: Drops
}

/** What the interface's loops counted since the last reset: a snapshot. */
export interface KniStats {
  /** From the port to the interface. */
  readonly ingress: KniFlow
  /** From the interface to the port. */
  readonly egress: KniFlow
}

/** Drops that no port counts. Never back to zero. */
export interface Counts {
  /** What a loop received and the other side did not take. */
  readonly ingress: number
  readonly egress: number
  /** The kernel's own counters of the interface. */
  readonly kernelRx: number
  readonly kernelTx: number
  /** And of the macvtap on top. */
  readonly vmmRx: number
}

/** What was counted between two looks. */
export const since = (before: Counts, now: Counts): Counts => ({
  ingress: now.ingress - before.ingress,
  egress: now.egress - before.egress,
  kernelRx: now.kernelRx - before.kernelRx,
  kernelTx: now.kernelTx - before.kernelTx,
  vmmRx: now.vmmRx - before.vmmRx,
})

const named = (drops: Drops, prefix: string): [string, number][] =>
  Object.entries(drops).filter(([name]) => name.startsWith(prefix))

function flow(from: PortStats, to: PortStats, more: Drops): KniFlow {
  const happened = Object.entries(more).filter(([, count]) => count > 0)
  return {
    received: from.rxPackets,
    receivedBytes: from.rxBytes,
    sent: to.txPackets,
    sentBytes: to.txBytes,
    drops: Object.fromEntries([...named(from.drops, 'rx_'), ...named(to.drops, 'tx_'), ...happened]),
  }
}

/** Puts the numbers of all that a packet passes together. */
export function kniStats(port: PortStats, user: PortStats, counts: Counts): KniStats {
  const { ingress, egress, kernelRx, kernelTx, vmmRx } = counts
  return {
    ingress: flow(port, user, { not_taken: ingress, kernel_rx_dropped: kernelRx, vmm_rx_dropped: vmmRx }),
    egress: flow(user, port, { not_taken: egress, kernel_tx_dropped: kernelTx }),
  }
}

/** All packets that a direction lost. */
export const lost = ({ drops }: KniFlow): number =>
  Object.values(drops).reduce((total, count) => total + count, 0)
