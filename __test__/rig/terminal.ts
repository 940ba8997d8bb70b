// A program on a pseudo-terminal. dpdk-testpmd buffers its output on a pipe, and a person types at a terminal anyway:
// util-linux's `script` gives us one without a native module.
import { type ChildProcess, spawn } from 'node:child_process'

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

const CONTROL = /\u001b\[[0-9;?]*[A-Za-z]|\r/g

export interface TerminalOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
}

export class Terminal implements AsyncDisposable {
  readonly name: string
  readonly exited: Promise<number>
  readonly #script: ChildProcess
  readonly #watchers = new Set<() => void>()
  #raw = ''
  #pid: number | undefined
  #code: number | undefined

  constructor(name: string, argv: readonly string[], options: TerminalOptions = {}) {
    this.name = name
    // The shell tells its pid and then becomes the program, which leads a session and a process group of its own:
    // a signal to that group reaches the program and what it started, and nothing else.
    const command = `echo "pid=$$"; stty cols 200 rows 50; exec ${argv.map(quote).join(' ')}`
    this.#script = spawn('script', ['-qfec', command, '/dev/null'], {
      cwd: options.cwd,
      env: { ...process.env, TERM: 'dumb', SHELL: '/bin/sh', ...options.env },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#script.stdin!.on('error', () => {}) // it has ended: `exited` says so
    this.#script.stdout!.setEncoding('utf8').on('data', (data: string) => {
      this.#raw += data
      this.#wake()
    })
    this.exited = new Promise((resolve) => {
      const ended = (code: number): void => {
        this.#code = code
        this.#wake()
        resolve(code)
      }
      this.#script.on('error', (error) => {
        this.#raw += error.message
        ended(127)
      })
      this.#script.on('close', (code) => ended(code ?? 1))
    })
  }

  /** Everything printed so far. */
  get transcript(): string {
    return this.since(0)
  }

  /** The exit code once it has ended (128 + N when it died of signal N), else undefined. */
  get exitCode(): number | undefined {
    return this.#code
  }

  /** The program's process id, once it runs. */
  get pid(): number | undefined {
    this.#pid ??= Number(/pid=(\d+)\r?\n/.exec(this.#raw)?.[1] ?? 0) || undefined
    return this.#pid
  }

  /** A mark for `since`. */
  get position(): number {
    return this.#raw.length
  }

  since(position: number): string {
    return this.#raw.slice(position).replaceAll(CONTROL, '')
  }

  write(text: string): void {
    this.#script.stdin!.write(text)
  }

  /** Waits until `condition` is met. Fails with the transcript when the program ends first or the time is over. */
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
    return new Error(`${this.name}: ${problem}. Its output:\n${this.transcript.slice(-8000)}`)
  }

  /** Sends a signal to the program's process group. */
  signal(signal: NodeJS.Signals): void {
    if (this.#code !== undefined) return
    try {
      if (this.pid !== undefined) process.kill(-this.pid, signal)
      else this.#script.kill(signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal('SIGKILL')
    await this.exited
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher()
  }

  /** Resolves at the next output, at the end of the program, or after `timeout` milliseconds. */
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
