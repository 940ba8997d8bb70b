/** The files of a capture: one, several that follow each other, a ring of them, or a pipe. */
import { createWriteStream, unlinkSync, type WriteStream } from 'node:fs'
import { parse } from 'node:path'
import type { Records, Sink } from './records.ts'

/** When a file is full, or the capture done. */
export interface Bounds {
  /** Bytes of a file. */
  readonly bytes?: number
  /** Seconds. */
  readonly seconds?: number
  /** Packets. */
  readonly packets?: number
  /** Files: of a ring the oldest is removed, else the capture ends after so many. */
  readonly files?: number
}

/** Bytes that wait to be written before the capture is asked to wait. */
const ENOUGH = 4 << 20

/** The time as a part of a file's name: `20261124153000`. */
export function timeStamp(): string {
  return new Date().toISOString().replaceAll(/[-:T]|\..*/g, '')
}

/** `name_00001_20261124153000.pcapng`, as Wireshark's dumpcap calls them. */
function nameOf(path: string, number: number): string {
  const { dir, name, ext } = parse(path)
  return `${dir === '' ? '' : `${dir}/`}${name}_${String(number).padStart(5, '0')}_${timeStamp()}${ext}`
}

/** See the module. */
export class Files implements Sink {
  /** The files that are there, in their order. */
  readonly names: string[] = []
  /** Packets written. */
  packets = 0
  readonly #path: string
  readonly #records: Records
  /** Undefined: one file. */
  readonly #ring: Bounds | undefined
  readonly #autostop: Bounds
  readonly #done: (error?: Error) => void
  #out: NodeJS.WritableStream & { readonly writableLength: number }
  #file: WriteStream | undefined
  /** Of each file that is complete, or about to be: it is there once it was opened, which a stream does later. */
  #closing: Promise<void>[] = []
  #number = 0
  #bytes = 0
  #inFile = 0
  #since = 0
  #ended = false

  /** `done` is called when the capture should end: bounds are reached, or a file cannot be written. */
  constructor(
    path: string,
    records: Records,
    ring: Bounds | undefined,
    autostop: Bounds,
    done: (error?: Error) => void,
  ) {
    ;[this.#path, this.#records, this.#ring, this.#autostop, this.#done] = [
      path,
      records,
      ring,
      autostop,
      done,
    ]
    this.#out = this.#open()
  }

  #open(): NodeJS.WritableStream & { readonly writableLength: number } {
    ;[this.#bytes, this.#inFile, this.#since] = [0, 0, performance.now()]
    this.#number++
    const failed = (error: NodeJS.ErrnoException): void => {
      this.#ended = true
      // Who reads a pipe and has enough ends the capture: that is no error.
      this.#done(error.code === 'EPIPE' ? undefined : error)
    }
    if (this.#path === '-') {
      process.stdout.on('error', failed)
      return process.stdout
    }
    const name = this.#ring === undefined ? this.#path : nameOf(this.#path, this.#number)
    this.names.push(name)
    this.#file = createWriteStream(name).on('error', failed)
    return this.#file
  }

  /** Whether the bytes that wait are enough for now. */
  get isFull(): boolean {
    return this.#out.writableLength > ENOUGH
  }

  /** Resolves when there is room again. */
  async drained(): Promise<void> {
    if (!this.isFull || this.#ended) return
    await new Promise<void>((resolve) =>
      this.#out.once('drain', () => resolve()).once('error', () => resolve()),
    )
  }

  fits(size: number, bytes: number, packets: number): boolean {
    const { seconds = Infinity, bytes: most = Infinity, packets: count = Infinity } = this.#ring ?? {}
    if (this.#inFile + packets === 0) return true
    if (this.#inFile + packets >= count || this.#bytes + bytes + size > most) return false
    return performance.now() - this.#since < seconds * 1000
  }

  next(): void {
    const { files = Infinity } = this.#autostop
    if (this.#number >= files) {
      this.#finish()
      return
    }
    this.#close()
    const { files: kept = Infinity } = this.#ring ?? {}
    this.#out = this.#open()
    while (this.names.length > kept) this.#remove(this.names.shift()!)
  }

  #remove(name: string): void {
    const all = Promise.all(this.#closing)
    this.#closing = [all.then(() => unlinkSync(name))]
  }

  write(bytes: Buffer, packets: number): void {
    if (this.#ended) return
    if (this.#bytes === 0) {
      this.#out.write(this.#records.head)
      this.#bytes = this.#records.head.length
    }
    // The bytes are the caller's, and a stream writes later.
    this.#out.write(Buffer.from(bytes))
    this.#bytes += bytes.length
    this.#inFile += packets
    this.packets += packets
    const { bytes: most = Infinity } = this.#autostop
    if (this.#bytes >= most && this.#ring === undefined) this.#finish()
  }

  #finish(): void {
    this.#ended = true
    this.#done()
  }

  #close(): void {
    const file = this.#file
    if (file !== undefined) {
      this.#closing.push(new Promise((resolve) => file.end(() => resolve()).once('error', () => resolve())))
    }
    this.#file = undefined
  }

  /** Closes the last file; a capture without a packet still has its head. Resolves when all is written. */
  async end(): Promise<void> {
    if (this.#bytes === 0 && !this.#ended) this.#out.write(this.#records.head)
    this.#close()
    if (this.#path === '-') await new Promise<void>((resolve) => process.stdout.write('', () => resolve()))
    await Promise.all(this.#closing)
  }
}
