/** Bursts: packets that travel together, as a struct of arrays that Rust and JavaScript share. */
import type { NewBurst } from '../index.js'
import { native } from './binding.ts'
import { fromNative, invalid, VringError } from './errors.ts'
import type { Mempool } from './mempool.ts'

/** Where the arrays begin, in 32-bit words. */
const HEAD_WORDS = 16
/** No burst has this handle. */
const CLOSED = 0
/** Most segments of one packet: no walk along a packet goes further. */
const MAX_SEGMENTS = 256

const functions = native.burstFunctions()

/**
 * Bits of {@link Burst.flags}. All but `Multi` say what the packet's words in {@link Burst.csum}, {@link Burst.gso}, {@link Burst.tag} and
 * {@link Burst.hash} mean: without the bit, the word means nothing. What a packet asks for is done by the port that it is sent to, whether
 * its device can do it or not.
 */
export const PacketFlag = {
  /** The packet has several segments: {@link Burst.segments} walks them. */
  Multi: 1,
  /**
   * The checksum of layer 4 holds only the sum of its pseudo header, and must be completed: {@link Burst.setChecksumPartial}. A received
   * packet that has this bit can be sent on as it is.
   */
  ChecksumPartial: 0x2,
  /** The checksum of layer 4 was verified. With neither this nor `ChecksumBad`, nobody looked. */
  ChecksumGood: 0x4,
  /** The checksum of layer 4 was verified, and is wrong. */
  ChecksumBad: 0x8,
  /** TCP over IPv4, to be cut: {@link Burst.setSegmentation}. */
  GsoTcp4: 0x10,
  /** TCP over IPv6, to be cut. */
  GsoTcp6: 0x20,
  /** UDP, to be cut into IP fragments (UFO). */
  GsoUdp: 0x40,
  /** UDP, to be cut into datagrams (USO). */
  GsoUdpL4: 0x80,
  /** With `GsoTcp4` or `GsoTcp6`: the flag CWR is set, in the first segment only. */
  GsoEcn: 0x100,
  /** The VLAN tag is not in the packet: {@link Burst.vlanOf}, {@link Burst.setVlan}. */
  Vlan: 0x200,
  /** The packet comes with its hash: {@link Burst.hashOf}. */
  Hash: 0x400,
} as const

/** How a packet is to be cut: one of the bits of {@link PacketFlag} that begin with `Gso`. */
export type SegmentationKind =
  | typeof PacketFlag.GsoTcp4
  | typeof PacketFlag.GsoTcp6
  | typeof PacketFlag.GsoUdp
  | typeof PacketFlag.GsoUdpL4

const SEGMENTATION = PacketFlag.GsoTcp4 | PacketFlag.GsoTcp6 | PacketFlag.GsoUdp | PacketFlag.GsoUdpL4
const TCP = PacketFlag.GsoTcp4 | PacketFlag.GsoTcp6
const META = 0x7fe
/** Where the checksum stands in a header of layer 4. */
const TCP_CHECKSUM = 16
const UDP_CHECKSUM = 6

/** One contiguous piece of a packet. */
export interface Segment {
  /** Byte position of its first byte in `mempool.bytes`. */
  readonly addr: number
  /** Bytes. */
  readonly len: number
}

let make: (mempool: Mempool, made: NewBurst) => Burst
let handle: (burst: Burst) => number

/**
 * Up to `capacity` packets. Packet `i` is `mempool.bytes[addr[i]]` and the `len[i]` bytes from there, for `i` below
 * `length`; the arrays may be read and written in place. Made by {@link Mempool.createBurst}.
 *
 * The packets in a burst belong to whoever has the burst: `rxBurst` puts packets in, `txBurst` takes those out that
 * the driver accepted, `free` and `drop` give them back to the mempool. A burst belongs to one thread and cannot be sent
 * to another. After {@link close} it is empty, and its methods throw `ERR_VRING_CLOSED`.
 */
