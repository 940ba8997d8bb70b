/** What a run of forwarding counted, by stream and by port. */
import type { BurstCount, PortStats } from '../index.ts'
import type { Mode } from './modes.ts'
import type { Moved } from './script/runner.ts'
import type { StreamPlan } from './topology.ts'

/** Bursts by their number of packets, of both directions. */
export interface Bursts {
  readonly rx: readonly BurstCount[]
  readonly tx: readonly BurstCount[]
}

/** What one stream moved since forwarding started, or since that was cleared. */
export interface StreamCount {
  readonly plan: StreamPlan
  readonly rx: number
  readonly tx: number
  readonly dropped: number
  readonly badIp: number
  readonly badL4: number
  readonly cycles: number
  readonly bursts?: Bursts | undefined
}

/** What one port counted since then. `txDropped` is what its transmit queues did not take. */
export interface ForwardCount {
  readonly rxPackets: number
  readonly rxMissed: number
  readonly rxErrors: number
  readonly rxNombuf: number
  readonly txPackets: number
  readonly txDropped: number
  readonly badIp: number
  readonly badL4: number
}

/** See the file's first line. */
export interface ForwardReport {
  readonly mode: Mode
  readonly streams: readonly StreamCount[]
  /** By the number of the port. */
  readonly ports: ReadonlyMap<number, ForwardCount>
  /** Where cycles are recorded: how many there are in a second. */
  readonly cycles?: { readonly perSecond: number } | undefined
}

function grown(now: readonly BurstCount[], then: readonly BurstCount[]): readonly BurstCount[] {
  const before = new Map(then.map(({ packets, bursts }) => [packets, bursts]))
  return now
    .map(({ packets, bursts }) => ({ packets, bursts: bursts - (before.get(packets) ?? 0) }))
    .filter(({ bursts }) => bursts > 0)
}

/** A stream's counts, less those from before; `first` is what was sent ahead of a script. */
export function streamCount(
  plan: StreamPlan,
  now: Partial<Moved> = {},
  then: Partial<Moved> = {},
  first: { readonly tx: number; readonly dropped: number },
): StreamCount {
  const since = (name: 'rx' | 'tx' | 'dropped' | 'badIp' | 'badL4' | 'cycles'): number =>
    (now[name] ?? 0) - (then[name] ?? 0)
  const { bursts } = now
  const before = then.bursts ?? { rx: [], tx: [] }
  return {
    plan,
    rx: since('rx'),
    tx: since('tx') + first.tx,
    dropped: since('dropped') + first.dropped,
    badIp: since('badIp'),
    badL4: since('badL4'),
    cycles: since('cycles'),
    bursts:
      bursts === undefined ? undefined : { rx: grown(bursts.rx, before.rx), tx: grown(bursts.tx, before.tx) },
  }
}

/** A port's counts since `then`, with what its streams counted. */
export function forwardCount(
  now: PortStats,
  then: PortStats,
  streams: readonly StreamCount[],
  id: number,
): ForwardCount {
  const sum = (side: 'rxPort' | 'txPort', name: 'dropped' | 'badIp' | 'badL4'): number =>
    streams.filter(({ plan }) => plan[side] === id).reduce((all, stream) => all + stream[name], 0)
  return {
    rxPackets: now.rxPackets - then.rxPackets,
    rxMissed: now.rxMissed - then.rxMissed,
    rxErrors: now.rxErrors - then.rxErrors,
    rxNombuf: now.rxNombuf - then.rxNombuf,
    txPackets: now.txPackets - then.txPackets,
    txDropped: sum('txPort', 'dropped'),
    badIp: sum('rxPort', 'badIp'),
    badL4: sum('rxPort', 'badL4'),
  }
}
