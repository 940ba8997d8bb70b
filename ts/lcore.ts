/** Lcores: native threads that forward, without JavaScript on their way. */
import type { LcoreHandle, QueueHandle, StreamRequest, Waiter } from '../index.js'
import { native } from './binding.ts'
import { attempt, invalid, VringError } from './errors.ts'
import { macBytes } from './packet/format.ts'
import { handleOfQueue, type RxQueue, type TxQueue } from './queue.ts'
import { handleOfTraffic, type Traffic, type TrafficStream, trafficStreams } from './traffic.ts'

/**
 * What an lcore does with a burst, as testpmd's modes of the same name. `io`: sends it on. `macswap`: swaps the two Ethernet
 * addresses and sends it on. `rxonly`: frees it. `txonly`: receives nothing, sends UDP packets of its own.
 */
export type EngineName = 'io' | 'macswap' | 'rxonly' | 'txonly'

/** Where packets come from and go to. Both queues have one mempool. */
export interface Stream {
  /** Received from here; all engines but `txonly` need it. */
  readonly rx?: RxQueue
  /** Sent to here; all engines but `rxonly` need it. */
  readonly tx?: TxQueue
  /** Source address of generated packets; default that of the port that `tx` belongs to. */
  readonly src?: string
  /** Destination address of generated packets; default 02:00:00:00:00:00, as in testpmd. */
  readonly dst?: string
}

/** How an engine runs. */
export interface EngineOptions {
  /** Packets of a burst, 1 to 512; default 32. */
  readonly burst?: number
  /** Bytes of each segment of a generated packet; default [64]. The first holds at least the headers, 42. */
  readonly txpkts?: readonly number[]
  /** Packets that the streams together receive (`txonly`: send), after which the lcore ends by itself. */
  readonly limit?: number
  /** Bursts of generated packets that each stream sends before it begins (testpmd's `tx_first`); default 0. */
  readonly firstBursts?: number
}

/** What one stream has done since the start. */
export interface StreamStats {
  /** Packets received. */
  readonly rx: number
  /** Packets that the transmit queue accepted. */
  readonly tx: number
  /** Packets freed because the transmit queue did not take them. */
  readonly dropped: number
}

/** What an lcore has done since its start, a stream each. */
export interface LcoreStats {
  /** In the order of the streams that it was started with. */
  readonly streams: readonly StreamStats[]
}

/** What an {@link Lcore} is made of. */
export interface LcoreOptions {
  /** Number of the processor to run on, as in /proc/cpuinfo; by default the scheduler chooses. */
  readonly cpu?: number
  /** The thread's name; default `lcore`, and the processor if one is given. */
  readonly name?: string
}

const NO_SOURCE = '02:00:00:00:00:00'

function streamRequest({ rx, tx, src, dst }: Stream): StreamRequest {
  const queues: { rx?: QueueHandle; tx?: QueueHandle } = {}
  if (rx !== undefined) queues.rx = handleOfQueue(rx)
  if (tx !== undefined) queues.tx = handleOfQueue(tx)
  return { ...queues, src: macBytes(src ?? tx?.port?.mac ?? NO_SOURCE), dst: macBytes(dst ?? NO_SOURCE) }
}

/**
 * A native thread that polls, pinned to a processor if one is given. It has a thread only while it runs; it stops when the
 * JavaScript thread that made it ends. A running lcore does not keep the process alive; waiting for it does.
 */
export class Lcore implements AsyncDisposable {
  /** The thread's name. */
  readonly name: string
  readonly #handle: LcoreHandle
  readonly #waiter: Waiter
  #ended: Promise<LcoreStats> = Promise.resolve({ streams: [] })
  #settle: (stats: LcoreStats) => void = () => {}
  #waiting = 0
  #closed = false

  /** Makes one that is stopped. Throws `ERR_VRING_CPU` when this process may not run on that processor. */
  constructor(options: LcoreOptions = {}) {
    const { cpu, name = cpu === undefined ? 'lcore' : `lcore-${cpu}` } = options
    this.name = name
    this.#handle = attempt(() => native.createLcore(name, cpu))
    this.#waiter = attempt(() => this.#handle.waiter())
    this.#waiter.unref()
  }

  /**
   * Starts an engine on all streams. The lcore claims their queues until it ends. Throws, and starts nothing:
   * `ERR_VRING_QUEUE_BUSY` when another thread has a queue (this one too, if it polled it: `release()` it first),
   * `ERR_VRING_LCORE_RUNNING`, `ERR_VRING_STREAM` when the engine needs a queue that a stream has not, `ERR_VRING_UNKNOWN_ENGINE`,
   * `ERR_VRING_INVALID_ARGUMENT` for an address that is none, `ERR_VRING_OUT_OF_RANGE`, `ERR_VRING_WRONG_MEMPOOL`, `ERR_VRING_CLOSED`.
   */
  start(engine: EngineName, streams: readonly Stream[], options: EngineOptions = {}): void {
    if (!Array.isArray(streams)) invalid('an array of streams', streams)
    const { txpkts, ...rest } = options
    const request = { engine, ...rest, ...(txpkts === undefined ? {} : { txpkts: [...txpkts] }) }
    this.#launch(() => this.#handle.start(request, streams.map(streamRequest)))
  }

  /**
   * Does a part of a traffic run: sends on the streams with a `tx` queue, checks what comes on those with an `rx` queue. It ends by itself
   * when all is sent; if it checks, when it is stopped, since it does not know what is on its way. Its counts are those of
   * {@link stats}, and when it has ended {@link Traffic.report} has all. Throws as {@link start}.
   */
  startTraffic(traffic: Traffic, streams: readonly TrafficStream[]): void {
    const requests = trafficStreams(streams)
    this.#launch(() => handleOfTraffic(traffic).start(this.#handle, requests))
  }

  #launch(start: () => void): void {
    if (this.#closed)
      throw new VringError('ERR_VRING_CLOSED', `expected an open lcore, but ${this.name} was closed`)
    // One that ended by itself, which was not noticed yet.
    if (!this.running) this.#finish()
    attempt(start)
    this.#ended = new Promise((resolve) => {
      this.#settle = resolve
    })
    this.#waiter.arm(() => this.#finish())
  }

  /** Whether an engine runs. */
  get running(): boolean {
    return this.#handle.running()
  }

  #finish(): void {
    this.#waiter.disarm()
    this.#handle.join()
    this.#settle(this.stats())
  }

  /** Resolves with the final counts when the engine has ended and released its queues; at once if none runs. */
  async wait(): Promise<LcoreStats> {
    if (this.#waiting++ === 0) this.#waiter.ref()
    try {
      return await this.#ended
    } finally {
      if (--this.#waiting === 0) this.#waiter.unref()
    }
  }

  /** Asks the engine to end after the burst under way, then as {@link wait}. Stopping a stopped one is no error. */
  stop(): Promise<LcoreStats> {
    this.#handle.requestStop()
    return this.wait()
  }

  /** What each stream has done since the last start. */
  stats(): LcoreStats {
    return { streams: this.#handle.stats() }
  }

  /** Stops, and resolves when the thread is gone; it cannot be started again. Closing twice is no error. */
  async close(): Promise<void> {
    this.#closed = true
    await this.stop()
    this.#waiter.close()
  }

  /** The same as {@link close}: for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
