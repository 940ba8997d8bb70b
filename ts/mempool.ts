/** Mempools: the memory that packets live in. */
import type { MempoolHandle } from '../index.js'
import { native } from './binding.ts'
import { type Burst, burstError, handleOf, makeBurst } from './burst.ts'
import { attempt, invalid, VringError } from './errors.ts'

/** What to make a {@link Mempool} of. */
export interface MempoolOptions {
  /** Shown in errors; default `mbuf_pool`. */
  readonly name?: string
  /** Buffers; default 16384. Together they take at most 4 GiB. */
  readonly count?: number
  /** Bytes of a buffer with its 128 bytes of headroom, 256 to 65535; default 2176, which holds 2048 bytes of packet. */
  readonly bufferSize?: number
  /** Free buffers that each thread keeps at hand, 0 to 512; default 256. */
  readonly cacheSize?: number
  /** Pages to lie on. `auto` (default): hugepages of 2 MiB if enough are free, else ordinary pages. */
  readonly pages?: 'auto' | '4K' | '2M' | '1G'
}

/** "No further segment". */
const NO_SEGMENT = 0xffff_ffff

/** This thread's objects, by the number of their pool. */
const pools = new Map<number, WeakRef<Mempool>>()
const forget = new FinalizationRegistry<number>((id) => {
  if (pools.get(id)?.deref() === undefined) pools.delete(id)
})

let adopt: (handle: MempoolHandle) => Mempool
let peek: (mempool: Mempool) => MempoolHandle | undefined

/**
 * One region of shared memory, cut into equal buffers. All packets of a forwarding application live in one mempool.
 * Closing it, or letting it be collected, gives back what this object holds; ports that were opened with it and bursts
 * hold on to the memory themselves.
 */
export class Mempool implements Disposable {
  /** As given. */
  readonly name: string
  /** Buffers, free or not. */
  readonly count: number
  /** Bytes of a buffer with its headroom. */
  readonly bufferSize: number
  /** Bytes before the data of a fresh packet. */
  readonly headroom: number
  /** Bytes of a page of the memory that it really got: 4096, 2 MiB or 1 GiB. */
  readonly pageSize: number
  readonly #stride: number
  #handle: MempoolHandle | undefined
  #bytes: Uint8Array | undefined
  #view: DataView | undefined
  #links: Uint32Array | undefined
  #alloc: ((burst: number, wanted: number) => number) | undefined

  static {
    // The constructor takes a handle too; that is for nobody else to know.
    adopt = (handle) => new Mempool(handle as MempoolOptions)
    peek = (mempool) => mempool.#handle
  }

  /**
   * Makes a mempool with all buffers free and every page present.
   *
   * Throws `ERR_VRING_OUT_OF_RANGE` for a value out of its range, `ERR_VRING_INVALID_ARGUMENT` for one of the wrong type,
   * `ERR_VRING_NO_HUGEPAGES` when `pages` demands hugepages that are not free, `ERR_VRING_NO_MEMORY` when the machine has not that much
   * memory, `ERR_VRING_NO_SHARED_MEMORY` in a runtime that cannot show native memory to scripts.
   */
  constructor(options: MempoolOptions = {}) {
    const handle =
      options instanceof native.MempoolHandle ? options : attempt(() => native.createMempool(options))
    const { id, name, count, bufferSize, stride, headroom, pageSize } = handle.facts()
    this.name = name
    this.count = count
    this.bufferSize = bufferSize
    this.headroom = headroom
    this.pageSize = pageSize
    this.#stride = stride
    this.#handle = handle
    attempt(() => {
      const memory = handle.memory()
      this.#bytes = new Uint8Array(memory)
      this.#view = new DataView(memory)
      this.#alloc = handle.allocFunction()
    })
    pools.set(id, new WeakRef(this))
    forget.register(this, id)
  }

