/** `--bitrate-stats`: bits a second of every port, looked at once a second, as DPDK's librte_bitratestats does. */
import { performance } from 'node:perf_hooks'
import type { Port } from '../index.ts'

const MILLISECONDS = 1000
/** How much of a smoothed rate is new with each look. */
const WEIGHT = 0.2

/** Bits a second of one direction. */
export interface Bitrate {
  /** Mean since it is looked at. */
  readonly mean: number
  /** Highest of all looks. */
  readonly peak: number
  /** Smoothed, so that what was long ago counts less. */
  readonly ewma: number
}

const NOTHING: Bitrate = { mean: 0, peak: 0, ewma: 0 }

interface Known {
  bytes: readonly [rx: number, tx: number]
  at: number
  looks: number
  rx: Bitrate
  tx: Bitrate
}

function next(before: Bitrate, rate: number, looks: number): Bitrate {
  const mean = before.mean + (rate - before.mean) / looks
  const ewma = looks === 1 ? rate : before.ewma + (rate - before.ewma) * WEIGHT
  return { mean, peak: Math.max(before.peak, rate), ewma }
}

/** See the file's first line. It looks until it is closed. */
export class BitrateStats {
  private readonly known = new Map<number, Known>()
  private readonly timer: NodeJS.Timeout

  constructor(ports: () => readonly Port[]) {
    const look = (): void => ports().forEach((port) => this.look(port))
    look()
    this.timer = setInterval(look, MILLISECONDS).unref()
  }

  private look(port: Port): void {
    const { rxBytes, txBytes } = port.stats()
    const now = performance.now()
    const then = this.known.get(port.id)
    if (then === undefined) {
      this.known.set(port.id, { bytes: [rxBytes, txBytes], at: now, looks: 0, rx: NOTHING, tx: NOTHING })
      return
    }
    // A counter that was cleared in between counts from zero.
    const rate = (bytes: number, before: number): number =>
      ((bytes < before ? bytes : bytes - before) * 8000) / (now - then.at)
    then.looks++
    then.rx = next(then.rx, rate(rxBytes, then.bytes[0]), then.looks)
    then.tx = next(then.tx, rate(txBytes, then.bytes[1]), then.looks)
    then.bytes = [rxBytes, txBytes]
    then.at = now
  }

  of(port: Port): { readonly rx: Bitrate; readonly tx: Bitrate } {
    return this.known.get(port.id) ?? { rx: NOTHING, tx: NOTHING }
  }

  close(): void {
    clearInterval(this.timer)
  }
}
