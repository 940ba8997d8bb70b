/** Receiving as an asynchronous iteration: polls while busy, sleeps while idle. */
import { setImmediate as turn } from 'node:timers/promises'
import type { QueueHandle, Waiter } from '../index.js'
import type { Burst } from './burst.ts'
import { attempt, VringError } from './errors.ts'
import type { RxQueue } from './queue.ts'

/** How {@link RxQueue.bursts} receives. */
export interface BurstsOptions {
  /** Most packets of a burst, 1 to 512; default 32. */
  readonly size?: number
  /**
   * What to do when no packets come. `sleep` (default): wait for the peer's notification. `poll`: poll on, for the lowest latency;
   * it takes a whole processor.
   */
  readonly idle?: 'sleep' | 'poll'
  /** Empty polls before sleeping; default 256. */
  readonly spin?: number
  /** Ends the iteration, also while it sleeps. */
  readonly signal?: AbortSignal
}

/** After so many bursts or milliseconds the event loop gets a turn. */
const TURN_BURSTS = 64
const TURN_MILLISECONDS = 1

/** Sleeps on a queue. */
class Sleeper {
  readonly #handle: QueueHandle
  readonly #signal: AbortSignal | undefined
  #waiter: Waiter | undefined

  constructor(handle: QueueHandle, signal: AbortSignal | undefined) {
    this.#handle = handle
    this.#signal = signal
  }

  /** Resolves with true when it is worth to poll, or the signal fires; with false when nothing will ever come again. */
  async sleep(): Promise<boolean> {
    // Asked for notifications, the queue is looked at once more: what came in between would not be told.
    if (attempt(() => this.#handle.arm())) return true
    if (attempt(() => this.#handle.finished())) return false
    const waiter = (this.#waiter ??= attempt(() => this.#handle.waiter()))
    const signal = this.#signal
    let wake: (() => void) | undefined
    try {
      await new Promise<void>((resolve) => {
        wake = (): void => resolve()
        waiter.arm(wake)
        signal?.addEventListener('abort', wake)
        if (signal?.aborted === true) wake()
      })
    } finally {
      waiter.disarm()
      if (wake !== undefined) signal?.removeEventListener('abort', wake)
      if (!this.#handle.closed()) attempt(() => this.#handle.disarm())
    }
    return true
  }

  close(): void {
    this.#waiter?.close()
  }
}

const isClosed = (error: unknown): boolean => error instanceof VringError && error.code === 'ERR_VRING_CLOSED'

/** One poll; `undefined` when the port is closed. */
function receive(queue: RxQueue, burst: Burst): number | undefined {
  try {
    return queue.rxBurst(burst)
  } catch (error) {
    if (isClosed(error)) return undefined
    throw error
  }
}

/** What the loop's body left in the burst is dropped by name. */
function settle(burst: Burst, handle: QueueHandle): void {
  const left = burst.length
  if (left === 0) return
  burst.free()
  try {
    attempt(() => handle.countUnhandled(left))
  } catch (error) {
    // The port was closed meanwhile: its counters are final.
    if (!isClosed(error)) throw error
  }
}

/** See {@link RxQueue.bursts}. */
export async function* receiveBursts(
  queue: RxQueue,
  handle: QueueHandle,
  { size = 32, idle = 'sleep', spin = 256, signal }: BurstsOptions,
): AsyncGenerator<Burst, void, undefined> {
  const burst = queue.mempool.createBurst(size)
  const sleeper = new Sleeper(handle, signal)
  let [empty, turns, since] = [0, 0, performance.now()]
  try {
    for (;;) {
      if (signal?.aborted === true) return
      const received = receive(queue, burst)
      if (received === undefined) return
      if (received > 0) {
        empty = 0
        yield burst
        settle(burst, handle)
      } else if (++empty > spin && idle === 'sleep') {
        empty = 0
        if (!(await sleeper.sleep())) return
      } else if (empty === spin + 1 && attempt(() => handle.finished())) {
        // Asked once in an idle time: an end is known from the first empty poll on, and asking stops every other polling thread.
        return
      }
      if (++turns >= TURN_BURSTS || performance.now() - since > TURN_MILLISECONDS) {
        await turn()
        turns = 0
        since = performance.now()
      }
    }
  } catch (error) {
    // Closed between two steps: that is an end, not an error.
    if (!isClosed(error)) throw error
  } finally {
    settle(burst, handle)
    burst.close()
    sleeper.close()
  }
}
