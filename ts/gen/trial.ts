/** One run of the generator over open ports: send, wait for what is on its way, look at what came. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Lcore } from '../lcore.ts'
import type { Port } from '../port.ts'
import { type Drops, sum } from '../stats.ts'
import { type FrameOptions, Traffic, type TrafficOptions, type TrafficReport } from '../traffic.ts'

/** Milliseconds without a packet after which what is on its way is given up. */
const PATIENCE = 1000
const LOOK = 5

/** Where packets are sent, where they are looked for, and by which processors. */
export interface Rig {
  readonly senders: readonly Port[]
  readonly receivers: readonly Port[]
  /** None: one thread, where the scheduler likes. One: one thread does both. Two: one sends, one receives. */
  readonly cpus: readonly number[]
  readonly frame: FrameOptions
}

/** What a trial found. */
export interface Trial extends TrafficReport {
  /** Packets a second, from the first to the last, all senders together. */
  readonly pps: number
  /** Bits a second on the wire, likewise. */
  readonly bps: number
  /** What the ports say they dropped, by name. */
  readonly drops: Drops
}

/** How far a trial is. */
export interface Progress {
  readonly sent: number
  readonly received: number
}

function allPorts({ senders, receivers }: Rig): readonly Port[] {
  return [...new Set([...senders, ...receivers])]
}

function dropsOf(rig: Rig): Map<string, number> {
  const ports = allPorts(rig).flatMap((port) =>
    Object.entries(port.stats().drops).map(([name, n]): [string, number] => [`${port.name} ${name}`, n]),
  )
  return new Map(ports)
}

/** Starts all parts; senders and checker are two lcores if there are two processors. */
function launch(rig: Rig, traffic: Traffic): readonly Lcore[] {
  const sends = rig.senders.flatMap((port) =>
    port.txQueues.slice(0, 1).map((tx) => ({ tx, frame: rig.frame })),
  )
  const checks = rig.receivers.flatMap((port) => port.rxQueues.map((rx) => ({ rx })))
  const [first, second] = rig.cpus
  const lcore = (name: string, cpu?: number): Lcore =>
    new Lcore({ name, ...(cpu === undefined ? {} : { cpu }) })
  if (second === undefined) {
    const both = lcore('gen', first)
    both.startTraffic(traffic, [...sends, ...checks])
    return [both]
  }
  const [receiver, sender] = [lcore('gen-rx', second), lcore('gen-tx', first)]
  receiver.startTraffic(traffic, checks)
  sender.startTraffic(traffic, sends)
  return [sender, receiver]
}

function progress(lcores: readonly Lcore[]): Progress {
  const streams = lcores.flatMap((lcore) => lcore.stats().streams)
  return { sent: sum(streams.map(({ tx }) => tx)), received: sum(streams.map(({ rx }) => rx)) }
}

/** Waits for `condition`, as long as something moves or `busy` says that it will. */
async function settle(
  look: () => Progress,
  condition: (now: Progress) => boolean,
  busy: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  let [last, since] = [look(), performance.now()]
  while (!signal.aborted) {
    const now = look()
    if (condition(now)) return
    if (now.sent !== last.sent || now.received !== last.received || busy()) {
      ;[last, since] = [now, performance.now()]
    } else if (performance.now() - since > PATIENCE) return
    await sleep(LOOK)
  }
}

/** Sends as `options` say. When `signal` fires, sending ends early, and the report is of what was sent until then. */
export async function runTrial(
  rig: Rig,
  options: TrafficOptions,
  signal: AbortSignal,
  watch?: (look: () => Progress) => Disposable,
): Promise<Trial> {
  const before = dropsOf(rig)
  const traffic = new Traffic(options)
  const begin = performance.now()
  const lcores = launch(rig, traffic)
  const look = (): Progress => progress(lcores)
  {
    using _watching = watch?.(look)
    const all = (traffic.limit ?? Infinity) * rig.senders.length
    const ends = begin + (options.seconds ?? Infinity) * 1000
    // Without anyone to receive, nobody will take packets for ever: patience counts here too, but only once the time is over.
    const sending = (): boolean => performance.now() < ends && options.seconds !== undefined
    await settle(look, ({ sent }) => sent >= all || performance.now() >= ends, sending, signal)
    await settle(
      look,
      ({ sent, received }) => received >= sent,
      () => false,
      signal,
    )
  }
  await Promise.all(lcores.map((lcore) => lcore.close()))
  const report = traffic.report()
  const rate = (what: (sent: TrafficReport['sent'][number]) => number): number =>
    sum(report.sent.map((sent) => (sent.nanoseconds > 0 ? (what(sent) * 1e9) / sent.nanoseconds : 0)))
  const drops = [...dropsOf(rig)].map(([name, n]): [string, number] => [name, n - (before.get(name) ?? 0)])
  return {
    ...report,
    pps: rate(({ packets }) => packets - 1),
    bps: rate(({ packets, bytes }) => (bytes + packets * 24) * 8 * (1 - 1 / packets)),
    drops: Object.fromEntries(drops.filter(([, n]) => n > 0)),
  }
}
