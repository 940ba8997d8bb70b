/** `show port stats`, and what `stop` prints. Every function gives the text with its newlines. */
import type { PortStats } from '../../index.ts'

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
