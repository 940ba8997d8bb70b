/** One run of testpmd: its ports, what is set, and forwarding. Commands work on this and print. */
import { performance } from 'node:perf_hooks'
import { type LatencyStats, Lcore, type Mempool, type Port, type PortStats } from '../index.ts'
import type { LcoreConfig } from './corelist.ts'
import { EngineRunner } from './engines.ts'
import { sendFirst, type SentFirst } from './first.ts'
import { type Mode, receives } from './modes.ts'
import type { AppOptions } from './options.ts'
import type { Output } from './output.ts'
import { BitrateStats } from './bitrate.ts'
import { forwardCount, type ForwardReport, streamCount, type StreamCount } from './counts.ts'
import type { ForwardingConfig, PortQueues, TransferConfig } from './print/config.ts'
import { rateOf, type Rates, ratesBetween, type Sample } from './print/stats.ts'
import type { ShownXstat } from './print/xstats.ts'
import type { StreamOrder } from './script/protocol.ts'
import { type Moved, ScriptRunner } from './script/runner.ts'
import { csumOptions, engineOptions, initialSettings, peerOfPort, type Settings } from './settings.ts'
import { type CorePlan, planCores, planStreams, type StreamPlan } from './topology.ts'

/** How long receive queues are emptied before forwarding starts. Some devices never run dry. */
const FLUSH_MILLISECONDS = 10

/** What a session is made of. */
export interface SessionParts {
  readonly ports: readonly Port[]
  /** Undefined where there is no port: nothing needs buffers. */
  readonly mempool: Mempool | undefined
  /** The lcores that can forward, by id. */
  readonly lcores: readonly LcoreConfig[]
  /** The lcore of the prompt. */
  readonly mainLcore: number
  readonly options: AppOptions
  readonly output: Output
  readonly script: ScriptRunner | undefined
}

interface Run {
  readonly mode: Mode
  readonly plans: readonly CorePlan[]
  readonly streams: readonly StreamPlan[]
  /** Numbers of the ports that forward. */
  readonly ports: readonly number[]
  /** Each port's counters when forwarding started, or when they were cleared since. */
  readonly before: Map<number, PortStats>
  readonly first: readonly SentFirst[]
  /** What the streams had moved when the statistics were cleared. */
  cleared: readonly Moved[]
}

/** What `show port stats` shows of a port. */
export interface PortSample {
  readonly stats: PortStats
  readonly rates: Rates
  readonly chosen: readonly ShownXstat[]
}

/** See the file's first line. Forwarding is started and stopped here, and at one place only. */
export class Session {
  readonly parts: SessionParts
  readonly settings: Settings
  private readonly engines: EngineRunner
  private scripts: ScriptRunner | undefined
  /** Bits a second; undefined without `--bitrate-stats`. */
  readonly bitrate: BitrateStats | undefined
  private run: Run | undefined
  private lastRun: Run | undefined
  private stopping: Promise<ForwardReport> | undefined
  private open: readonly Port[]
  private queues: { readonly rx: number; readonly tx: number }
  private readonly samples = new Map<number, Sample & { readonly xstats: ReadonlyMap<string, number> }>()

  constructor(parts: SessionParts) {
    this.parts = parts
    this.settings = initialSettings(
      parts.options,
      parts.ports.map((port) => port.id),
      parts.lcores.map((lcore) => lcore.id),
    )
    this.engines = new EngineRunner(parts.lcores)
    this.scripts = parts.script
    this.open = parts.ports
    this.queues = { rx: parts.options.rxq, tx: parts.options.txq }
    const counts = parts.options.bitrateStats !== undefined
    this.bitrate = counts ? new BitrateStats(() => this.ports) : undefined
  }

  get ports(): readonly Port[] {
    return this.open
  }

  /** Whether a port's queues are with forwarding threads now. */
  forwards(port: Port): boolean {
    return this.run?.streams.some(({ rxPort, txPort }) => rxPort === port.id || txPort === port.id) ?? false
  }

  /** Forgets a port that is about to be closed. */
  remove(port: Port): void {
    this.open = this.open.filter((one) => one !== port)
    this.settings.portlist = this.settings.portlist.filter((id) => id !== port.id)
    this.settings.nbPorts = Math.min(this.settings.nbPorts, this.settings.portlist.length)
    this.samples.delete(port.id)
  }

  /** Uses that many queues of every port from now on. */
  setQueues(change: { readonly rx?: number; readonly tx?: number }): void {
    this.queues = { ...this.queues, ...change }
    for (const port of this.ports) port.setQueues(change)
  }

