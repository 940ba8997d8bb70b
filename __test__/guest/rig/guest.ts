// A Debian kernel in QEMU, driven a command at a time over a virtio-serial port; init.sh is its other end.
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { kernelFolder, SERIES } from '../../../scripts/kernels.mjs'
import { Machine } from '../../rig/machine.ts'
import { type Scratch, scratch } from '../../rig/scratch.ts'
import { buildInitramfs } from './initramfs.ts'
import { channelArguments, type GuestOptions, type Image, machineArguments } from './options.ts'

export interface Result {
  readonly status: number
  /** Standard output and standard error, whole lines. */
  readonly output: string
}

/** Kernel and initramfs, in `folder`. */
export function image(series: string | undefined, folder: Scratch): Image {
  const kernel = kernelFolder(series ?? SERIES[0]!)
  if (kernel === undefined) throw new Error(`kernel ${series} is not in the cache: npm run guest -- --fetch`)
  const initramfs = folder.path('initramfs')
  buildInitramfs(kernel, initramfs)
  return { kernel: join(kernel, 'vmlinuz'), initramfs }
}

/** A command that runs in the guest. */
export class Job {
  readonly command: string
  #guest: Guest
  readonly #id: number
  #output = ''
  #status: number | undefined

  constructor(guest: Guest, id: number, command: string) {
    this.#guest = guest
    this.#id = id
    this.command = command
  }

  /** What it has printed so far, whole lines. */
  get output(): string {
    return this.#output
  }

  /** Its exit status once it has ended. */
  get status(): number | undefined {
    return this.#status
  }

  /** Waits until its output matches. Fails when it ends first. */
  async until(pattern: RegExp, timeout?: number): Promise<RegExpExecArray> {
    const found = await this.#guest.until(`"${this.command}" prints ${pattern}`, timeout, () => {
      const match = pattern.exec(this.#output)
      if (match === null && this.#status !== undefined) throw this.failure(`has not printed ${pattern}`)
      return match ?? undefined
    })
    return found
  }

