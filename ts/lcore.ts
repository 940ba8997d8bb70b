/** Lcores: native threads that forward, without JavaScript on their way. */
import { isIPv4 } from 'node:net'
import type { EngineRequest, LcoreHandle, QueueHandle, StreamRequest, Waiter } from '../index.js'
import { native } from './binding.ts'
import { attempt, invalid, VringError } from './errors.ts'
import { macBytes } from './packet/format.ts'
import { handleOfQueue, type RxQueue, type TxQueue } from './queue.ts'
import { handleOfTraffic, type Traffic, type TrafficStream, trafficStreams } from './traffic.ts'

/**
 * What an lcore does with a burst, as testpmd's modes of the same name. `io`: sends it on. `mac`: the same with the addresses of the port that
 * it leaves by and of that port's peer. `macswap`: with the two Ethernet addresses swapped. `5tswap`: with the addresses of IP and the ports too.
 * `csum`: as `mac`, with the checksums of IPv4, TCP and UDP made anew. `icmpecho`: answers ARP and ping, frees all else. `noisy`: sends on
 * late, after random accesses to memory. `recycle_mbufs`: as `io`, taking sent buffers back first. `rxonly`: frees it. `txonly`: receives
 * nothing, sends UDP packets of its own. `flowgen`: frees it and sends UDP packets of many flows.
 */
export type EngineName =
  | 'io'
  | 'mac'
  | 'macswap'
  | 'flowgen'
  | 'rxonly'
  | 'txonly'
  | 'csum'
  | 'icmpecho'
  | 'noisy'
  | '5tswap'
  | 'recycle_mbufs'

/** What `csum` leaves to others. */
export interface CsumOptions {
  /** Checksums that the packet asks for (`PacketFlag.ChecksumPartial`), to be made by the peer or by software behind the engine; default none. */
  readonly later?: readonly ('udp' | 'tcp')[]
  /** TCP packets with more payload than so many bytes are to be cut into segments of that; default 0: none. */
  readonly segment?: number
  /** Packets longer than so many bytes, headers included, are to be cut, TCP into segments and UDP into fragments; default 0: none. */
  readonly frame?: number
}

/** Where packets come from and go to. Both queues have one mempool. */
export interface Stream {
  /** Received from here; all engines but `txonly` need it. */
  readonly rx?: RxQueue
  /** Sent to here; all engines but `rxonly` need it. */
  readonly tx?: TxQueue
  /** Source address of packets that are made or rewritten; default that of the port that `tx` belongs to. */
  readonly src?: string
  /** Destination address of such packets; default 02:00:00:00:00:00, as in testpmd. */
  readonly dst?: string
  /** For `csum`. */
  readonly csum?: CsumOptions
}

/** What the engine `noisy` does; all default to 0. */
export interface NoiseOptions {
  /** Packets that wait before they are sent. */
  readonly bufferPackets?: number
  /** Milliseconds without a packet after which those that wait are sent; 0: never. */
  readonly flushMilliseconds?: number
  /** MiB of memory that is looked up in, up to 4096. */
  readonly memoryMib?: number
  /** Random writes for each packet. */
  readonly writes?: number
  /** Random reads for each packet. */
  readonly reads?: number
  /** Random reads for each packet, each followed by a write. */
  readonly readsWrites?: number
}

/** How an engine runs. */
export interface EngineOptions {
  /** Packets of a burst, 1 to 512; default 32. */
  readonly burst?: number
  /** Bytes of each segment of a generated packet; default [64]. The first holds at least the headers, 42. */
  readonly txpkts?: readonly number[]
  /** Each generated packet has a random number of those segments; default false. */
  readonly randomSplit?: boolean
  /** Source and destination of generated packets; default 198.18.0.1 and 198.18.0.2. */
  readonly ip?: readonly [src: string, dst: string]
  /** Ports of UDP of generated packets, source and destination; default 9 and 9. */
  readonly udp?: readonly [src: number, dst: number]
  /** `txonly`: flows, which differ in their source address, 1 to 256; default 1: all packets are alike. */
  readonly flows?: number
  /** Packets that the streams together receive (`txonly`, `flowgen`: send), after which the lcore ends by itself. */
  readonly limit?: number
  /** Bursts of generated packets that each stream sends before it begins (testpmd's `tx_first`); default 0. */
  readonly firstBursts?: number
  /** What the queue did not take is offered to it again so many times, each after a delay; default: it is dropped. */
  readonly retry?: { readonly delayMicroseconds: number; readonly times: number }
  /** `flowgen`: flows, which differ in their destination address; default 1024. */
  readonly flowgenFlows?: number
  /** `flowgen`: packets like the one before that follow each; default 0. */
  readonly flowgenClones?: number
  /** For `noisy`. */
  readonly noise?: NoiseOptions
  /** What is measured besides packets: it costs something at each burst; default nothing. */
  readonly measure?: readonly ('bursts' | 'cycles' | 'latency')[]
}