  get forwarding(): boolean {
    return this.run !== undefined
  }

  get lcoreIds(): readonly number[] {
    return this.parts.lcores.map((lcore) => lcore.id)
  }

  /** Numbers of the ports that forward. */
  private get forwardingPorts(): readonly number[] {
    return this.settings.portlist.slice(0, this.settings.nbPorts)
  }

  /** The port of that number, which must be open. */
  port(id: number): Port {
    return this.open.find((port) => port.id === id)!
  }

  private plan(): { streams: readonly StreamPlan[]; plans: readonly CorePlan[] } {
    const { rx, tx } = this.queues
    const { mode, corelist, nbCores } = this.settings
    // Who answers answers on the port where it was asked.
    const topology = mode === 'icmpecho' ? 'loop' : this.parts.options.topology
    const streams = planStreams(this.forwardingPorts, Math.min(rx, tx), topology)
    return { streams, plans: planCores(streams, corelist, nbCores) }
  }

  /** What `show config fwd` prints. */
  forwardingConfig(): ForwardingConfig {
    const { mode, retry, txRetries, txDelay } = this.settings
    return {
      mode,
      ports: this.forwardingPorts.length,
      cores: this.plan().plans,
      retry: retry ? { times: txRetries, delay: txDelay } : undefined,
      peer: (id) => peerOfPort(this.settings, id),
    }
  }

  /** What `show config rxtx` prints. */
  transferConfig(): TransferConfig {
    const { rxd = 0, txd = 0 } = this.parts.options
    const transfer = ({ id, queues }: Port): PortQueues => ({
      id,
      rxQueues: queues.rx,
      txQueues: queues.tx,
      rxDesc: rxd,
      txDesc: txd,
    })
    const { mode, burst, txpkts, retry } = this.settings
    const cores = this.plan().plans.length
    const ports = this.ports.map((port) => transfer(port))
    return { mode, burst, txpkts, retry, cores, forwardingPorts: this.forwardingPorts.length, ports }
  }

  /**
   * Starts forwarding with what is set. `firstBursts` bursts of packets go out on every transmit queue first. Throws
   * what the queues or the script say when it cannot start; nothing runs then.
   */
  async start(firstBursts: number): Promise<void> {
    const { streams, plans } = this.plan()
    const { settings } = this
    const { mode, burst } = settings
    if (settings.flushRx) this.flush(streams)
    const ports = this.forwardingPorts
    const before = new Map(ports.map((id) => [id, this.port(id).stats()]))
    const run = { mode, plans, streams, ports, before, cleared: [] }
    if (mode === 'script') {
      const first = this.sendFirst(streams, firstBursts)
      await this.startScript(plans, burst)
      this.run = { ...run, first }
      return
    }
    await this.engines.start(plans, {
      engine: mode,
      options: engineOptions(settings, this.parts.options, firstBursts),
      port: (id) => this.port(id),
      peer: (id) => peerOfPort(settings, id),
      csum: (id) => csumOptions(settings, id),
    })
    this.run = { ...run, first: [] }
  }

  private sendFirst(streams: readonly StreamPlan[], bursts: number): readonly SentFirst[] {
    if (bursts === 0) return []
    const length = this.settings.txpkts.reduce((sum, segment) => sum + segment, 0)
    const peer = (id: number): string => peerOfPort(this.settings, id)
    const size = this.settings.burst
    return sendFirst(streams, (id) => this.port(id), { bursts, size, length, peer })
  }

  private async startScript(plans: readonly CorePlan[], burst: number): Promise<void> {
    const script = this.scripts!
    const used = new Set(plans.map((plan) => plan.lcore))
    await script.load(this.parts.lcores.filter((lcore) => used.has(lcore.id)))
    await script.start(plans, burst, (plan) => this.hand(plan))
  }

  /** Hands the queues of a stream to a worker. */
  private hand(plan: StreamPlan): StreamOrder {
    return {
      plan,
      rx: this.port(plan.rxPort).rxQueues[plan.rxQueue]!.handOver(),
      tx: this.port(plan.txPort).txQueues[plan.txQueue]!.handOver(),
    }
  }

  /** The script that was given; undefined when none was. */
  get scriptFile(): string | undefined {
    return this.scripts?.file
  }

