// dpdk-testpmd and `vring testpmd`, driven through their prompt. Both take the same words, so one class serves both.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EngineName } from '../../ts/index.ts'
import { allowedCpus } from './available.ts'
import { parsePortInfo, parsePortStats, parseStop, type ShownStats, type StopReport } from './stats.ts'
import { Terminal } from './terminal.ts'

const PROMPT = 'testpmd> '
const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))
let started = 0

export interface TestpmdOptions {
  /** Devices, as after `--vdev`. */
  readonly vdevs: readonly string[]
  /** One forwarding lcore on each of these CPUs; the prompt's lcore floats. Default: the last CPU we may use. */
  readonly cpus?: readonly number[]
  readonly forward?: EngineName
  readonly autoStart?: boolean
  readonly burst?: number
  readonly rxq?: number
  readonly txq?: number
  readonly rxd?: number
  readonly txd?: number
  readonly mbufs?: number
  readonly mbufSize?: number
  readonly txpkts?: readonly number[]
  readonly topology?: 'paired' | 'chained' | 'loop'
  readonly scatter?: boolean
  readonly maxPacketLength?: number
  /** More options before and after `--`. */
  readonly eal?: readonly string[]
  readonly args?: readonly string[]
  /** MiB of memory, default 512. */
  readonly memory?: number
  /** With its telemetry socket, at {@link Testpmd.telemetry}. */
  readonly telemetry?: boolean
  /** Hugepages of 2 MiB instead of ordinary pages. They must have been reserved. */
  readonly huge?: boolean
  /** What each step may take, in milliseconds. Default 60 s: the peers share two polling cores with everything else. */
  readonly timeout?: number
  readonly env?: Readonly<Record<string, string>>
  /** Put before the command, e.g. `unprivileged.wrapper`. */
  readonly wrapper?: readonly string[]
}

function ealArguments(options: TestpmdOptions, prefix: string): string[] {
  const cpus = allowedCpus()
  const forward = options.cpus ?? [cpus.at(-1) ?? 0]
  const lcores = [`0@(${cpus.join(',')})`, ...forward.map((cpu, i) => `${i + 1}@${cpu}`)]
  const pages = options.huge === true ? ['--single-file-segments'] : ['--no-huge']
  return [
    ...[...pages, '-m', String(options.memory ?? 512), '--no-pci'],
    ...(options.telemetry === true ? [] : ['--no-telemetry']),
    ...['--lcores', lcores.join(','), '--main-lcore', '0', '--file-prefix', prefix],
    ...options.vdevs.flatMap((vdev) => ['--vdev', vdev]),
    ...(options.eal ?? []),
  ]
}

