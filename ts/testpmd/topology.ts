/** Which receive queue feeds which transmit queue, and which lcore moves it. */

/** How ports are paired: `--port-topology`. */
export type Topology = 'paired' | 'chained' | 'loop'

export const TOPOLOGIES: readonly Topology[] = ['paired', 'chained', 'loop']

/** One receive queue, of the port of that number, and the transmit queue that its packets go to. */
export interface StreamPlan {
  readonly rxPort: number
  readonly rxQueue: number
  readonly txPort: number
  readonly txQueue: number
}

/** The streams of one forwarding lcore. */
export interface CorePlan {
  readonly lcore: number
  readonly streams: readonly StreamPlan[]
}

/** The position of the port that the packets of port `i` go to, of `ports` ports. */
export function peerOf(i: number, ports: number, topology: Topology): number {
  if (topology === 'loop') return i
  if (topology === 'chained') return (i + 1) % ports
  if (i % 2 === 1) return i - 1
  return i + 1 < ports ? i + 1 : i
}

/** All streams of ports, by their numbers, with `queues` queues each: every port's first queue, then every port's second, … */
export function planStreams(
  ports: readonly number[],
  queues: number,
  topology: Topology,
): readonly StreamPlan[] {
  const streams: StreamPlan[] = []
  for (let queue = 0; queue < queues; queue++) {
    for (const [i, rxPort] of ports.entries()) {
      const txPort = ports[peerOf(i, ports.length, topology)]!
      streams.push({ rxPort, rxQueue: queue, txPort, txQueue: queue })
    }
  }
  return streams
}

/**
 * Deals `streams` out to the first `cores` of `lcores`, in order and evenly; where it does not divide, the last lcores
 * have one more. An lcore without a stream is not used.
 */
export function planCores(
  streams: readonly StreamPlan[],
  lcores: readonly number[],
  cores: number,
): readonly CorePlan[] {
  const used = Math.min(cores, lcores.length, streams.length)
  if (used === 0) return []
  const each = Math.floor(streams.length / used)
  const extra = streams.length % used
  const plans: CorePlan[] = []
  let at = 0
  for (let i = 0; i < used; i++) {
    const count = i < used - extra ? each : each + 1
    plans.push({ lcore: lcores[i]!, streams: streams.slice(at, at + count) })
    at += count
  }
  return plans
}
