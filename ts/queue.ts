/** Queues of a port: bursts go in and out, one thread at a time. */
import type { QueueHandle } from '../index.js'
import { native } from './binding.ts'
import { type Burst, burstError, handleOf } from './burst.ts'
import { attempt, invalid, VringError } from './errors.ts'
import { type BurstsOptions, receiveBursts } from './iterate.ts'
import { type Mempool, mempoolFor } from './mempool.ts'
import type { Port } from './port.ts'

declare const brand: unique symbol

/**
 * A queue on its way to another thread: a plain object that `postMessage` can send. It is good for one `adopt`. Made by
 * {@link RxQueue.handOver} and {@link TxQueue.handOver}.
 */
export interface QueueToken {
  /** Which of `RxQueue.adopt` and `TxQueue.adopt` takes it. */
  readonly direction: 'rx' | 'tx'
  /** Its number within this process. */
  readonly token: number
  readonly [brand]: true
}

function adoptHandle(token: QueueToken, direction: 'rx' | 'tx'): QueueHandle {
  if (typeof token !== 'object' || token === null || typeof token.token !== 'number') {
    invalid('a token from handOver()', token)
  }
  return attempt(() => native.adoptQueue(token.token, direction === 'rx'))
}

let queueHandle: (queue: Queue) => QueueHandle

/** What both directions have in common. */
abstract class Queue {
  /** The port, in the thread that opened it; `undefined` in a thread that adopted the queue. */
  readonly port: Port | undefined
  /** Its number among the port's queues of its direction. */
  readonly index: number
  /** For messages: `net_vhost0 rx queue 0`. */
  readonly label: string
  /** The mempool of its packets. */
  readonly mempool: Mempool
  readonly #handle: QueueHandle
  readonly #direction: 'rx' | 'tx'
  #handedOver = false

  static {
    queueHandle = (queue) => queue.#handle
  }

  protected constructor(handle: QueueHandle, direction: 'rx' | 'tx', port: Port | undefined) {
    this.port = port
    this.index = handle.index()
    this.label = handle.label()
    this.mempool = port?.mempool ?? mempoolFor(handle.pool())
    this.#handle = handle
    this.#direction = direction
  }

