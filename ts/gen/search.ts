/** The highest rate at which no more than so much is lost (RFC 2544, section 26.1), and the latency at it (26.2). */
import type { Trial } from './trial.ts'

/** How a search goes. */
export interface SearchOptions {
  /** Packets a second to begin with: the most that is looked at. */
  readonly from: number
  /** Percent of the packets that may be lost. */
  readonly loss: number
  /** It ends when the answer is known to so many percent of it. */
  readonly resolution: number
}

/** A trial of a search. */
export interface Step {
  readonly pps: number
  readonly trial: Trial
  /** No more was lost than may be, nothing damaged, and the rate was reached. */
  readonly good: boolean
}

/** A sender that stays further below the rate asked for than this has not tried that rate. */
const REACHED = 0.99

/** Whether that rate was sent, and arrived. */
export function isGood(trial: Trial, pps: number, loss: number): boolean {
  const { received } = trial
  const packets = trial.sent.reduce((sum, one) => sum + one.packets, 0)
  if (received === undefined || packets === 0) return false
  const harmed = received.damaged + received.duplicated + received.stale
  return trial.pps >= pps * REACHED && harmed === 0 && (trial.lost / packets) * 100 <= loss
}

/**
 * Halves the range between the highest good rate and the lowest bad one, until they are close. Yields each trial; the last good one is the
 * answer. Of `from` itself is asked first: nothing above it is looked at.
 */
export async function* search(
  options: SearchOptions,
  attempt: (pps: number) => Promise<Trial>,
): AsyncGenerator<Step, Step | undefined> {
  let [low, high, pps] = [0, options.from, options.from]
  let best: Step | undefined
  for (;;) {
    const trial = await attempt(pps)
    const step = { pps, trial, good: isGood(trial, pps, options.loss) }
    yield step
    if (step.good) {
      best = step
      low = pps
    } else high = pps
    if (low === options.from || high - low <= (high * options.resolution) / 100 || high < 1) return best
    pps = (low + high) / 2
  }
}