  /** Waits for its end. */
  async ended(timeout?: number): Promise<Result> {
    const status = await this.#guest.until(`the end of "${this.command}"`, timeout, () => this.#status)
    return { status, output: this.#output }
  }

  /** A signal to it and to what it started. */
  signal(name = 'TERM'): void {
    if (this.#status === undefined) this.#guest.send(`signal ${this.#id} ${name}`)
  }

  /** The guest that it runs in moved to another machine. */
  moved(to: Guest): void {
    this.#guest = to
  }

  failure(problem: string): Error {
    const status = this.#status === undefined ? '' : ` (status ${this.#status})`
    return new Error(
      `guest: "${this.command}"${status} ${problem}. Its output:\n${this.#output.slice(-6000)}`,
    )
  }

  /** What came over the control channel. */
  take(text: string): void {
    this.#output += `${text}\n`
  }

  end(status: number): void {
    this.#status = status
  }
}

export class Guest implements AsyncDisposable {
  readonly machine: Machine
  readonly #folder: Scratch
  readonly #servers: readonly Server[]
  readonly #jobs = new Map<number, Job>()
  readonly #timeout: number
  #control: Socket | undefined
  #console = ''
  #rest = ''
  #release: string | undefined
  #last = 0

  private constructor(options: GuestOptions, more: readonly string[], shared?: Image) {
    this.#timeout = options.timeout ?? 120_000
    this.#folder = scratch()
    const channels = { console: this.#folder.path('console'), control: this.#folder.path('control') }
    this.#servers = [
      this.#serve(channels.console, (socket) =>
        socket.on('data', (data: string) => {
          this.#console += data
          this.machine.wake()
        }),
      ),
      this.#serve(channels.control, (socket) => {
        this.#control = socket
        socket.on('data', (data: string) => this.#take(data))
      }),
    ]
    const files = shared ?? image(options.kernel, this.#folder)
    const args = [...machineArguments(options, files), ...channelArguments(channels), ...more]
    this.machine = new Machine(args, this.#timeout, options.fds)
  }

  /** Boots a guest; it takes commands when this resolves. */
  static async start(options: GuestOptions = {}): Promise<Guest> {
    const guest = new Guest(options, [])
    try {
      await guest.#booted()
      return guest
    } catch (error) {
      await guest[Symbol.asyncDispose]()
      throw error
    }
  }

  /**
   * Starts a machine that waits for a guest to move into it: `migrate-incoming`. Its devices must be those that the guest has where it is.
   */
  static incoming(options: GuestOptions): Guest {
    return new Guest(options, ['-incoming', 'defer'])
  }

  /** The guest has moved here from another machine: what runs in it is heard from here. */
  adopt(from: Guest): void {
    this.#release = from.#release
    this.#last = from.#last
    for (const [id, job] of from.#jobs) {
      job.moved(this)
      this.#jobs.set(id, job)
    }
  }

  /** The kernel's release, `uname -r`. */
  get release(): string {
    return this.#release ?? ''
  }

  /** Everything on the serial console. */
  get console(): string {
    return this.#console
  }

  /** Starts a command of the shell, and does not wait. */
  start(command: string): Job {
    const id = (this.#last += 1)
    const job = new Job(this, id, command)
    this.#jobs.set(id, job)
    this.send(`run ${id} ${Buffer.from(command).toString('base64')}`)
    return job
  }

  /** Runs a command of the shell to its end, and gives its exit status and output. */
  async attempt(command: string, timeout?: number): Promise<Result> {
    return this.start(command).ended(timeout)
  }

  /** Runs a command of the shell, which must succeed, and gives its output without the last line's end. */
  async run(command: string, timeout?: number): Promise<string> {
    const job = this.start(command)
    const { status, output } = await job.ended(timeout)
    if (status !== 0) throw job.failure('failed')
    return output.trimEnd()
  }

  /** One command of QEMU's monitor. */
  qmp(execute: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.machine.qmp(execute, args)
  }

  /** Presses the reset button, and waits until the guest takes commands again. What ran is forgotten. */
  async reset(): Promise<void> {
    this.#release = undefined
    this.#jobs.clear()
    await this.machine.reset()
    await this.#booted()
  }

  /** Ends it in order; gives QEMU's exit code. */
  quit(): Promise<number> {
    return this.machine.quit()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine[Symbol.asyncDispose]()
    for (const server of this.#servers) server.close()
    this.#control?.destroy()
    this.#folder[Symbol.dispose]()
  }

  /** A line to init.sh. */
  send(line: string): void {
    if (this.#control === undefined) throw this.failure('has no control channel')
    this.#control.write(`${line}\n`)
  }

  /** Waits until `condition` gives something; a kernel that panics ends the wait. */
  async until<T>(what: string, timeout: number | undefined, condition: () => T | undefined): Promise<T> {
    try {
      return await this.machine.until(what, timeout ?? this.#timeout, () => {
        if (/Kernel panic[^\n]*\n/.test(this.#console)) throw new Error('the kernel panicked')
        return condition()
      })
    } catch (error) {
      throw this.failure((error as Error).message, error)
    }
  }

  failure(problem: string, cause?: unknown): Error {
    return new Error(`guest: ${problem}\nIts console:\n${this.#console.slice(-4000)}`, { cause })
  }

  async #booted(): Promise<void> {
    await this.until('the guest takes commands', undefined, () => this.#release)
  }

  #serve(path: string, connected: (socket: Socket) => void): Server {
    const server = createServer((socket) => {
      socket.setEncoding('utf8').on('error', () => {}) // QEMU has ended: `exited` says so
      connected(socket)
    })
    return server.listen(path)
  }

  #take(data: string): void {
    const lines = (this.#rest + data).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.#line(line)
    this.machine.wake()
  }

  #line(line: string): void {
    const [, verb, first = '', rest = ''] = /^(\w+) (\S+) ?(.*)$/.exec(line) ?? []
    if (verb === 'hello') this.#release = first
    if (verb === 'out') this.#jobs.get(Number(first))?.take(rest)
    if (verb === 'end') this.#jobs.get(Number(first))?.end(Number(rest))
  }
}
