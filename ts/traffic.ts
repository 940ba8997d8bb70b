/** The traffic generator, and the checker of what comes back. */
import type { FrameRequest, TrafficHandle, TrafficStreamRequest } from '../index.js'
import { native } from './binding.ts'
import { attempt, invalid } from './errors.ts'
import { macBytes } from './packet/format.ts'
import { handleOfQueue, type RxQueue, type TxQueue } from './queue.ts'

/** So many packets of a size. */
export interface TrafficSize {
  /** Bytes without check sequence, 60 to 9746. */
  readonly bytes: number
  /** How many of them, among as many as all weights make together; that is at most 4096. */
  readonly weight: number
}

/** What each sender of a {@link Traffic} sends. */
export interface TrafficOptions {
  /** Sizes, which follow each other as evenly as their weights allow; default one of 60 bytes. */
  readonly sizes?: readonly TrafficSize[]
  /** Flows that take turns, 1 to 65535 for all senders together; default 1. */
  readonly flows?: number
  /** Packets a second; by default as many as the queue takes. */
  readonly pps?: number
  /** Bits a second on an Ethernet instead: a packet has 24 bytes more there, for preamble, check sequence and gap. */
  readonly bps?: number
  /**
   * The path of a pcap or pcapng capture, of which packets are sent instead, over and over: give a `limit` or `seconds`. `sizes`, `flows` and the
   * headers are not used, and what comes back can only be counted.
   */
  readonly recording?: string
  /** How often each sender sends the recording, if there is no `limit`. */
  readonly loops?: number
  /** The recording's own pace, so many times as fast; instead of `pps` and `bps`. */
  readonly speed?: number
  /** Packets of a burst, 1 to 512; default 32. */
  readonly burst?: number
  /** Packets after which each sender ends. */
  readonly limit?: number
  /** Seconds after which each sender ends. */
  readonly seconds?: number
}

/** The headers of a sender's packets. Checksums are right. */
export interface FrameOptions {
  /** Source Ethernet address; default that of the port. */
  readonly srcMac?: string
  /** Destination Ethernet address; default 02:00:00:00:00:00. */
  readonly dstMac?: string
  /** A tag (802.1Q) with that number, 0 to 4095; default none. */
  readonly vlan?: number
  /** Source address; default 198.18.0.1. */
  readonly srcIp?: string
  /** Destination address, of the same version; default 198.18.0.2. */
  readonly dstIp?: string
  /** What is in the IP packet; default udp. `icmp` are echo requests, over both versions. */
  readonly protocol?: 'udp' | 'tcp' | 'icmp'
  /** Source port of the first flow, or identifier of an echo; default 1024. */
  readonly srcPort?: number
  /** Destination port of the first flow, or number of an echo; default 9. */
  readonly dstPort?: number
  /** The field that counts up from flow to flow: of an address its last two bytes; default src-port. */
  readonly vary?: 'src-port' | 'dst-port' | 'src-ip' | 'dst-ip'
}

/** A sender, a checker, or both. */
export interface TrafficStream {
  /** What comes here is checked. All streams that check belong to one lcore: the packets of a flow must be seen by one. */
  readonly rx?: RxQueue
  /** A sender sends here. */
  readonly tx?: TxQueue
  /** What it sends. */
  readonly frame?: FrameOptions
}

/** What a sender did. */
export interface SentTraffic {
  /** Packets that the transmit queue took. */
  readonly packets: number
  /** Their bytes. */
  readonly bytes: number
  /** Packets that were due, and could not be sent within 10 ms. */
  readonly late: number
  /** Nanoseconds from the first packet to the last. */
  readonly nanoseconds: number
}

/** Nanoseconds from the making of a packet to its arrival, over all packets that arrived undamaged. Percentiles are right to 0.1 %. */
export interface TrafficLatency {
  readonly min: number
  readonly mean: number
  readonly max: number
  /** The change from packet to packet, smoothed as in RFC 3550, section 6.4.1. */
  readonly jitter: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly p999: number
}