/** How many bursts had so many packets. */
export interface BurstCount {
  /** Packets in a burst. */
  readonly packets: number
  /** Bursts that had so many. */
  readonly bursts: number
}

/** What one stream has done since the start. */
export interface StreamStats {
  /** Packets received. */
  readonly rx: number
  /** Packets that the transmit queue accepted. */
  readonly tx: number
  /** Packets freed because the transmit queue did not take them. */
  readonly dropped: number
  /** Packets that came with a wrong checksum of IPv4, as `csum` found. */
  readonly badIp: number
  /** Packets that came marked as having a wrong checksum of layer 4, as `csum` found. */
  readonly badL4: number
  /** Processor cycles of turns that moved something, where `measure` says so. See {@link Lcore.cyclesPerSecond}. */
  readonly cycles: number
  /** Bursts by their number of packets, where `measure` says so. */
  readonly bursts?: { readonly rx: readonly BurstCount[]; readonly tx: readonly BurstCount[] }
}

/** How long packets were between being received and being sent, in nanoseconds. */
export interface LatencyStats {
  /** Packets. */
  readonly samples: number
  readonly min: number
  readonly mean: number
  readonly max: number
  /** How much two that follow each other differ, smoothed as RFC 3550 (6.4.1) does. */
  readonly jitter: number
  /** At each percentile that was asked for. */
  readonly percentiles: readonly number[]
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

function streamRequest({ rx, tx, src, dst, csum = {} }: Stream): StreamRequest {
  const queues: { rx?: QueueHandle; tx?: QueueHandle } = {}
  if (rx !== undefined) queues.rx = handleOfQueue(rx)
  if (tx !== undefined) queues.tx = handleOfQueue(tx)
  const { later = [], segment = 0, frame = 0 } = csum
  return {
    ...queues,
    src: macBytes(src ?? tx?.port?.mac ?? NO_SOURCE),
    dst: macBytes(dst ?? NO_SOURCE),
    later: [...later],
    segment,
    frame,
  }
}

function ipBytes(text: string): number[] {
  const bytes = isIPv4(text) ? text.split('.').map(Number) : invalid('an address of IPv4', text)
  return bytes
}

function noiseRequest(noise: NoiseOptions): number[] {
  const { bufferPackets = 0, flushMilliseconds = 0, memoryMib = 0 } = noise
  const { writes = 0, reads = 0, readsWrites = 0 } = noise
  return [bufferPackets, flushMilliseconds, memoryMib, writes, reads, readsWrites]
}

function engineRequest(engine: EngineName, options: EngineOptions): EngineRequest {
  const { txpkts, ip, udp, retry, noise, measure, ...rest } = options
  return {
    engine,
    ...rest,
    ...(txpkts === undefined ? {} : { txpkts: [...txpkts] }),
    ...(ip === undefined ? {} : { ip: ip.flatMap(ipBytes) }),
    ...(udp === undefined ? {} : { udp: [...udp] }),
    ...(retry === undefined ? {} : { retry: [retry.delayMicroseconds, retry.times] }),
    ...(noise === undefined ? {} : { noise: noiseRequest(noise) }),
    ...(measure === undefined ? {} : { measure: [...measure] }),
  }
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
    const request = engineRequest(engine, options)
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
    const bursts = this.#handle.bursts()
    const streams = this.#handle.stats()
    if (bursts.length < streams.length) return { streams }
    return { streams: streams.map((stream, i) => Object.assign(stream, { bursts: bursts[i]! })) }
  }

  /**
   * How long packets were on the streams of these lcores, in their last runs; `undefined` where that was not measured. `percentiles` are
   * numbers from 0 to 100.
   */
  static latency(lcores: readonly Lcore[], percentiles: readonly number[] = []): LatencyStats | undefined {
    const handles = lcores.map((lcore) => lcore.#handle)
    return native.latencyOf(handles, [...percentiles]) ?? undefined
  }

  /** How many of {@link StreamStats.cycles} there are in a second. */
  static get cyclesPerSecond(): number {
    return native.cyclesPerSecond()
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
