/** What the generator prints. */
import { sum } from '../stats.ts'
import type { ReceivedTraffic } from '../traffic.ts'
import type { Progress, Trial } from './trial.ts'

const SCALES = [
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
] as const

/** A number with a unit, three or four digits: `1.488 Mpps`. */
export function scaled(value: number, unit: string): string {
  const [by, prefix] = SCALES.find(([scale]) => value >= scale) ?? [1, '']
  return `${(value / by).toFixed(value / by < 10 ? 3 : value / by < 100 ? 2 : 1)} ${prefix}${unit}`
}

/** Nanoseconds as a person reads them. */
function time(nanoseconds: number): string {
  if (nanoseconds >= 1e6) return `${(nanoseconds / 1e6).toFixed(2)} ms`
  return nanoseconds >= 1e3 ? `${(nanoseconds / 1e3).toFixed(1)} us` : `${nanoseconds.toFixed(0)} ns`
}

const whole = (n: number): string => Math.round(n).toLocaleString('en-US')
/** Names that are printed of each kind; `--json` has a thousand. */
const NAMED = 20

function named(list: readonly (readonly [number, number, number?])[]): string {
  const one = ([flow, first, last = first]: readonly [number, number, number?]): string =>
    `${flow}:${first}${last > first ? `-${last}` : ''}`
  const more = list.length > NAMED ? ` … ${list.length - NAMED} more with --json` : ''
  return `${list.slice(0, NAMED).map(one).join(' ')}${more}`
}

/** Everything that is wrong with what came; nothing when nothing is. */
export function troubles(trial: Trial): readonly string[] {
  const { received } = trial
  if (received === undefined) return []
  const kinds: readonly [string, number, string][] = [
    ['lost', trial.lost, named(received.missing)],
    ['duplicated', received.duplicated, named(received.duplicates)],
    ['reordered', received.reordered, named(received.late)],
    ['damaged', received.damaged, ''],
    ['stale', received.stale, ''],
  ]
  const some = kinds.filter(([, count]) => count > 0)
  return some.map(
    ([kind, count, names]) =>
      `  ${kind.padEnd(11)} ${whole(count)} packets${names === '' ? '' : ` (flow:packet) ${names}`}`,
  )
}

function latencyLine({ latency }: ReceivedTraffic): string {
  const { min, mean, max, jitter, p50, p90, p99, p999 } = latency
  const list = { min, mean, max, jitter, p50, p90, p99, 'p99.9': p999 }
  return Object.entries(list)
    .map(([name, value]) => `${name} ${time(value)}`)
    .join(', ')
}

/** The account of a trial. */
export function trialText(trial: Trial): string {
  const { sent, received } = trial
  const [packets, late] = [sum(sent.map((one) => one.packets)), sum(sent.map((one) => one.late))]
  const lines = [
    `sent         ${whole(packets)} packets, ${scaled(trial.pps, 'pps')}, ${scaled(trial.bps, 'bit/s')} on the wire`,
    ...(late > 0 ? [`             ${whole(late)} more were due, and could not be sent in time`] : []),
  ]
  if (received !== undefined) {
    const share = packets > 0 ? ((trial.lost / packets) * 100).toFixed(4) : '0'
    lines.push(
      `received     ${whole(packets - trial.lost)} packets, lost ${whole(trial.lost)} (${share} %), foreign ${whole(received.foreign)}`,
      ...troubles(trial),
      ...(received.unique > 0 ? [`latency      ${latencyLine(received)}`] : []),
    )
  }
  for (const [name, count] of Object.entries(trial.drops)) lines.push(`dropped      ${whole(count)} ${name}`)
  return `${lines.join('\n')}\n`
}

/** Prints rates once a second while it is there: in place on a terminal, a line each time elsewhere. */
export function liveRates(out: NodeJS.WriteStream, look: () => Progress): Disposable {
  const begin = performance.now()
  let [before, then] = [look(), begin]
  const timer = setInterval(() => {
    const [now, time] = [look(), performance.now()]
    const rate = (key: keyof Progress): string =>
      scaled(((now[key] - before[key]) * 1000) / (time - then), 'pps').padStart(12)
    const line = `${((time - begin) / 1000).toFixed(0).padStart(4)} s   sent ${rate('sent')}   received ${rate('received')}`
    out.write(out.isTTY ? `\r${line}\u001b[K` : `${line}\n`)
    ;[before, then] = [now, time]
  }, 1000)
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
      if (out.isTTY && performance.now() - begin > 1000) out.write('\r\u001b[K')
    },
  }
}
