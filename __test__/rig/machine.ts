// A QEMU process with its monitor on standard input and output. What runs in it is its owner's business.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { Qmp } from './qmp.ts'

/** `first,name=value,…`, without what is undefined. */
export function properties(
  first: string,
  rest: Readonly<Record<string, string | number | undefined>>,
): string {
  const pairs = Object.entries(rest).filter(([, value]) => value !== undefined)
  return [first, ...pairs.map(([name, value]) => `${name}=${value}`)].join(',')
}

let version: number | undefined

/** The installed QEMU's version, 7.2 for example. */
export function qemuVersion(): number {
  const told = (): string => execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' })
  version ??= Number(/version (\d+\.\d+)/.exec(told())?.[1] ?? 0)
  return version
}

export class Machine implements AsyncDisposable {
  readonly exited: Promise<number>
  readonly #child: ChildProcess
  readonly #timeout: number
  readonly #watchers = new Set<() => void>()
  readonly #qmp: Qmp
  #output = ''
  #code: number | undefined

  /** Starts QEMU; `timeout` in milliseconds is for each answer. It inherits `fds` as its descriptors 3, 4, … */
  constructor(args: readonly string[], timeout = 60_000, fds: readonly number[] = []) {
    this.#timeout = timeout
    const all = ['-display', 'none', '-nodefaults', '-no-user-config', '-qmp', 'stdio', ...args]
    const stdio = ['pipe' as const, 'pipe' as const, 'pipe' as const, ...fds]
    this.#child = spawn('qemu-system-x86_64', all, { stdio, detached: true })
    this.#child.stderr!.setEncoding('utf8').on('data', (data: string) => (this.#output += data))
    this.exited = new Promise((resolve) => {
      const ended = (code: number): void => {
        this.#code = code
        this.wake()
        resolve(code)
      }
      this.#child.on('error', (error) => {
        this.#output += error.message
        ended(127)
      })
      this.#child.on('close', (code) => ended(code ?? 1))
    })
    this.#qmp = new Qmp(
      this.#child.stdout!,
      this.#child.stdin!,
      (what, limit, condition) => this.until(what, limit, condition),
      timeout,
      () => this.wake(),
    )
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** What it printed, warnings about the vhost-user peer among it. */
  get output(): string {
    return this.#output
  }

  /** The names of the monitor's events so far. */
  get events(): readonly string[] {
    return this.#qmp.events
  }

  /** One QMP command: `system_reset`, `set_link`, `query-status`, … Gives what it returns. */
  qmp(execute: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.#qmp.execute(execute, args)
  }

  /** Presses the reset button. */
  async reset(): Promise<void> {
    await this.qmp('system_reset')
  }

  /** Ends it in order; gives the exit code. */
  async quit(): Promise<number> {
    await this.qmp('quit')
    return this.until('its end after "quit"', this.#timeout, () => this.#code)
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
    if (this.#code === undefined && this.#child.pid !== undefined) process.kill(-this.#child.pid, signal)
    return this.exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  /** Looks at `condition` again: something changed. */
  wake(): void {
    for (const watcher of this.#watchers) watcher()
  }

  /** Waits until `condition` gives something. Fails when QEMU ends first or the time is over. */
  async until<T>(what: string, timeout: number, condition: () => T | undefined): Promise<T> {
    const deadline = Date.now() + timeout
    for (;;) {
      const value = condition()
      if (value !== undefined) return value
      if (this.#code !== undefined) throw this.failure(`ended with code ${this.#code} before ${what}`)
      const left = deadline - Date.now()
      if (left <= 0) throw this.failure(`not within ${timeout} ms: ${what}`)
      await this.#change(left)
    }
  }

  failure(problem: string): Error {
    return new Error(`qemu: ${problem}. Its output:\n${this.#output.slice(-4000)}`)
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
}
