/** Queues of a port: bursts go in and out, one thread at a time. */
import type { PortHandle, QueueHandle } from '../index.js'
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

/** What a queue is now. */
export interface QueueInfo {
  /** Descriptors of its ring; 0 where there is none, or no peer yet. */
  readonly size: number
  /** How it moves packets, and why so; undefined while there is no peer. */
  readonly mode: { readonly name: string; readonly why: string } | undefined
  /** It was stopped by {@link RxQueue.stop} or {@link TxQueue.stop}. */
  readonly stopped: boolean
  /** It moves nothing now: stopped by itself or with the port, its link set down, or one of those that {@link Port.setQueues} left out. */
  readonly still: boolean
}

function adoptHandle(token: QueueToken, direction: 'rx' | 'tx'): QueueHandle {
  if (typeof token !== 'object' || token === null || typeof token.token !== 'number') {
    invalid('a token from handOver()', token)
  }
  return attempt(() => native.adoptQueue(token.token, direction === 'rx'))
}

/** The port of a queue, in the thread that opened it. */
interface Home {
  readonly port: Port
  readonly handle: PortHandle
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
  readonly #home: Home | undefined
  #handedOver = false

  static {
    queueHandle = (queue) => queue.#handle
  }

  protected constructor(handle: QueueHandle, direction: 'rx' | 'tx', home: Home | undefined) {
    const port = home?.port
    this.port = port
    this.#home = home
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

  /** What it is now. Takes the queue from its thread for a moment. */
  get info(): QueueInfo {
    const { mode, why, ...facts } = this.#handle.info()
    return { ...facts, mode: typeof mode === 'string' ? { name: mode, why: why ?? '' } : undefined }
  }

  /**
   * What the descriptor `offset` places from the next in turn is doing. On receive: `done` has a packet, `available` waits for one. On transmit:
   * `available` has a packet that is not through, `done` can be used. Throws `ERR_VRING_OUT_OF_RANGE` behind the end of the ring,
   * `ERR_VRING_NOT_SUPPORTED` where the driver has none.
   */
  descriptorStatus(offset: number): 'available' | 'done' | 'unavail' {
    return attempt(() => this.#handle.descStatus(offset)) as 'available' | 'done' | 'unavail'
  }

  /** Packets that wait in the ring. Throws `ERR_VRING_NOT_SUPPORTED` where nobody can say. */
  get usedCount(): number {
    return attempt(() => this.#handle.usedCount())
  }

  /** The queue moves packets again. For the thread that opened the port, as {@link stop}. */
  start(): void {
    this.#switch(true)
  }

  /**
   * The queue stands still, whoever has it: it moves nothing and loses nothing. Throws `ERR_VRING_WRONG_THREAD` in a thread that adopted it,
   * `ERR_VRING_CLOSED`.
   */
  stop(): void {
    this.#switch(false)
  }

  #switch(on: boolean): void {
    const home = this.#home
    if (home === undefined) {
      throw new VringError(
        'ERR_VRING_WRONG_THREAD',
        `${this.label} was adopted here; start and stop it in the thread that opened its port`,
      )
    }
    attempt(() => home.handle.setQueue(this.#direction === 'rx', this.index, on))
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

let makeRx: (handle: QueueHandle, home: Home) => RxQueue
let makeTx: (handle: QueueHandle, home: Home) => TxQueue

/**
 * Receives packets. A queue has one thread: the first that uses it claims it, until {@link release} or
 * {@link handOver}; any other gets `ERR_VRING_QUEUE_BUSY`.
 */
export class RxQueue extends Queue {
  readonly #handle: QueueHandle
  readonly #receive: (burst: number) => number

  static {
    makeRx = (handle, home) => new RxQueue(handle, home)
  }

  private constructor(handle: QueueHandle, home: Home | undefined) {
    super(handle, 'rx', home)
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
    makeTx = (handle, home) => new TxQueue(handle, home)
  }

  private constructor(handle: QueueHandle, home: Home | undefined) {
    super(handle, 'tx', home)
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
export const makeRxQueue = (handle: QueueHandle, home: Home): RxQueue => makeRx(handle, home)

/** Makes a port's transmit queue. */
export const makeTxQueue = (handle: QueueHandle, home: Home): TxQueue => makeTx(handle, home)

/** The addon's object of a queue. Throws `ERR_VRING_INVALID_ARGUMENT` for what is no queue. */
export function handleOfQueue(queue: RxQueue | TxQueue): QueueHandle {
  if (!((queue as unknown) instanceof Queue)) invalid('an RxQueue or a TxQueue', queue)
  return queueHandle(queue)
}
