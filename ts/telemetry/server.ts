/** The telemetry socket: connections, and commands by name. */
import type { MessageListener, MessageSocket, Waiter } from '../../index.js'
import { native, version } from '../binding.ts'
import { attempt, VringError } from '../errors.ts'
import type { Port } from '../port.ts'
import { ealCommands } from './eal.ts'
import { ethdevCommands } from './ethdev.ts'
import { answer, type TelemetryValue } from './json.ts'
import { mempoolCommands } from './mempool.ts'
import { DEFAULT_PREFIX, makeRuntimeDirectory } from './runtime.ts'

/** Answers a command: `parameters` is what stands behind the command's first comma. `null`: there is no such thing. */
export type TelemetryHandler = (parameters: string | undefined) => TelemetryValue

/** A command. */
export interface TelemetryCommand {
  /** `/ethdev/stats`. */
  readonly name: string
  /** What it gives, and its parameters. */
  readonly help: string
  readonly handler: TelemetryHandler
}

/** How {@link Telemetry.listen} listens, and what it tells. */
export interface TelemetryOptions {
  /** The ports that are told of, asked for at each query. */
  readonly ports: () => Iterable<Port>
  /** DPDK's name for the program: a part of the socket's path; default `rte`. */
  readonly filePrefix?: string
  /** The command line of the program, for `/eal/params`; default that of the process. */
  readonly params?: readonly string[]
  /** The rest of the command line, for `/eal/app_params`; default nothing. */
  readonly appParams?: readonly string[]
  /** The processors of each lcore, by its number, for `/eal/lcore/list` and `/eal/lcore/info`; default none. */
  readonly lcores?: ReadonlyMap<number, readonly number[]>
}

const SOCKET = 'dpdk_telemetry.v2'
/** More than DPDK's 16 KiB, since clients ask: the extended statistics of many queues are longer. */
const LONGEST_ANSWER = 128 << 10
/** Longest name of a command, and most connections, as in DPDK. */
const LONGEST_NAME = 55
const MOST_CONNECTIONS = 10
/** How long no connection is taken when the process has no descriptor left for one. */
const RETRY_MILLISECONDS = 200
/** How many programs with the same prefix find a socket name of their own. */
const MOST_INSTANCES = 64

interface Connection {
  readonly socket: MessageSocket
  readonly waiter: Waiter
}

/**
 * A socket that speaks version 2 of DPDK's telemetry protocol, at the place where DPDK's programs have theirs: `dpdk-telemetry.py` and
 * what else reads DPDK's statistics finds it. Queries are answered by the thread that made it, from the ports' counters.
 */
export class Telemetry implements Disposable {
  /** Where it listens. A further program with the same prefix has `:1` behind it, `:2`, … */
  readonly path: string
  readonly #listener: MessageListener
  readonly #waiter: Waiter
  readonly #commands = new Map<string, TelemetryCommand>()
  readonly #connections = new Set<Connection>()
  #closed = false

  private constructor(path: string, listener: MessageListener, options: TelemetryOptions) {
    this.path = path
    this.#listener = listener
    const own: readonly TelemetryCommand[] = [
      {
        name: '/',
        help: 'Returns list of available commands. Takes no parameters',
        handler: () => this.#names(),
      },
      {
        name: '/info',
        help: 'Returns version, process and longest answer. Takes no parameters',
        handler: () => this.#info,
      },
      {
        name: '/help',
        help: 'Returns help text for a command. Parameters: string command',
        handler: (name) => this.#help(name),
      },
    ]
    const all = [
      ...own,
      ...ealCommands(options),
      ...ethdevCommands(options.ports),
      ...mempoolCommands(options.ports),
    ]
    for (const command of all) this.#commands.set(command.name, command)
    this.#waiter = listener.waiter()
    this.#waiter.unref()
    this.#accept()
  }

