// A cable between a test and a device of QEMU's: `-netdev stream` over a unix socket, each frame behind its length.
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'

export class Wire implements AsyncDisposable {
  readonly received: Buffer[] = []
  readonly #path: string
  readonly #server: Server
  #socket: Socket | undefined
  #rest: Buffer = Buffer.alloc(0)

  private constructor(path: string) {
    this.#path = path
    this.#server = createServer((socket) => {
      this.#socket = socket
      socket.on('error', () => {}) // QEMU has ended: who waits for a frame runs out of time
      socket.on('data', (data) => this.#take(data))
    }).listen(path)
  }

  static listen(path: string): Wire {
    return new Wire(path)
  }

  /** QEMU's arguments for a network device at the PCI slot `slot` on this cable. */
  nic(id: string, slot: number, device: Readonly<Record<string, string | number>> = {}): string[] {
    const all = { addr: slot.toString(16), ...device }
    const properties = Object.entries(all).map(([name, value]) => `,${name}=${value}`)
    return [
      ...['-netdev', `stream,id=${id}-net,server=off,addr.type=unix,addr.path=${this.#path}`],
      ...['-device', `virtio-net-pci,id=${id},netdev=${id}-net${properties.join('')}`],
    ]
  }

  /** Sends frames; resolves when they are the socket's. */
  async send(frames: readonly Buffer[]): Promise<void> {
    for (const frame of frames) {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(frame.length)
      if (this.#socket?.write(Buffer.concat([length, frame])) === false)
        await new Promise((resolve) => this.#socket!.once('drain', resolve))
    }
  }

  /** Waits until so many frames have come, and takes them all. */
  async take(count: number, timeout = 60_000): Promise<readonly Buffer[]> {
    const signal = AbortSignal.timeout(timeout)
    while (this.received.length < count) {
      try {
        await once(this.#server, 'frames', { signal })
      } catch {
        const came = this.received.length
        throw new Error(`${came} of ${count} frames came within ${timeout} ms (${this.#path})`)
      }
    }
    return this.received.splice(0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** What comes is cut into frames; a frame that is not whole waits for the rest. */
  #take(data: Buffer): void {
    let rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data])
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0)
      this.received.push(rest.subarray(4, end))
      rest = rest.subarray(end)
    }
    this.#rest = rest
    this.#server.emit('frames')
  }
}

/** Frames of all lengths that say which they are, from the station `from`. */
export function numbered(count: number, from = 1, to = 'ffffffffffff'): readonly Buffer[] {
  return Array.from({ length: count }, (_, i) => {
    const frame = Buffer.alloc(60 + ((i * 37) % 1455), i)
    frame.write(`${to}0200000000${from.toString(16).padStart(2, '0')}88b5`, 'hex')
    frame.writeUInt32BE(i, 14)
    return frame
  })
}
