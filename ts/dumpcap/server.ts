/** Lets `vring dumpcap` capture on this program's ports. */
import { unlinkSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { Capture, type CaptureOptions } from '../capture.ts'
import { VringError } from '../errors.ts'
import type { Port } from '../port.ts'
import type { RxQueue, TxQueue } from '../queue.ts'
import {
  type Answer,
  type CaptureRequest,
  type InterfaceStats,
  LONGEST_LINE,
  parseLine,
  type Request,
} from './protocol.ts'

/** Ended captures whose numbers can still be asked for. */
const REMEMBERED = 64

function answer(socket: Socket, what: Answer): void {
  socket.write(`${JSON.stringify(what)}\n`)
}

function failure(error: unknown): Answer {
  const code = error instanceof VringError ? error.code : 'ERR_VRING_INTERNAL'
  return { error: { code, message: error instanceof Error ? error.message : String(error) } }
}

/** Whether somebody listens there. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** See the module. Only this user may connect. */
export class DumpcapServer implements AsyncDisposable {
  readonly path: string
  readonly #server: Server
  readonly #ports: () => readonly Port[]
  readonly #running = new Map<number, Capture>()
  readonly #ended = new Map<number, readonly InterfaceStats[]>()
  readonly #sockets = new Set<Socket>()
  #next = 1

  private constructor(path: string, ports: () => readonly Port[]) {
    this.path = path
    this.#ports = ports
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#connected(socket))
    this.#server.unref()
  }

  /** Listens at `path`; a socket that nobody listens on any more is replaced. Rejects when somebody does. */
  static async listen(path: string, ports: () => readonly Port[]): Promise<DumpcapServer> {
    const server = new DumpcapServer(path, ports)
    if (await isAlive(path)) {
      throw new VringError(
        'ERR_VRING_SOCKET_IN_USE',
        `expected ${path} to be free, but another program listens there: give each program a file prefix of its own`,
      )
    }
    try {
      unlinkSync(path)
    } catch {
      // There was none.
    }
    const mask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.#server.once('error', reject).listen(path, () => resolve())
      })
    } finally {
      process.umask(mask)
    }
    return server
  }

  #connected(socket: Socket): void {
    this.#sockets.add(socket)
    let line = ''
    const read = (chunk: Buffer): void => {
      line += chunk.toString('utf8')
      const end = line.indexOf('\n')
      if (end < 0 && line.length <= LONGEST_LINE) return
      socket.off('data', read).resume()
      const request = end < 0 ? undefined : (parseLine(line.slice(0, end)) as Request | undefined)
      void this.#serve(socket, request)
    }
    socket.on('data', read)
    socket.on('error', () => socket.destroy()).on('close', () => this.#sockets.delete(socket))
  }

  async #serve(socket: Socket, request: Request | undefined): Promise<void> {
    try {
      switch (request?.ask) {
        case 'list':
          answer(socket, { interfaces: this.#ports().map(({ id, name }) => ({ id, name })) })
          break
        case 'stats':
          answer(socket, { stats: this.#stats(request.id) })
          break
        case 'capture':
          await this.#capture(socket, request)
          return
        case undefined:
        default:
          throw new VringError(
            'ERR_VRING_INVALID_ARGUMENT',
            'expected a line of JSON that asks for list, stats or capture',
          )
      }
    } catch (error) {
      answer(socket, failure(error))
    }
    socket.end()
  }

  #port(wanted: string): Port {
    const ports = this.#ports()
    const port = ports.find(({ name }) => name === wanted) ?? ports.find(({ id }) => String(id) === wanted)
    if (port !== undefined) return port
    const known = ports.map(({ id, name }) => `${id} (${name})`).join(', ')
    throw new VringError('ERR_VRING_INVALID_ARGUMENT', `expected one of the ports ${known}, got '${wanted}'`)
  }

  #queues(request: CaptureRequest): readonly (RxQueue | TxQueue)[] {
    const wanted = <T extends RxQueue | TxQueue>(queues: readonly T[]): readonly T[] =>
      queues.filter(({ index }) => request.queues?.includes(index) ?? true)
    const ports = [...new Set(request.interfaces.map((name) => this.#port(name)))]
    const received = request.direction === 'out' ? [] : ports.flatMap((port) => wanted(port.rxQueues))
    const sent = request.direction === 'in' ? [] : ports.flatMap((port) => wanted(port.txQueues))
    const all = [...received, ...sent]
    if (all.length > 0) return all
    throw new VringError('ERR_VRING_INVALID_ARGUMENT', 'none of the ports has such a queue')
  }

  async #capture(socket: Socket, request: CaptureRequest): Promise<void> {
    const { snaplen, filter, format, limit, buffer } = request
    const given = Object.entries({ snaplen, filter, format, limit, buffer }).filter(
      ([, value]) => value !== undefined,
    )
    const capture = await Capture.start(this.#queues(request), Object.fromEntries(given) as CaptureOptions)
    const id = this.#next++
    this.#running.set(id, capture)
    answer(socket, { id })
    socket.once('end', () => capture.stop()).once('close', () => capture.stream.destroy())
    // A client that had gone before we listened.
    if (socket.destroyed) capture.stream.destroy()
    capture.stream.once('close', () => {
      this.#ended.set(id, this.#stats(id))
      this.#running.delete(id)
      for (const old of this.#ended.keys()) {
        if (this.#ended.size > REMEMBERED) this.#ended.delete(old)
      }
    })
    capture.stream.pipe(socket)
  }

  #stats(id: number): readonly InterfaceStats[] {
    const capture = this.#running.get(id)
    if (capture === undefined) return this.#ended.get(id) ?? []
    const ports = new Map<string, InterfaceStats>()
    for (const { queue, captured, filtered, dropped } of capture.stats()) {
      const name = queue.split(' ')[0]!
      const before = ports.get(name) ?? { name, captured: 0, filtered: 0, dropped: 0 }
      ports.set(name, {
        name,
        captured: before.captured + captured,
        filtered: before.filtered + filtered,
        dropped: before.dropped + dropped,
      })
    }
    return [...ports.values()]
  }

  /** Ends all captures and listens no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#running.values()].map((capture) => capture[Symbol.asyncDispose]()))
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const socket of this.#sockets) socket.end()
    await closed
  }
}
