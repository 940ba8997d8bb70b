/** What the session and the worker that runs a script say to each other. */
import type { QueueToken } from '../../index.ts'
import type { StreamPlan } from '../topology.ts'

/** What a worker is started with. */
export interface WorkerStart {
  /** Absolute path of the script. */
  readonly file: string
  readonly lcore: number
  /** The processor to run on; `undefined`: the scheduler chooses. */
  readonly cpu: number | undefined
}

/** One stream to forward, with its queues on their way to the worker. */
export interface StreamOrder {
  readonly plan: StreamPlan
  readonly rx: QueueToken
  readonly tx: QueueToken
}

/** The session's order: forward these until the flag in `control` is set. */
export interface RunOrder {
  readonly control: SharedArrayBuffer
  readonly burst: number
  readonly streams: readonly StreamOrder[]
}

/** What a worker reports. */
export type WorkerReport =
  | { readonly type: 'loaded' }
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'running' }
  | { readonly type: 'thrown'; readonly stream: number; readonly message: string }
  | { readonly type: 'log'; readonly text: string }
  | { readonly type: 'done' }

/** The stop flag is the first 32-bit word; the counters begin on the next cache line, away from it. */
const COUNTERS_AT = 64
const PER_STREAM = 3

/** The stop flag and the counters of one worker, in memory that both threads see. */
export class ControlBlock {
  readonly buffer: SharedArrayBuffer
  /** Word 0: 0 while running, 1 to stop. */
  readonly flag: Int32Array
  /** For each stream: received, sent, dropped. Written by the worker only; a reader may be a burst behind. */
  readonly counters: Float64Array

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer
    this.flag = new Int32Array(buffer, 0, 1)
    this.counters = new Float64Array(buffer, COUNTERS_AT)
  }

  static forStreams(streams: number): ControlBlock {
    return new ControlBlock(
      new SharedArrayBuffer(COUNTERS_AT + streams * PER_STREAM * Float64Array.BYTES_PER_ELEMENT),
    )
  }

  /** Where stream `i`'s three counters begin. */
  static at(i: number): number {
    return i * PER_STREAM
  }

  /** What stream `i` moved so far. */
  moved(i: number): { rx: number; tx: number; dropped: number } {
    const at = ControlBlock.at(i)
    return { rx: this.counters[at]!, tx: this.counters[at + 1]!, dropped: this.counters[at + 2]! }
  }

  get stopping(): boolean {
    return Atomics.load(this.flag, 0) !== 0
  }

  stop(): void {
    Atomics.store(this.flag, 0, 1)
    Atomics.notify(this.flag, 0)
  }
}
