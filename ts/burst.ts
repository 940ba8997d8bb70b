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

/** Bits of {@link Burst.flags}. */
export const PacketFlag = {
  /** The packet has several segments: {@link Burst.segments} walks them. */
  Multi: 1,
} as const

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
    target.#write(end, this.addr[i]!, this.len[i]!, this.flags[i]!)
    target.#head[0] = end + 1
    this.#write(i, this.addr[last]!, this.len[last]!, this.flags[last]!)
    this.#head[0] = last
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
