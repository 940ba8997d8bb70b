/** What all header views have: the mempool's memory and a position in it. */
import type { Mempool } from '../mempool.ts'

/**
 * A view of a header in a mempool's memory: one object, moved from packet to packet with {@link at}, that allocates nothing.
 * It checks no lengths: whether the packet is long enough for the header, and in one segment, is for the caller to look at first.
 * Numbers are ordinary ones, whatever the order of their bytes in the packet. It must not be used after the mempool is closed: there is
 * nothing there, and most uses throw a `TypeError`.
 */
export abstract class HeaderView {
  /** Byte position of the header's first byte in `mempool.bytes`. */
  addr = 0
  /** The mempool's memory. */
  protected readonly bytes: Uint8Array
  /** The same, for numbers of several bytes. */
  protected readonly view: DataView

  /** A view of headers in that mempool. Throws `ERR_VRING_CLOSED`. */
  constructor(mempool: Mempool) {
    this.bytes = mempool.bytes
    this.view = mempool.view
  }

  /** Moves the view to the header that begins at `addr`. */
  at(addr: number): this {
    this.addr = addr
    return this
  }
}
