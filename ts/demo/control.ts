/** What the demo's main thread and its worker share: a stop flag, and what the worker has counted. */

/** The counters begin on the next cache line, away from the flag. */
const COUNTERS_AT = 64

/** See the file's first line. The counters are written by the worker alone; a reader may be a burst behind. */
export class Control {
  /** To be posted to the worker. */
  readonly buffer: SharedArrayBuffer
  readonly #flag: Int32Array
  readonly #counters: Float64Array

  constructor(buffer = new SharedArrayBuffer(COUNTERS_AT + 4 * Float64Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer
    this.#flag = new Int32Array(buffer, 0, 1)
    this.#counters = new Float64Array(buffer, COUNTERS_AT)
  }

  /** Asks the worker to end. */
  stop(): void {
    Atomics.store(this.#flag, 0, 1)
    Atomics.notify(this.#flag, 0)
  }

  /** Whether it was asked to. */
  get stopping(): boolean {
    return Atomics.load(this.#flag, 0) !== 0
  }

  /** Sleeps for a moment, but not through a stop. For the worker. */
  nap(milliseconds: number): void {
    Atomics.wait(this.#flag, 0, 0, milliseconds)
  }

  /** Packets that the worker received. */
  get received(): number {
    return this.#counters[0]!
  }

  set received(packets: number) {
    this.#counters[0] = packets
  }

  /** Packets that were swapped and sent back. */
  get swapped(): number {
    return this.#counters[1]!
  }

  set swapped(packets: number) {
    this.#counters[1] = packets
  }

  /** Packets that were freed since the transmit queue would not take them. */
  get notTaken(): number {
    return this.#counters[2]!
  }

  set notTaken(packets: number) {
    this.#counters[2] = packets
  }
}
