// QEMU without an operating system: the network boot ROM of its virtio-net device asks for an address by DHCP, and
// these frames are a real driver's traffic through a real vhost-user front end. No KVM, no disk, no privilege.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export interface QemuOptions {
  /** The vhost-user socket. */
  readonly socket: string
  /** True: QEMU listens on the socket, and waits for the back end before it boots. Default: it connects. */
  readonly server?: boolean
  /** Seconds between attempts to connect again, client only. */
  readonly reconnect?: number
  readonly queues?: number
  readonly mac?: string
  /** More properties of the device, e.g. `{ packed: 'on' }`. */
  readonly device?: Readonly<Record<string, string>>
  /** MiB of guest memory, default 256. */
  readonly memory?: number
  readonly timeout?: number
}

interface QmpReply {
  readonly return?: unknown
  readonly error?: { readonly desc: string }
  readonly event?: string
  readonly QMP?: unknown
}

function properties(first: string, rest: Readonly<Record<string, string | number | undefined>>): string {
  const pairs = Object.entries(rest).filter(([, value]) => value !== undefined)
  return [first, ...pairs.map(([name, value]) => `${name}=${value}`)].join(',')
}

function argumentsOf(options: QemuOptions): string[] {
  const memory = `${options.memory ?? 256}M`
  const queues = options.queues ?? 1
  const role = options.server === true ? { server: 'on', wait: 'on' } : { reconnect: options.reconnect }
  const multi = queues > 1 ? { mq: 'on', vectors: 2 * queues + 2 } : {}
  const chardev = properties('socket', { id: 'c0', path: options.socket, ...role })
  const netdev = properties('vhost-user', {
    id: 'n0',
    chardev: 'c0',
    queues: queues > 1 ? queues : undefined,
  })
  const device = properties('virtio-net-pci', { netdev: 'n0', mac: options.mac, ...multi, ...options.device })
  return [
    ...['-accel', 'tcg', '-m', memory, '-display', 'none', '-nodefaults', '-no-user-config', '-qmp', 'stdio'],
    ...['-object', `memory-backend-memfd,id=m0,size=${memory},share=on`, '-machine', 'pc,memory-backend=m0'],
    ...['-chardev', chardev, '-netdev', netdev, '-device', device],
  ]
}

export class Qemu implements AsyncDisposable {
  readonly exited: Promise<number>
  readonly #child: ChildProcess
  readonly #timeout: number
  readonly #replies: QmpReply[] = []
  readonly #watchers = new Set<() => void>()
  #output = ''
  #rest = ''
  #code: number | undefined
  #greeted = false

  private constructor(options: QemuOptions) {
    this.#timeout = options.timeout ?? 60_000
    this.#child = spawn('qemu-system-x86_64', argumentsOf(options), { stdio: 'pipe', detached: true })
    this.#child.stdin!.on('error', () => {}) // it has ended: `exited` says so
    this.#child.stdout!.setEncoding('utf8').on('data', (data: string) => this.#take(data))
    this.#child.stderr!.setEncoding('utf8').on('data', (data: string) => (this.#output += data))
    this.exited = new Promise((resolve) => {
      const ended = (code: number): void => {
        this.#code = code
        for (const watcher of this.#watchers) watcher()
        resolve(code)
      }
      this.#child.on('error', (error) => {
        this.#output += error.message
        ended(127)
      })
      this.#child.on('close', (code) => ended(code ?? 1))
    })
  }

  /** Starts QEMU. As a client it runs when this resolves; as a server its socket is there and it waits for the peer. */
  static async start(options: QemuOptions): Promise<Qemu> {
    const qemu = new Qemu(options)
    try {
      if (options.server === true) await qemu.#untilListening(options.socket)
      else await qemu.#greet()
      return qemu
    } catch (error) {
      await qemu[Symbol.asyncDispose]()
      throw error
    }
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** What it printed, warnings about the vhost-user peer among it. */
  get output(): string {
    return this.#output
  }

  /** One QMP command: `system_reset`, `set_link`, `query-status`, … Gives what it returns. */
  async qmp(execute: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    await this.#greet()
    this.#child.stdin!.write(`${JSON.stringify({ execute, arguments: args })}\n`)
    const reply = await this.#next(
      `the answer to ${execute}`,
      (r) => r.return !== undefined || r.error !== undefined,
    )
    if (reply.error !== undefined) throw this.#failure(`${execute} failed: ${reply.error.desc}`)
    return reply.return
  }

  /** Presses the reset button: the guest boots again on the same connection. */
  async reset(): Promise<void> {
    await this.qmp('system_reset')
  }

  /** Ends it in order; gives the exit code. */
  async quit(): Promise<number> {
    await this.qmp('quit')
    const late = sleep(this.#timeout, 'late' as const, { ref: false })
    const code = await Promise.race([this.exited, late])
    if (code === 'late') throw this.#failure('did not end after "quit"')
    return code
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
    if (this.#code === undefined && this.#child.pid !== undefined) process.kill(-this.#child.pid, signal)
    return this.exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  async #greet(): Promise<void> {
    if (this.#greeted) return
    await this.#next('the QMP greeting', (reply) => reply.QMP !== undefined)
    this.#greeted = true
    await this.qmp('qmp_capabilities')
  }

  async #untilListening(socket: string): Promise<void> {
    const deadline = Date.now() + this.#timeout
    while (!existsSync(socket)) {
      if (this.#code !== undefined) throw this.#failure(`ended with code ${this.#code} before it listened`)
      if (Date.now() > deadline) throw this.#failure(`did not listen on ${socket}`)
      await sleep(50) // between two looks for the socket
    }
  }

  #take(data: string): void {
    const lines = (this.#rest + data).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.trim() !== '') this.#replies.push(JSON.parse(line) as QmpReply)
    }
    for (const watcher of this.#watchers) watcher()
  }

  /** The next message that `wanted` accepts; events in between are dropped. */
  async #next(what: string, wanted: (reply: QmpReply) => boolean): Promise<QmpReply> {
    const deadline = Date.now() + this.#timeout
    for (;;) {
      for (let reply = this.#replies.shift(); reply !== undefined; reply = this.#replies.shift()) {
        if (wanted(reply)) return reply
      }
      if (this.#code !== undefined) throw this.#failure(`ended with code ${this.#code} before ${what}`)
      const left = deadline - Date.now()
      if (left <= 0) throw this.#failure(`not within ${this.#timeout} ms: ${what}`)
      await this.#change(left)
    }
  }

  #change(timeout: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#watchers.delete(done)
        resolve()
      }
      const timer = setTimeout(done, timeout)
      this.#watchers.add(done)
    })
  }

  #failure(problem: string): Error {
    return new Error(`qemu: ${problem}. Its output:\n${this.#output.slice(-4000)}`)
  }
}