  /**
   * Makes the socket and listens. It does not keep the process alive. Throws `ERR_VRING_PERMISSION` where this user cannot make it,
   * `ERR_VRING_SOCKET_IN_USE` when too many programs have the same prefix, `ERR_VRING_PATH_TOO_LONG`.
   */
  static listen(options: TelemetryOptions): Telemetry {
    const first = `${makeRuntimeDirectory(options.filePrefix ?? DEFAULT_PREFIX)}/${SOCKET}`
    for (let instance = 0; ; instance++) {
      const path = instance === 0 ? first : `${first}:${instance}`
      try {
        const listener = attempt(() => native.listenForMessages(path, LONGEST_ANSWER))
        return new Telemetry(path, listener, options)
      } catch (error) {
        const taken = error instanceof VringError && error.code === 'ERR_VRING_SOCKET_IN_USE'
        if (!taken || instance + 1 === MOST_INSTANCES) throw error
      }
    }
  }

  /**
   * Adds a command, or changes one: `register('/app/answers', 'Returns how many there were', () => 42)`. Names are letters, digits, `_` and
   * `/`, up to 55 of them; else throws `ERR_VRING_INVALID_ARGUMENT`.
   */
  register(name: string, help: string, handler: TelemetryHandler): void {
    if (!/^\/[\w/]*$/.test(name) || name.length > LONGEST_NAME) {
      const expected = `expected a name like /app/list of up to ${LONGEST_NAME} letters, digits, _ and /`
      throw new VringError('ERR_VRING_INVALID_ARGUMENT', `${expected}, got '${name}'`)
    }
    this.#commands.set(name, { name, help, handler })
  }

  /** Ends all connections and removes the socket. Closing twice is no error. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#waiter.close()
    this.#listener.close()
    for (const connection of this.#connections) this.#end(connection)
  }

  /** The same as {@link close}: for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  get #info(): TelemetryValue {
    return { version: `vring ${version}`, pid: process.pid, max_output_len: LONGEST_ANSWER }
  }

  #names(): readonly string[] {
    return [...this.#commands.keys()].toSorted()
  }

  #help(name: string | undefined): TelemetryValue {
    if (name === undefined) return this.#commands.get('/help')!.help
    const command = this.#commands.get(name)
    return command === undefined ? null : { [name]: command.help }
  }

  /** One connection at a time: whoever dials in a loop does not keep the others from being served. */
  #accept(): void {
    this.#waiter.arm(() => {
      if (this.#closed) return
      try {
        const socket = this.#listener.accept()
        if (socket !== null) this.#greet(socket)
        this.#accept()
      } catch {
        // Out of descriptors: the connection goes on waiting, and the listener stays readable.
        setTimeout(() => this.#closed || this.#accept(), RETRY_MILLISECONDS).unref()
      }
    })
  }

  #greet(socket: MessageSocket): void {
    if (this.#connections.size >= MOST_CONNECTIONS || !socket.send(JSON.stringify(this.#info))) {
      socket.close()
      return
    }
    const waiter = socket.waiter()
    waiter.unref()
    const connection = { socket, waiter }
    this.#connections.add(connection)
    this.#listen(connection)
  }

  #listen(connection: Connection): void {
    connection.waiter.arm(() => {
      const request = connection.socket.receive()
      const goes = request === null || (request !== '' && connection.socket.send(this.#answer(request)))
      if (goes) this.#listen(connection)
      else this.#end(connection)
    })
  }

  #end(connection: Connection): void {
    connection.waiter.close()
    connection.socket.close()
    this.#connections.delete(connection)
  }

  #answer(request: string): string {
    const comma = request.indexOf(',')
    const name = (comma < 0 ? request : request.slice(0, comma)).slice(0, LONGEST_NAME)
    const parameters = comma < 0 || comma + 1 === request.length ? undefined : request.slice(comma + 1)
    return answer(name, this.#valueOf(name, parameters), LONGEST_ANSWER)
  }

  #valueOf(name: string, parameters: string | undefined): TelemetryValue {
    try {
      return this.#commands.get(name)?.handler(parameters) ?? null
    } catch {
      // A port that is closed at this moment, or a command that a script has added and that fails: as in DPDK, there is no answer.
      return null
    }
  }
}
