/** A capture's bytes, cut into what may stand in a file by itself: its head, and packets. */

/** Where records go. */
export interface Sink {
  /** Whether a record of so many bytes goes into the file that already gets `bytes` and `packets` more. */
  fits(size: number, bytes: number, packets: number): boolean
  /** The next record begins another file. */
  next(): void
  /** Bytes of whole records, and how many packets are among them. They are good until the next chunk. */
  write(bytes: Buffer, packets: number): void
}

const SECTION_HEADER = 0x0a0d0d0a
const INTERFACE = 1
const ENHANCED_PACKET = 6

/** Finds the borders of records in a stream: little-endian, as our own captures are. */
export class Records {
  readonly #format: 'pcapng' | 'pcap'
  #rest: Buffer = Buffer.alloc(0)
  #head: Buffer = Buffer.alloc(0)
  #headDone = false

  constructor(format: 'pcapng' | 'pcap') {
    this.#format = format
  }

  /** What each file begins with; complete when the first packet came. */
  get head(): Buffer {
    return this.#head
  }

  /** Bytes of the record at `at`, 0 when not all of it is there. */
  #size(bytes: Buffer, at: number): number {
    const left = bytes.length - at
    if (this.#format === 'pcap') {
      if (this.#head.length === 0) return left < 24 ? 0 : 24
      if (left < 16) return 0
      const size = 16 + bytes.readUInt32LE(at + 8)
      return left < size ? 0 : size
    }
    if (left < 8) return 0
    const size = bytes.readUInt32LE(at + 4)
    return left < size ? 0 : size
  }

  #isHead(bytes: Buffer, at: number): boolean {
    if (this.#headDone) return false
    if (this.#format === 'pcap') return this.#head.length === 0
    const kind = bytes.readUInt32LE(at)
    return kind === SECTION_HEADER || kind === INTERFACE
  }

  /** Takes in the next bytes of the stream, and gives the records that are whole now to the sink. */
  push(chunk: Buffer, sink: Sink): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let [at, from, packets] = [0, 0, 0]
    const flush = (): void => {
      if (at > from) sink.write(bytes.subarray(from, at), packets)
      ;[from, packets] = [at, 0]
    }
    for (let size = this.#size(bytes, at); size > 0; size = this.#size(bytes, at)) {
      if (this.#isHead(bytes, at)) {
        this.#head = Buffer.concat([this.#head, bytes.subarray(at, at + size)])
        at += size
        from = at
        continue
      }
      this.#headDone = true
      const isPacket = this.#format === 'pcap' || bytes.readUInt32LE(at) === ENHANCED_PACKET
      if (isPacket && !sink.fits(size, at - from, packets)) {
        flush()
        sink.next()
      }
      at += size
      packets += Number(isPacket)
    }
    flush()
    this.#rest = Buffer.from(bytes.subarray(at))
  }
}