function testpmdArguments(options: TestpmdOptions): string[] {
  const named: Readonly<Record<string, string | number | undefined>> = {
    'nb-cores': options.cpus?.length ?? 1,
    'total-num-mbufs': options.mbufs ?? 16384,
    'forward-mode': options.forward,
    'mbuf-size': options.mbufSize,
    'max-pkt-len': options.maxPacketLength,
    'port-topology': options.topology,
    burst: options.burst,
    rxq: options.rxq,
    txq: options.txq,
    rxd: options.rxd,
    txd: options.txd,
    txpkts: options.txpkts?.join(','),
  }
  return [
    '-i',
    ...Object.entries(named).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`])),
    ...(options.scatter === true ? ['--enable-scatter'] : []),
    ...(options.autoStart === true ? ['--auto-start'] : []),
    ...(options.args ?? []),
  ]
}

/** A mount of hugepages that nobody else sees, and that is gone with the program: DPDK wants one. */
const hugepageMount = [
  ...['unshare', '--mount', '--propagation', 'private', 'sh', '-c'],
  'mkdir -p /dev/hugepages && mount -t hugetlbfs -o pagesize=2M none /dev/hugepages && exec "$@"',
  'sh',
]

/** The user `nobody`, for everything that must work without privileges: `needs(test, 'unprivileged')`. */
export const unprivileged = {
  uid: 65534,
  wrapper: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
} as const

export class Testpmd implements AsyncDisposable {
  readonly terminal: Terminal
  readonly #timeout: number
  readonly #runtime: string
  /** What `--file-prefix` says. */
  readonly prefix: string

  private constructor(name: string, program: readonly string[], options: TestpmdOptions) {
    started += 1
    const prefix = `vring-${process.pid}-${started}`
    const eal = ealArguments(options, prefix)
    const mount = options.huge === true ? hugepageMount : []
    const argv = [
      ...mount,
      ...(options.wrapper ?? []),
      ...program,
      ...eal,
      '--',
      ...testpmdArguments(options),
    ]
    this.terminal = new Terminal(name, argv, { env: options.env ?? {} })
    this.prefix = prefix
    // DPDK never removes the folder of its run-time files.
    this.#runtime = join(options.env?.['XDG_RUNTIME_DIR'] ?? '/var/run', 'dpdk', prefix)
    this.#timeout = options.timeout ?? 60_000
  }

  /** Starts DPDK's program and waits for its first prompt. */
  static dpdk(options: TestpmdOptions): Promise<Testpmd> {
    return new Testpmd('dpdk-testpmd', ['dpdk-testpmd'], options).#ready()
  }

  /** Starts ours and waits for its first prompt. */
  static vring(options: TestpmdOptions): Promise<Testpmd> {
    return new Testpmd('vring testpmd', [process.execPath, CLI, 'testpmd'], options).#ready()
  }

  /** The path of its telemetry socket. */
  get telemetry(): string {
    return join(this.#runtime, 'dpdk_telemetry.v2')
  }

  async #ready(): Promise<this> {
    try {
      await this.terminal.until(
        'the first prompt',
        this.#timeout,
        () => this.terminal.transcript.includes(PROMPT) || undefined,
      )
      return this
    } catch (error) {
      await this[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Types a command and gives what was printed between its line and the next prompt. */
  async command(text: string, timeout = this.#timeout): Promise<string> {
    const mark = this.terminal.position
    this.terminal.write(`${text}\n`)
    return this.terminal.until(`the prompt after "${text}"`, timeout, () => {
      const output = this.terminal.since(mark)
      const line = output.indexOf('\n')
      const prompt = output.indexOf(PROMPT, line)
      return line >= 0 && prompt >= 0 ? output.slice(line + 1, prompt) : undefined
    })
  }

  async portStats(port = 0): Promise<ShownStats> {
    const output = await this.command(`show port stats ${port}`)
    const stats = parsePortStats(output).get(port)
    if (stats === undefined) throw this.terminal.failure(`no statistics of port ${port} in:\n${output}`)
    return stats
  }

  async portInfo(port = 0): Promise<ReadonlyMap<string, string>> {
    return parsePortInfo(await this.command(`show port info ${port}`))
  }

  /** Asks for a port's numbers until `done` says that they are what is waited for. */
  async waitForStats(
    what: string,
    done: (stats: ShownStats) => boolean,
    { port = 0, timeout = this.#timeout }: { readonly port?: number; readonly timeout?: number } = {},
  ): Promise<ShownStats> {
    const deadline = Date.now() + timeout
    for (;;) {
      const stats = await this.portStats(port)
      if (done(stats)) return stats
      if (Date.now() > deadline) throw this.terminal.failure(`not within ${timeout} ms: ${what}`)
      await sleep(100) // between two looks at the peer's numbers
    }
  }

  /** Waits until no packet has come or gone for `quiet` milliseconds: what is on its way has then arrived. */
  async waitForQuiet(port = 0, quiet = 500): Promise<ShownStats> {
    let last = await this.portStats(port)
    let since = Date.now()
    return this.waitForStats(
      `port ${port} is quiet`,
      (now) => {
        if (now.rxPackets !== last.rxPackets || now.txPackets !== last.txPackets) since = Date.now()
        last = now
        return Date.now() - since >= quiet
      },
      { port },
    )
  }

  async waitForLink(port = 0, status: 'up' | 'down' = 'up'): Promise<void> {
    const deadline = Date.now() + this.#timeout
    for (;;) {
      const link = (await this.portInfo(port)).get('Link status')
      if (link === status) return
      if (Date.now() > deadline)
        throw this.terminal.failure(`the link of port ${port} is "${link}", not ${status}`)
      await sleep(100) // between two looks at the peer's link
    }
  }

  /** `stop`, and the numbers that it prints. */
  async stop(): Promise<StopReport> {
    return parseStop(await this.command('stop'))
  }

  /** `quit`, and the exit code. */
  async quit(): Promise<number> {
    this.terminal.write('quit\n')
    return this.terminal.until('its end after "quit"', this.#timeout, () => this.terminal.exitCode)
  }

  /** Ends it as a crash would: nothing is cleaned up. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
    this.terminal.signal(signal)
    return this.terminal.exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.terminal[Symbol.asyncDispose]()
    rmSync(this.#runtime, { recursive: true, force: true })
  }
}