  /**
   * Gives the queue to a token, to be posted to a Worker that calls `adopt`. Until whoever adopts it releases it again (or its
   * thread ends), using it here throws `ERR_VRING_HANDED_OVER`. A token that nobody adopted is void when the queue is handed
   * over once more. Throws `ERR_VRING_QUEUE_BUSY` when another thread has the queue, `ERR_VRING_CLOSED`.
   */
  handOver(): QueueToken {
    const token = this.explained(() => this.#handle.handOver())
    this.#handedOver = true
    return { direction: this.#direction, token } as QueueToken
  }

  /** Gives up this thread's claim, if it has one: the next thread to use the queue gets it. */
  release(): void {
    this.#handle.release()
  }

  /** Runs something on the queue; an error about its user says so if it was handed over. */
  protected explained<T>(call: () => T): T {
    try {
      return attempt(call)
    } catch (error) {
      throw this.explain(error)
    }
  }

  protected explain(error: unknown): unknown {
    if (!(error instanceof VringError) || error.code !== 'ERR_VRING_QUEUE_BUSY' || !this.#handedOver)
      return error
    return new VringError(
      'ERR_VRING_HANDED_OVER',
      `${this.label} was handed over; it can be used here again when the thread that has it releases it`,
    )
  }
}

let makeRx: (handle: QueueHandle, port: Port) => RxQueue
let makeTx: (handle: QueueHandle, port: Port) => TxQueue

/**
 * Receives packets. A queue has one thread: the first that uses it claims it, until {@link release} or
 * {@link handOver}; any other gets `ERR_VRING_QUEUE_BUSY`.
 */
export class RxQueue extends Queue {
  readonly #handle: QueueHandle
  readonly #receive: (burst: number) => number

  static {
    makeRx = (handle, port) => new RxQueue(handle, port)
  }

  private constructor(handle: QueueHandle, port: Port | undefined) {
    super(handle, 'rx', port)
    this.#handle = handle
    this.#receive = handle.burstFunction()
  }

  /**
   * Appends received packets to the burst; how many. Never waits: 0 when there are none, the burst is full or the link is
   * down. They belong to the caller now, who sends, frees or keeps them.
   *
   * Throws `ERR_VRING_QUEUE_BUSY` or `ERR_VRING_HANDED_OVER` when another thread has the queue, `ERR_VRING_WRONG_MEMPOOL` for a
   * burst of another mempool than the port's, `ERR_VRING_CLOSED` when the port or the burst is closed, `ERR_VRING_INVALID_ARGUMENT` for what
   * is no burst.
   */
  rxBurst(burst: Burst): number {
    try {
      return this.#receive(handleOf(burst))
    } catch (error) {
      throw this.explain(burstError(error, burst))
    }
  }

  /** The same as {@link bursts} without options. */
  [Symbol.asyncIterator](): AsyncGenerator<Burst, void, undefined> {
    return this.bursts()
  }

  /**
   * Bursts as they arrive: polls while packets come, sleeps when they stop. Between bursts timers and I/O get their
   * turn. The yielded burst is the same object each time and belongs to the loop's body until its next turn: what is
   * then left in it is freed and counted as the drop `rx_unhandled`. Ends when the port is closed, `signal` fires, or a
   * capture (`net_pcap`) is through. While it waits it keeps the process alive. Throws what {@link rxBurst} throws, and what
   * {@link Mempool.createBurst} throws for `size`.
   */
  bursts(options: BurstsOptions = {}): AsyncGenerator<Burst, void, undefined> {
    return receiveBursts(this, this.#handle, options)
  }

  /**
   * Takes the queue of a token for this thread, which claims it. Throws `ERR_VRING_TOKEN` for a token that was adopted already or is of the
   * other direction, `ERR_VRING_CLOSED`.
   */
  static adopt(token: QueueToken): RxQueue {
    return new RxQueue(adoptHandle(token, 'rx'), undefined)
  }
}

/** Transmits packets. Has one thread, as {@link RxQueue}. */
export class TxQueue extends Queue {
  readonly #handle: QueueHandle
  readonly #send: (burst: number) => number

  static {
    makeTx = (handle, port) => new TxQueue(handle, port)
  }

  private constructor(handle: QueueHandle, port: Port | undefined) {
    super(handle, 'tx', port)
    this.#handle = handle
    this.#send = handle.burstFunction()
  }

  /**
   * Sends from the front of the burst; how many were accepted. Those belong to the driver now, which gives their buffers back
   * when they are through. The rest moves to the front of the burst and stays the caller's. Never waits: 0 when the ring
   * is full or the link is down. A packet whose numbers do not fit the mempool, or that is shorter than an Ethernet header, is accepted and
   * counted as the drop `tx_bad_packet`. Throws what {@link RxQueue.rxBurst} throws.
   */
  txBurst(burst: Burst): number {
    try {
      return this.#send(handleOf(burst))
    } catch (error) {
      throw this.explain(burstError(error, burst))
    }
  }

  /** Gives back the buffers of packets that are through, without sending. Throws what {@link txBurst} throws. */
  reclaim(): void {
    this.explained(() => this.#handle.reclaim())
  }

  /**
   * Takes the queue of a token for this thread, which claims it. Throws `ERR_VRING_TOKEN` for a token that was adopted already or is of the
   * other direction, `ERR_VRING_CLOSED`.
   */
  static adopt(token: QueueToken): TxQueue {
    return new TxQueue(adoptHandle(token, 'tx'), undefined)
  }
}

/** Makes a port's receive queue. */
export const makeRxQueue = (handle: QueueHandle, port: Port): RxQueue => makeRx(handle, port)

/** Makes a port's transmit queue. */
export const makeTxQueue = (handle: QueueHandle, port: Port): TxQueue => makeTx(handle, port)

/** The addon's object of a queue. Throws `ERR_VRING_INVALID_ARGUMENT` for what is no queue. */
export function handleOfQueue(queue: RxQueue | TxQueue): QueueHandle {
  if (!((queue as unknown) instanceof Queue)) invalid('an RxQueue or a TxQueue', queue)
  return queueHandle(queue)
}