export class Burst implements Disposable {
  /** Most packets that fit. */
  readonly capacity: number
  /** Byte position of each packet's first byte in `mempool.bytes`. */
  readonly addr: Uint32Array
  /** Bytes of each packet, all its segments together. */
  readonly len: Uint32Array
  /** Bits of each packet: see {@link PacketFlag}. */
  readonly flags: Uint32Array
  /** With `ChecksumPartial`: where in the packet what the checksum covers begins, and at `<< 16` how far behind that the checksum stands. */
  readonly csum: Uint32Array
  /** With one of `Gso…`: bytes of payload in each piece, and at `<< 16` the bytes of all headers up to and with layer 4. */
  readonly gso: Uint32Array
  /** With `Vlan`: the tag (priority, drop eligible, id). With `Hash`, at `<< 16`: the hash's type, `VIRTIO_NET_HASH_REPORT_…`. */
  readonly tag: Uint32Array
  /** With `Hash`: the receive-side scaling hash. */
  readonly hash: Uint32Array
  /** The mempool that the packets live in. */
  readonly mempool: Mempool
  readonly #head: Uint32Array
  #handle: number

  static {
    make = (mempool, made) => new Burst(mempool, made)
    handle = (burst) => burst.#handle
  }

  private constructor(mempool: Mempool, { handle, capacity, memory }: NewBurst) {
    const array = (at: number): Uint32Array =>
      new Uint32Array(memory, 4 * (HEAD_WORDS + at * capacity), capacity)
    this.mempool = mempool
    this.capacity = capacity
    this.#head = new Uint32Array(memory, 0, HEAD_WORDS)
    this.addr = array(0)
    this.len = array(1)
    this.flags = array(2)
    this.csum = array(3)
    this.gso = array(4)
    this.tag = array(5)
    this.hash = array(6)
    this.#handle = handle
  }

  /** Packets in it now. */
  get length(): number {
    return this.#head[0]!
  }

