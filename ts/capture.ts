/** Captures: what passes through queues, as a pcapng or pcap file, while they are in use. */
import { execFile } from 'node:child_process'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import type { CaptureHandle } from '../index.js'
import { native } from './binding.ts'
import { attempt, invalid, VringError } from './errors.ts'
import { handleOfQueue, type RxQueue, type TxQueue } from './queue.ts'

/** How {@link Capture.start} captures. */
export interface CaptureOptions {
  /** Bytes of a packet at most, 1 to 262144; default all. */
  readonly snaplen?: number
  /** Which packets, as a pcap filter expression (`tcp port 80`); default all. `tcpdump` is asked to compile it. */
  readonly filter?: string
  /** What is written; default `pcapng`, with a port an interface, direction and queue of each packet, and what was dropped. */
  readonly format?: 'pcapng' | 'pcap'
  /** Bytes of memory for each queue, between its thread and the one that writes; default 4 MiB. */
  readonly buffer?: number
  /** Packets after which it ends. */
  readonly limit?: number
}

/** What became of the packets of a queue since the capture began. */
export interface CaptureStats {
  /** As in `net_vhost0 rx queue 0`. */
  readonly queue: string
  /** Packets that were copied. */
  readonly captured: number
  /** Packets that the filter does not want. */
  readonly filtered: number
  /** Packets that were not copied because what was captured before was not read in time. */
  readonly dropped: number
}

/** What `tcpdump` says of an expression, as the native filter reads it. Rejects with `ERR_VRING_FILTER`. */
function compile(expression: string, snaplen: number): Promise<string> {
  const args = ['-y', 'EN10MB', '-s', String(snaplen), '-ddd', '--', expression]
  return new Promise((resolve, reject) => {
    execFile('tcpdump', args, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout)
        return
      }
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      const what = missing
        ? 'filter expressions are compiled by tcpdump, which is not installed: apt install tcpdump, or capture without a filter'
        : `expected a pcap filter expression (man pcap-filter), got '${expression}': ${stderr.trim().split('\n').at(-1) ?? ''}`
      reject(new VringError('ERR_VRING_FILTER', what, { cause: error }))
    })
  })
}

/** The thread's claim on the queues is not needed: they may be in use by any thread, and go on as they were. */
export class Capture implements AsyncDisposable {
  /** What is captured, as the bytes of a file. It ends when the capture does; destroying it ends the capture. */
  readonly stream: Readable
  readonly #handle: CaptureHandle
  readonly #queues: readonly string[]

  private constructor(handle: CaptureHandle, queues: readonly string[]) {
    this.#handle = handle
    this.#queues = queues
    this.stream = new Socket({ fd: handle.fd(), readable: true, writable: false })
  }

  /**
   * Begins to capture what these queues receive and send: packets as the application gets them and gives them, those only that were taken.
   * Queues that nobody captures are as fast as before. Rejects with `ERR_VRING_FILTER`, `ERR_VRING_CAPTURE`,
   * `ERR_VRING_OUT_OF_RANGE`, `ERR_VRING_INVALID_ARGUMENT`.
   */
  static async start(queues: readonly (RxQueue | TxQueue)[], options: CaptureOptions = {}): Promise<Capture> {
    if (!Array.isArray(queues) || queues.length === 0) invalid('an array of queues', queues)
    const { filter = '', format = 'pcapng', snaplen = 262_144, ...rest } = options
    const sources = queues.map((queue) => ({
      queue: handleOfQueue(queue),
      interface: queue.port?.name ?? queue.label.split(' ')[0]!,
    }))
    const program = filter === '' ? {} : { filter: await compile(filter, snaplen), expression: filter }
    const request = { snaplen, pcap: format === 'pcap', ...program, ...rest }
    const handle = attempt(() => native.startCapture(sources, request))
    return new Capture(
      handle,
      queues.map(({ label }) => label),
    )
  }

  /** What became of the packets, a queue each, in the order in which they were given. */
  stats(): readonly CaptureStats[] {
    const named = this.#queues
    return this.#handle
      .stats()
      .map(({ captured, filtered, dropped }, i) => ({ queue: named[i]!, captured, filtered, dropped }))
  }

  /** Ends the capture: what was captured before can still be read, then {@link stream} ends. Stopping twice is no error. */
  stop(): void {
    this.#handle.requestStop()
  }

  /** Ends the capture, and does not wait for its reader. For `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop()
    if (this.stream.closed) return
    const closed = new Promise((resolve) => this.stream.once('close', resolve))
    this.stream.destroy()
    await closed
  }
}
