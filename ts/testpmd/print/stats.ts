/** `show port stats`, and what `stop` prints. Every function gives the text with its newlines. */
import type { PortStats } from '../../index.ts'
import type { StreamPlan } from '../topology.ts'

const HASHES = '#'.repeat(24)
const left = (value: number, width: number): string => String(value).padEnd(width)
const right = (value: number, width: number): string => String(value).padStart(width)

/** Packets and bits a second since the last show. */
export interface Rates {
  readonly rxPps: number
  readonly txPps: number
  readonly rxBps: number
  readonly txBps: number
}

/** The numbers that a rate is made of, and when they were read (nanoseconds of a monotonic clock). */
export interface Sample {
  readonly at: bigint
  readonly stats: Pick<PortStats, 'rxPackets' | 'txPackets' | 'rxBytes' | 'txBytes'>
}

/** How much a counter grows in a second, of which `seconds` have passed. Nothing before, or cleared in between: zero. */
export function rateOf(before: number | undefined, now: number, seconds: number, factor = 1): number {
  if (before === undefined || seconds <= 0 || now <= before) return 0
  return Math.floor(((now - before) * factor) / seconds)
}

/** The rates between two samples. Nothing before: zero; a counter that was cleared in between: zero. */
export function ratesBetween(before: Sample | undefined, now: Sample): Rates {
  const seconds = before === undefined ? 0 : Number(now.at - before.at) / 1e9
  const rate = (name: keyof Sample['stats'], factor: number): number =>
    rateOf(before?.stats[name], now.stats[name], seconds, factor)
  return {
    rxPps: rate('rxPackets', 1),
    txPps: rate('txPackets', 1),
    rxBps: rate('rxBytes', 8),
    txBps: rate('txBytes', 8),
  }
}

/** `show port stats N`: one port's block. */
export function nicStats(id: number, stats: PortStats, rates: Rates, chosen: readonly string[] = []): string {
  const { rxPackets, rxMissed, rxBytes, rxErrors, rxNombuf, txPackets, txErrors, txBytes } = stats
  return [
    '',
    `  ${HASHES} NIC statistics for port ${left(id, 2)} ${HASHES}`,
    `  RX-packets: ${left(rxPackets, 10)} RX-missed: ${left(rxMissed, 10)} RX-bytes:  ${rxBytes}`,
    `  RX-errors: ${rxErrors}`,
    `  RX-nombuf:  ${left(rxNombuf, 10)}`,
    `  TX-packets: ${left(txPackets, 10)} TX-errors: ${left(txErrors, 10)} TX-bytes:  ${txBytes}`,
    '',
    '  Throughput (since last show)',
    `  Rx-pps: ${right(rates.rxPps, 12)}          Rx-bps: ${right(rates.rxBps, 12)}`,
    `  Tx-pps: ${right(rates.txPps, 12)}          Tx-bps: ${right(rates.txBps, 12)}`,
    ...chosen,
    `  ${'#'.repeat(76)}`,
    '',
  ].join('\n')
}

/** What comes before the ports' blocks when statistics are shown every few seconds: the screen is cleared. */
export const STATS_PERIOD_HEADER = '\x1b[2J\x1b[1;1H\nPort statistics ===================================='

/** What one stream moved since forwarding started. */
export interface StreamCount {
  readonly plan: StreamPlan
  readonly rx: number
  readonly tx: number
  readonly dropped: number
}

/** What one port counted since forwarding started. `txDropped` is what its transmit queues did not take. */
export interface ForwardCount {
  readonly rxPackets: number
  readonly rxMissed: number
  readonly rxErrors: number
  readonly rxNombuf: number
  readonly txPackets: number
  readonly txDropped: number
}

const received = ({ rxPackets, rxMissed }: ForwardCount): string =>
  `  RX-packets: ${left(rxPackets, 14)} RX-dropped: ${left(rxMissed, 14)}RX-total: ${rxPackets + rxMissed}`

const sent = ({ txPackets, txDropped }: ForwardCount): string =>
  `  TX-packets: ${left(txPackets, 14)} TX-dropped: ${left(txDropped, 14)}TX-total: ${txPackets + txDropped}`

const withoutBuffer = ({ rxNombuf }: ForwardCount): string => `  RX-nombufs: ${left(rxNombuf, 14)}`

function portLines(count: ForwardCount): string[] {
  const errors = count.rxErrors + count.rxNombuf > 0
  return [
    received(count),
    ...(errors ? [`  RX-error: ${count.rxErrors}`, withoutBuffer(count)] : []),
    sent(count),
  ]
}

function totalLines(count: ForwardCount): string[] {
  return [received(count), sent(count), ...(count.rxNombuf > 0 ? [withoutBuffer(count)] : [])]
}

function streamBlock(count: StreamCount): string[] {
  const { plan, rx, tx, dropped } = count
  const from = `RX Port=${right(plan.rxPort, 2)}/Queue=${right(plan.rxQueue, 2)}`
  const to = `TX Port=${right(plan.txPort, 2)}/Queue=${right(plan.txQueue, 2)}`
  return [
    '',
    `  ------- Forward Stats for ${from} -> ${to} -------`,
    `  RX-packets: ${left(rx, 14)} TX-packets: ${left(tx, 14)} TX-dropped: ${left(dropped, 14)}`,
  ]
}

function total(counts: readonly ForwardCount[]): ForwardCount {
  const sum = (name: keyof ForwardCount): number => counts.reduce((all, count) => all + count[name], 0)
  return {
    rxPackets: sum('rxPackets'),
    rxMissed: sum('rxMissed'),
    rxErrors: sum('rxErrors'),
    rxNombuf: sum('rxNombuf'),
    txPackets: sum('txPackets'),
    txDropped: sum('txDropped'),
  }
}

/**
 * The statistics of a forwarding run: streams that moved something (only when there are more streams than ports), each
 * port by its id, and the sum.
 */
export function forwardStats(
  streams: readonly StreamCount[],
  ports: ReadonlyMap<number, ForwardCount>,
): string {
  const lines: string[] = []
  if (streams.length > ports.size) {
    for (const stream of streams)
      if (stream.rx + stream.tx + stream.dropped > 0) lines.push(...streamBlock(stream))
  }
  const dashes = '-'.repeat(22)
  for (const [id, count] of ports) {
    lines.push('', `  ${dashes} Forward statistics for port ${left(id, 2)} ${dashes}`)
    lines.push(...portLines(count), `  ${'-'.repeat(76)}`)
  }
  const pluses = '+'.repeat(15)
  lines.push('', `  ${pluses} Accumulated forward statistics for all ports${pluses}`)
  lines.push(...totalLines(total([...ports.values()])), `  ${'+'.repeat(76)}`, '')
  return lines.join('\n')
}