  /** Gives all packets back to the mempool. */
  free(): void {
    try {
      functions.free(this.#handle)
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * Gives packet `i` back to the mempool; the last packet moves into its place, so loop from the end. Throws
   * `ERR_VRING_OUT_OF_RANGE` when there is no packet `i`.
   */
  drop(i: number): void {
    let dropped
    try {
      dropped = functions.drop(this.#handle, i)
    } catch (error) {
      throw fromNative(error)
    }
    if (dropped === 0) this.#refuse(i)
  }

  /** Gives the packets from number `length` on back to the mempool, so that at most `length` are left. */
  truncate(length: number): void {
    if (this.#handle === CLOSED) this.#refuseMore()
    for (let i = this.length - 1; i >= length; i--) this.drop(i)
  }

  /**
   * Moves packet `i` to the end of `target`, whose it is then; the last packet moves into its place here. Throws
   * `ERR_VRING_WRONG_MEMPOOL` when `target` is of another mempool, `ERR_VRING_OUT_OF_RANGE` when it is full or there is
   * no packet `i`.
   */
  moveTo(target: Burst, i: number): void {
    const last = this.length - 1
    if (!(i >= 0 && i <= last)) this.#refuse(i)
    if (target === this) return
    if (target.mempool !== this.mempool) {
      throw new VringError(
        'ERR_VRING_WRONG_MEMPOOL',
        `expected a burst of mempool '${this.mempool.name}', got one of '${target.mempool.name}'`,
      )
    }
    const end = target.length
    if (end >= target.capacity || target.#handle === CLOSED) target.#refuseMore()
    target.#take(end, this, i)
    target.#head[0] = end + 1
    this.#take(i, this, last)
    this.#head[0] = last
  }

  /**
   * Asks for the checksum of packet `i` to be completed: it covers everything from byte `start` on and stands `offset` bytes behind that,
   * where the sum of the pseudo header (not inverted: `pseudoHeader4`, `pseudoHeader6`) was written.
   */
  setChecksumPartial(i: number, start: number, offset: number): void {
    this.csum[i] = (start & 0xffff) | (offset << 16)
    this.flags[i]! |= PacketFlag.ChecksumPartial
  }

  /**
   * Asks for packet `i` to be cut into packets with `size` bytes of payload each. All headers up to and with layer 4 are `headerLength` bytes;
   * the checksum must be partial: {@link setChecksumPartial}.
   */
  setSegmentation(i: number, kind: SegmentationKind, size: number, headerLength: number): void {
    this.gso[i] = (size & 0xffff) | (headerLength << 16)
    this.flags[i] = (this.flags[i]! & ~SEGMENTATION) | kind
  }

  /**
   * {@link setSegmentation} and {@link setChecksumPartial} from the lengths of the headers in bytes: Ethernet with its tags, IP with options or
   * extensions, TCP or UDP (DPDK's `l2_len`, `l3_len`, `l4_len`, `tso_segsz`).
   */
  setLayers(i: number, kind: SegmentationKind, size: number, l2: number, l3: number, l4: number): void {
    this.setChecksumPartial(i, l2 + l3, (kind & TCP) === 0 ? UDP_CHECKSUM : TCP_CHECKSUM)
    this.setSegmentation(i, kind, size, l2 + l3 + l4)
  }

  /** Asks for packet `i` to be sent with a VLAN tag (0x8100): priority << 13 | drop eligible << 12 | id. */
  setVlan(i: number, tci: number): void {
    const type = (this.flags[i]! & PacketFlag.Hash) === 0 ? 0 : this.tag[i]! & 0xffff_0000
    this.tag[i] = type | (tci & 0xffff)
    this.flags[i]! |= PacketFlag.Vlan
  }

  /** The VLAN tag that was taken out of packet `i`, or is to be put in; undefined when there is none. A tag in the packet is not seen. */
  vlanOf(i: number): number | undefined {
    return (this.flags[i]! & PacketFlag.Vlan) === 0 ? undefined : this.tag[i]! & 0xffff
  }

  /** The hash that packet `i` came with; undefined when it came without. */
  hashOf(i: number): number | undefined {
    return (this.flags[i]! & PacketFlag.Hash) === 0 ? undefined : this.hash[i]!
  }

  /** What the hash of packet `i` was computed of, a `VIRTIO_NET_HASH_REPORT_…`: 0 is none, 1 IPv4, 2 TCPv4, 3 UDPv4, 4 IPv6, 5 TCPv6, 6 UDPv6. */
  hashTypeOf(i: number): number {
    return (this.flags[i]! & PacketFlag.Hash) === 0 ? 0 : this.tag[i]! >>> 16
  }

  /** Forgets all that packet `i` asks for or came with: for a packet whose headers were written anew. */
  clearMetadata(i: number): void {
    this.flags[i]! &= ~META
  }

  /**
   * Walks the segments of packet `i`, in order. For the rare packet: it makes an object for each. Throws `ERR_VRING_OUT_OF_RANGE` when
   * there is no packet `i`.
   */
  *segments(i: number): Generator<Segment, void, undefined> {
    if (!(i >= 0 && i < this.length)) this.#refuse(i)
    let addr = this.addr[i]!
    if ((this.flags[i]! & PacketFlag.Multi) === 0) {
      yield { addr, len: this.len[i]! }
      return
    }
    for (let left = this.mempool.count; left > 0; left--) {
      const link = this.mempool.linkOf(addr)
      yield { addr, len: link.len }
      if (link.next === undefined) return
      addr = link.next
    }
  }

  /** A copy of packet `i`, its segments joined. For the rare packet; edit packets in `mempool.bytes`. Throws as {@link segments}. */
  bytes(i: number): Uint8Array {
    const all = [...this.segments(i)]
    const copy = new Uint8Array(all.reduce((sum, { len }) => sum + len, 0))
    let at = 0
    for (const { addr, len } of all) {
      copy.set(this.mempool.bytes.subarray(addr, addr + len), at)
      at += len
    }
    return copy
  }

  /**
   * Appends a packet with these bytes, copied into fresh buffers: as many segments as it takes. False, and nothing
   * changed, when the burst is full or the mempool has not enough free buffers. Not for the data path. Throws
   * `ERR_VRING_OUT_OF_RANGE` for more bytes than a packet of this mempool can have.
   */
  push(data: Uint8Array): boolean {
    if (!((data as unknown) instanceof Uint8Array)) invalid('a Uint8Array', data)
    const { mempool } = this
    const room = mempool.bufferSize - mempool.headroom
    const count = Math.max(1, Math.ceil(data.length / room))
    const at = this.length
    if (this.#handle === CLOSED) this.#refuseMore()
    if (count > MAX_SEGMENTS) this.#refuseLong(data.length, MAX_SEGMENTS * room)
    if (at >= this.capacity) return false
    const first = count === 1 ? this.#allocOne() : this.#allocChain(count, data.length, room)
    if (first === undefined) return false
    let addr = first
    for (let from = 0; from < data.length; from += room) {
      mempool.bytes.set(data.subarray(from, from + room), addr)
      if (from + room < data.length) addr = mempool.linkOf(addr).next!
    }
    this.#write(at, first, data.length, count === 1 ? 0 : PacketFlag.Multi)
    this.#head[0] = at + 1
    return true
  }

  #allocOne(): number | undefined {
    const at = this.length
    if (this.mempool.alloc(this, 1) === 0) return undefined
    this.#head[0] = at
    return this.addr[at]!
  }

  /** Takes `count` buffers and links them; the first one's address. */
  #allocChain(count: number, length: number, room: number): number | undefined {
    using parts = this.mempool.createBurst(count)
    const got = this.mempool.alloc(parts, count)
    if (got < count) return undefined
    const { addr } = parts
    for (let i = 0; i < count; i++) {
      this.mempool.link(addr[i]!, Math.min(room, length - i * room), i + 1 < count ? addr[i + 1]! : undefined)
    }
    const first = addr[0]!
    parts.#head[0] = 0
    return first
  }

  #write(i: number, addr: number, len: number, flags: number): void {
    this.addr[i] = addr
    this.len[i] = len
    this.flags[i] = flags
  }

  /** Entry `i` becomes entry `from` of `source`. The metadata is copied if there is any: its lines are not touched otherwise. */
  #take(i: number, source: Burst, from: number): void {
    const flags = source.flags[from]!
    this.#write(i, source.addr[from]!, source.len[from]!, flags)
    if ((flags & META) === 0) return
    this.csum[i] = source.csum[from]!
    this.gso[i] = source.gso[from]!
    this.tag[i] = source.tag[from]!
    this.hash[i] = source.hash[from]!
  }

  #refuseLong(length: number, most: number): never {
    const { bufferSize } = this.mempool
    throw new VringError(
      'ERR_VRING_OUT_OF_RANGE',
      `expected at most ${most} bytes (${MAX_SEGMENTS} segments in buffers of ${bufferSize}), got ${length}; use larger buffers`,
    )
  }

  #refuse(i: number): never {
    if (this.#handle === CLOSED) this.#refuseMore()
    throw new VringError('ERR_VRING_OUT_OF_RANGE', `expected a packet number below ${this.length}, got ${i}`)
  }

  #refuseMore(): never {
    if (this.#handle !== CLOSED) {
      throw new VringError(
        'ERR_VRING_OUT_OF_RANGE',
        `expected a burst with room, got one with ${this.length} packets`,
      )
    }
    throw new VringError('ERR_VRING_CLOSED', 'expected a burst that is open, but it was closed')
  }

  /** Gives its packets back to the mempool and ends it. Closing twice is no error. A burst that is collected is closed. */
  close(): void {
    if (this.#handle !== CLOSED) native.closeBurst(this.#handle)
    this.#handle = CLOSED
  }

  /** The same as {@link close}: for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

/** Makes the class's objects, for the mempool. */
export const makeBurst = (mempool: Mempool, made: NewBurst): Burst => make(mempool, made)

/** The number that native functions know a burst by. */
export const handleOf = (burst: Burst): number => handle(burst)

/** The error for what a native function threw that got `burst`. */
export function burstError(thrown: unknown, burst: Burst): unknown {
  if (thrown instanceof TypeError && !((burst as unknown) instanceof Burst)) invalid('a Burst', burst)
  return fromNative(thrown, burstError)
}