/** What the checker saw. */
export interface ReceivedTraffic {
  /** Packets, foreign ones too. */
  readonly packets: number
  /** Their bytes. */
  readonly bytes: number
  /** Packets that came for the first time, undamaged. */
  readonly unique: number
  /** … of which so many came after a newer one of their flow. */
  readonly reordered: number
  /** Packets that came again. */
  readonly duplicated: number
  /** Packets that came 1024 or more behind the newest of their flow: it is not known whether for the first time. */
  readonly stale: number
  /** Packets whose bytes are not what was sent. */
  readonly damaged: number
  /** Packets that are not of this run. */
  readonly foreign: number
  readonly latency: TrafficLatency
  /** The first 1000 ranges that are missing: flow, first and last sequence number. Damaged packets are among them. */
  readonly missing: readonly (readonly [flow: number, first: number, last: number])[]
  /** The first 1000 that came again: flow and sequence number. */
  readonly duplicates: readonly (readonly [flow: number, sequence: number])[]
  /** The first 1000 that came late. */
  readonly late: readonly (readonly [flow: number, sequence: number])[]
}

/** What a run did, as far as its lcores have ended. */
export interface TrafficReport {
  /** The senders, in the order in which they ended. */
  readonly sent: readonly SentTraffic[]
  /** Undefined until the checker has ended, or when there is none. */
  readonly received: ReceivedTraffic | undefined
  /** Packets sent that did not come, or came damaged; of a recording, by number. 0 without a checker. */
  readonly lost: number
}

const NO_MAC = '02:00:00:00:00:00'

function frameRequest(frame: FrameOptions, tx: TxQueue): FrameRequest {
  const { srcMac = tx.port?.mac ?? NO_MAC, dstMac = NO_MAC, vlan } = frame
  return {
    srcMac: macBytes(srcMac),
    dstMac: macBytes(dstMac),
    ...(vlan === undefined ? {} : { vlan }),
    srcIp: frame.srcIp ?? '198.18.0.1',
    dstIp: frame.dstIp ?? '198.18.0.2',
    protocol: frame.protocol ?? 'udp',
    srcPort: frame.srcPort ?? 1024,
    dstPort: frame.dstPort ?? 9,
    vary: frame.vary ?? 'src-port',
  }
}

/** The streams as the addon takes them. For {@link Lcore}. */
export function trafficStreams(streams: readonly TrafficStream[]): TrafficStreamRequest[] {
  if (!Array.isArray(streams)) invalid('an array of streams', streams)
  return streams.map(({ rx, tx, frame = {} }) => ({
    ...(rx === undefined ? {} : { rx: handleOfQueue(rx) }),
    ...(tx === undefined ? {} : { tx: handleOfQueue(tx), frame: frameRequest(frame, tx) }),
  }))
}

const handles = new WeakMap<Traffic, TrafficHandle>()

/** The addon's side of a run. For {@link Lcore}. */
export function handleOfTraffic(traffic: Traffic): TrafficHandle {
  return handles.get(traffic) ?? invalid('a Traffic', traffic)
}

/**
 * A run of generated traffic. Its clock starts when it is made; lcores do its parts ({@link Lcore.startTraffic}). Each packet bears
 * the number of its flow, its place in it and the time when it was made, right behind its headers; a known pattern follows.
 */
export class Traffic {
  readonly #handle: TrafficHandle
  readonly #played: boolean

  /**
   * Reads the recording, if there is one. Throws `ERR_VRING_OUT_OF_RANGE`, `ERR_VRING_INVALID_ARGUMENT`, `ERR_VRING_CAPTURE`,
   * `ERR_VRING_NO_SUCH_PATH`, `ERR_VRING_PERMISSION`.
   */
  constructor(options: TrafficOptions = {}) {
    const { sizes, seconds, ...rest } = options
    const request = {
      ...rest,
      ...(sizes === undefined ? {} : { sizes: [...sizes] }),
      ...(seconds === undefined ? {} : { duration: Math.round(seconds * 1e9) }),
    }
    this.#handle = attempt(() => native.createTraffic(request))
    this.#played = options.recording !== undefined
    handles.set(this, this.#handle)
  }

  /** Packets after which each sender ends; undefined if it does not end by their number. */
  get limit(): number | undefined {
    return this.#handle.limit() ?? undefined
  }

  /** What was done by the lcores that have ended. Packets that are on their way when the checker ends count as lost. */
  report(): TrafficReport {
    const { sent, received } = attempt(() => this.#handle.report())
    const packets = sent.reduce((sum, sender) => sum + sender.packets, 0)
    const arrived = this.#played ? received?.packets : received?.unique
    return {
      sent,
      // The addon's tuples are arrays of the right length.
      received: received as ReceivedTraffic | undefined,
      lost: arrived === undefined ? 0 : Math.max(packets - arrived, 0),
    }
  }
}