  get #open(): MempoolHandle {
    return this.#handle ?? refuse(this.name)
  }

  /** The whole region: a packet lies at `bytes[burst.addr[i]]` and the `burst.len[i]` bytes from there. */
  get bytes(): Uint8Array {
    return this.#bytes ?? refuse(this.name)
  }

  /** The whole region, for numbers of several bytes. */
  get view(): DataView {
    return this.#view ?? refuse(this.name)
  }

  /** Buffers that are free now, those at hand of threads included. Exact while no packet moves. */
  get freeCount(): number {
    return this.#open.freeCount()
  }

  /**
   * Appends up to `n` fresh packets of length 0 to the burst, whose they are then; how many there were: fewer than `n` when the burst
   * is full or no more buffers are free. Their data goes to `bytes` from `burst.addr[i]` on, at most `bufferSize - headroom` bytes;
   * set `burst.len[i]` afterwards. Throws `ERR_VRING_WRONG_MEMPOOL`, `ERR_VRING_CLOSED`.
   */
  alloc(burst: Burst, n: number): number {
    try {
      return (this.#alloc ?? refuse(this.name))(handleOf(burst), n)
    } catch (error) {
      throw burstError(error, burst)
    }
  }

  /**
   * A new empty burst for `capacity` packets, 1 to 512, default 32. For this thread; close it when it is not used any more. Throws
   * `ERR_VRING_OUT_OF_RANGE`, `ERR_VRING_TOO_MANY_BURSTS` (4096 of them in the process), `ERR_VRING_CLOSED`.
   */
  createBurst(capacity = 32): Burst {
    return attempt(() => makeBurst(this, this.#open.createBurst(capacity)))
  }

  get #segmentLinks(): Uint32Array {
    return (this.#links ??= new Uint32Array(this.#open.segments()))
  }

  /**
   * How a packet of several segments goes on behind the buffer that `addr` lies in: bytes of this segment, address of
   * the next. For those who build or take apart such packets themselves; {@link Burst.segments} walks them. Throws
   * `ERR_VRING_OUT_OF_RANGE` for an address outside of the mempool.
   */
  linkOf(addr: number): { readonly len: number; readonly next: number | undefined } {
    const links = this.#segmentLinks
    const at = 2 * Math.floor(addr / this.#stride)
    if (!(at >= 0 && at < links.length)) this.#refuseAddress(addr)
    const next = links[at]!
    return { len: links[at + 1]!, next: next === NO_SEGMENT ? undefined : next }
  }

  /**
   * Says that the segment at `addr` has `len` bytes, and where the packet goes on; `undefined`: it ends there. A packet has at most 256
   * segments; its first one stands in the burst, with {@link PacketFlag}'s `Multi`. Throws as {@link linkOf}.
   */
  link(addr: number, len: number, next: number | undefined): void {
    const links = this.#segmentLinks
    const at = 2 * Math.floor(addr / this.#stride)
    if (!(at >= 0 && at < links.length)) this.#refuseAddress(addr)
    links[at] = next ?? NO_SEGMENT
    links[at + 1] = len
  }

  #refuseAddress(addr: number): never {
    const end = (this.#links!.length / 2) * this.#stride
    throw new VringError('ERR_VRING_OUT_OF_RANGE', `expected an address below ${end}, got ${addr}`)
  }

  /**
   * Takes the memory away from this object: `bytes`, `view` and every view of the same buffer are empty from now on. Ports that were
   * opened with it go on and give the memory back when they are closed. Closing twice is no error.
   */
  close(): void {
    if (this.#bytes !== undefined) native.detach(this.#bytes.buffer as ArrayBuffer)
    if (this.#links !== undefined) native.detach(this.#links.buffer as ArrayBuffer)
    this.#handle?.close()
    this.#bytes = this.#view = this.#links = this.#alloc = this.#handle = undefined
  }

  /** The same as {@link close}: for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

/** This thread's object for a pool of the addon's: always the same one while it is in use. */
export function mempoolFor(handle: MempoolHandle): Mempool {
  const known = pools.get(handle.facts().id)?.deref()
  return known !== undefined && peek(known) !== undefined ? known : adopt(handle)
}

/** The addon's object of a mempool. Throws `ERR_VRING_CLOSED`, and `ERR_VRING_INVALID_ARGUMENT` for what is no mempool. */
export function poolHandleOf(mempool: Mempool): MempoolHandle {
  if (!((mempool as unknown) instanceof Mempool)) invalid('a Mempool', mempool)
  return peek(mempool) ?? refuse(mempool.name)
}

function refuse(name: string): never {
  throw new VringError(
    'ERR_VRING_CLOSED',
    `expected an open mempool, but '${name}' was closed; make another one`,
  )
}
