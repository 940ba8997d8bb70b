/** What is measured, and shown by itself. */
import { UsageError } from '../getopt.ts'
import type { Reader } from './reader.ts'

export interface MeasureOptions {
  /** Seconds between statistics without a prompt; 0: none. */
  readonly statsPeriod: number
  /** Extended statistics that `show port stats` shows too. */
  readonly displayXstats: readonly string[]
  /** Where metrics are served for Prometheus. */
  readonly metrics: { readonly host: string; readonly port: number } | undefined
  /** Packets are counted by size and by kind of address. */
  readonly xstatsSizes: boolean
  readonly recordCycles: boolean
  readonly recordBursts: boolean
  /** How long packets are between the queues; the number of an lcore, which DPDK uses for that. */
  readonly latencyStats: number | undefined
  /** Bits a second of every port; likewise. */
  readonly bitrateStats: number | undefined
}

export const MEASURE_FLAGS = ['xstats-sizes', 'record-core-cycles', 'record-burst-stats']
export const MEASURE_VALUES = ['stats-period', 'display-xstats', 'metrics', 'latencystats', 'bitrate-stats']

function readDisplayXstats(text: string | undefined): readonly string[] {
  if (text === undefined) return []
  const names = text.split(',').filter((name) => name !== '')
  if (names.length === 0)
    throw new UsageError('display-xstats: expected names of counters, with commas between')
  return names
}

function readMetrics(text: string | undefined): MeasureOptions['metrics'] {
  if (text === undefined) return undefined
  const [, bracketed, plain, digits] = /^(?:(?:\[([\da-f:.]+)\]|([^:[\]]*)):)?(\d+)$/i.exec(text) ?? []
  const port = Number(digits)
  if (digits !== undefined && port <= 65535) return { host: bracketed ?? (plain || '127.0.0.1'), port }
  throw new UsageError(`metrics ${text} invalid - must be PORT or ADDRESS:PORT, as 127.0.0.1:9400`)
}

/** Whether the counter is one of those that cost a look at each packet. */
const isKind = (name: string): boolean => /_(size_\w+|undersize|multicast|broadcast)_packets$/.test(name)

/** Reads them. `lcores` are the numbers that an lcore can have. */
export function readMeasure(reader: Reader, lcores: readonly number[]): MeasureOptions {
  const displayXstats = readDisplayXstats(reader.last('display-xstats'))
  const lcore = (name: string, what: string): number | undefined => {
    const id = reader.number(
      name,
      0,
      127,
      undefined,
      (text) => `invalid lcore id ${text} for ${what} must be >= 0`,
    )
    if (id === undefined || lcores.includes(id)) return id
    throw new UsageError(`invalid lcore id ${id} for ${what}: the lcores are ${lcores.join(',')}`)
  }
  return {
    displayXstats,
    metrics: readMetrics(reader.last('metrics')),
    statsPeriod: reader.number(
      'stats-period',
      0,
      86400,
      0,
      (text) => `Invalid stats-period value: expected seconds (0..86400), '${text}' came`,
    ),
    xstatsSizes: reader.has('xstats-sizes') || displayXstats.some(isKind),
    recordCycles: reader.has('record-core-cycles'),
    recordBursts: reader.has('record-burst-stats'),
    latencyStats: lcore('latencystats', 'latencystats'),
    bitrateStats: lcore('bitrate-stats', 'bitrate stats'),
  }
}