  /**
   * Forwards with that script: from the next start, or at once where a script forwards. Throws what is wrong with the script; the one before
   * goes on then.
   */
  async setScript(file: string): Promise<void> {
    if (this.scripts === undefined) {
      const scripts = new ScriptRunner(file, (text) => this.parts.output.out(text))
      await scripts.load(this.parts.lcores.slice(0, 1))
      this.scripts = scripts
    } else await this.scripts.replace(file, this.settings.burst, (plan) => this.hand(plan))
    this.settings.mode = 'script'
  }

  /** Empties the receive queues of what arrived while nobody forwarded. */
  private flush(streams: readonly StreamPlan[]): void {
    if (!receives(this.settings.mode) || this.parts.mempool === undefined) return
    using burst = this.parts.mempool.createBurst(this.settings.burst)
    for (const { rxPort, rxQueue } of streams) {
      const queue = this.port(rxPort).rxQueues[rxQueue]!
      const end = performance.now() + FLUSH_MILLISECONDS
      while (queue.rxBurst(burst) > 0 && performance.now() < end) burst.free()
      burst.free()
      queue.release()
    }
  }

  /** Stops forwarding; resolves when no lcore touches a queue any more. Call it only while forwarding. */
  stop(): Promise<ForwardReport> {
    this.stopping ??= this.finish(this.run!).finally(() => {
      this.lastRun = this.run
      this.run = undefined
      this.stopping = undefined
    })
    return this.stopping
  }

  private async finish(run: Run): Promise<ForwardReport> {
    if (run.mode !== 'script') return this.report(run, await this.engines.stop())
    const script = this.scripts!
    await script.stop()
    return this.report(run, script.moved())
  }

  /** What was counted in this run, or in the last; undefined before the first. */
  forwardReport(): ForwardReport | undefined {
    const run = this.run ?? this.lastRun
    if (run === undefined) return undefined
    return this.report(run, run.mode === 'script' ? this.scripts!.moved() : this.engines.moved())
  }

  /** Counts streams and ports of this run, or the last, from here. */
  clearForward(): void {
    const run = this.run ?? this.lastRun
    if (run === undefined) return
    run.cleared = run.mode === 'script' ? this.scripts!.moved() : this.engines.moved()
    for (const id of run.ports) run.before.set(id, this.port(id).stats())
  }

  /** How long packets are between the queues; undefined where that is not measured. */
  latency(percentiles: readonly number[]): LatencyStats | undefined {
    return this.engines.latency(percentiles)
  }

  private report(run: Run, moved: readonly Moved[]): ForwardReport {
    const { mode, recordCycles } = { mode: run.mode, recordCycles: this.settings.recordCycles }
    const streams = run.streams.map((plan, i): StreamCount => {
      const first = run.first[i] ?? { tx: 0, dropped: 0 }
      return streamCount(plan, moved[i], run.cleared[i], first)
    })
    // A port that was closed since has no counters any more.
    const open = run.ports.filter((id) => this.open.some((port) => port.id === id))
    const ports = new Map(
      open.map((id) => [id, forwardCount(this.port(id).stats(), run.before.get(id)!, streams, id)]),
    )
    const cycles = recordCycles ? { perSecond: Lcore.cyclesPerSecond } : undefined
    return { mode, streams, ports, cycles }
  }

  /** Sets a port's counters to zero; a run of forwarding counts the port from here. */
  clear(port: Port): void {
    port.resetStats()
    for (const run of [this.run, this.lastRun])
      if (run?.before.has(port.id)) run.before.set(port.id, port.stats())
  }

  /** A port's statistics, those that `--display-xstats` chose, and how fast they have grown since they were read here before. */
  sample(port: Port): PortSample {
    const stats = port.stats()
    const xstats = this.parts.options.displayXstats.length > 0 ? port.xstats() : new Map<string, number>()
    const now = { at: process.hrtime.bigint(), stats, xstats }
    const before = this.samples.get(port.id)
    this.samples.set(port.id, now)
    const chosen = this.parts.options.displayXstats.flatMap((name): ShownXstat[] => {
      const value = xstats.get(name)
      if (value === undefined) return []
      const seconds = before === undefined ? 0 : Number(now.at - before.at) / 1e9
      return [{ name, value, rate: rateOf(before?.xstats.get(name), value, seconds) }]
    })
    return { stats, rates: ratesBetween(before, now), chosen }
  }

  /** Ends the forwarding threads. Forwarding must have stopped. */
  async close(): Promise<void> {
    this.bitrate?.close()
    await this.engines.close()
    await this.scripts?.close()
  }
}
