/** One run of testpmd: its ports, what is set, and forwarding. Commands work on this and print. */
import { performance } from 'node:perf_hooks'
import type { Mempool, Port, PortStats } from '../index.ts'
import type { LcoreConfig } from './corelist.ts'
import { EngineRunner } from './engines.ts'
import { sendFirst, type SentFirst } from './first.ts'
import { type Mode, receives } from './modes.ts'
import type { AppOptions } from './options.ts'
import type { Output } from './output.ts'
import { type ForwardingConfig, peerMac, type PortQueues, type TransferConfig } from './print/config.ts'
import {
  type ForwardCount,
  rateOf,
  type Rates,
  ratesBetween,
  type Sample,
  type StreamCount,
} from './print/stats.ts'
import type { ShownXstat } from './print/xstats.ts'
import type { Moved, ScriptRunner } from './script/runner.ts'
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
  readonly options: AppOptions
  readonly output: Output
  readonly script: ScriptRunner | undefined
}

/** What can be changed at the prompt. Changes count from the next start. */
export interface Settings {
  mode: Mode
  burst: number
  txpkts: readonly number[]
  nbCores: number
  hideZeroXstats: boolean
}

interface Run {
  readonly mode: Mode
  readonly plans: readonly CorePlan[]
  readonly streams: readonly StreamPlan[]
  /** Each port's counters when forwarding started, or when they were cleared since. */
  readonly before: PortStats[]
  readonly first: readonly SentFirst[]
}

/** What a run of forwarding counted. */
export interface ForwardReport {
  readonly streams: readonly StreamCount[]
  readonly ports: ReadonlyMap<number, ForwardCount>
}

/** What `show port stats` shows of a port. */
export interface PortSample {
  readonly stats: PortStats
  readonly rates: Rates
  readonly chosen: readonly ShownXstat[]
}

const NOTHING: Moved = { rx: 0, tx: 0, dropped: 0 }

/** See the file's first line. Forwarding is started and stopped here, and at one place only. */
export class Session {
  readonly parts: SessionParts
  readonly settings: Settings
  private readonly engines: EngineRunner
  private run: Run | undefined
  private stopping: Promise<ForwardReport> | undefined
  private open: readonly Port[]
  private queues: { readonly rx: number; readonly tx: number }
  private readonly samples = new Map<number, Sample & { readonly xstats: ReadonlyMap<string, number> }>()

  constructor(parts: SessionParts) {
    this.parts = parts
    const { mode, burst, txpkts, nbCores } = parts.options
    this.settings = { mode, burst, txpkts, nbCores, hideZeroXstats: false }
    this.engines = new EngineRunner(parts.lcores)
    this.open = parts.ports
    this.queues = { rx: parts.options.rxq, tx: parts.options.txq }
  }

  get ports(): readonly Port[] {
    return this.open
  }

  /** Whether a port's queues are with forwarding threads now. */
  forwards(port: Port): boolean {
    const at = this.ports.indexOf(port)
    return this.run?.streams.some(({ rxPort, txPort }) => rxPort === at || txPort === at) ?? false
  }

  /** Forgets a port that is about to be closed. */
  remove(port: Port): void {
    this.open = this.open.filter((one) => one !== port)
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

  private get forwardingPorts(): number {
    return Math.min(this.parts.options.nbPorts, this.ports.length)
  }

  private plan(): { streams: readonly StreamPlan[]; plans: readonly CorePlan[] } {
    const { rx, tx } = this.queues
    const { topology } = this.parts.options
    const streams = planStreams(this.forwardingPorts, Math.min(rx, tx), topology)
    return { streams, plans: planCores(streams, this.lcoreIds, this.settings.nbCores) }
  }

  /** What `show config fwd` prints. */
  forwardingConfig(): ForwardingConfig {
    return { mode: this.settings.mode, ports: this.forwardingPorts, cores: this.plan().plans }
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
    const { mode, burst, txpkts } = this.settings
    const cores = this.plan().plans.length
    const ports = this.ports.map((port) => transfer(port))
    return { mode, burst, txpkts, cores, forwardingPorts: this.forwardingPorts, ports }
  }

  /**
   * Starts forwarding with what is set. `firstBursts` bursts of packets go out on every transmit queue first. Throws
   * what the queues or the script say when it cannot start; nothing runs then.
   */
  async start(firstBursts: number): Promise<void> {
    const { streams, plans } = this.plan()
    const { mode, burst, txpkts } = this.settings
    if (this.parts.options.flushRx) this.flush(streams)
    const before = this.ports.map((port) => port.stats())
    if (mode === 'script') {
      const first = this.sendFirst(streams, firstBursts)
      await this.startScript(plans, burst)
      this.run = { mode, plans, streams, before, first }
      return
    }
    await this.engines.start(plans, this.ports, { engine: mode, burst, txpkts, firstBursts })
    this.run = { mode, plans, streams, before, first: [] }
  }

  private sendFirst(streams: readonly StreamPlan[], bursts: number): readonly SentFirst[] {
    if (bursts === 0) return []
    const length = this.settings.txpkts.reduce((sum, segment) => sum + segment, 0)
    return sendFirst(streams, this.ports, { bursts, size: this.settings.burst, length, peer: peerMac })
  }

  private async startScript(plans: readonly CorePlan[], burst: number): Promise<void> {
    const script = this.parts.script!
    const used = new Set(plans.map((plan) => plan.lcore))
    await script.load(this.parts.lcores.filter((lcore) => used.has(lcore.id)))
    await script.start(plans, burst, (plan) => ({
      plan,
      rx: this.ports[plan.rxPort]!.rxQueues[plan.rxQueue]!.handOver(),
      tx: this.ports[plan.txPort]!.txQueues[plan.txQueue]!.handOver(),
    }))
  }

  /** Empties the receive queues of what arrived while nobody forwarded. */
  private flush(streams: readonly StreamPlan[]): void {
    if (!receives(this.settings.mode) || this.parts.mempool === undefined) return
    using burst = this.parts.mempool.createBurst(this.settings.burst)
    for (const { rxPort, rxQueue } of streams) {
      const queue = this.ports[rxPort]!.rxQueues[rxQueue]!
      const end = performance.now() + FLUSH_MILLISECONDS
      while (queue.rxBurst(burst) > 0 && performance.now() < end) burst.free()
      burst.free()
      queue.release()
    }
  }

  /** Stops forwarding; resolves when no lcore touches a queue any more. Call it only while forwarding. */
  stop(): Promise<ForwardReport> {
    this.stopping ??= this.finish(this.run!).finally(() => {
      this.run = undefined
      this.stopping = undefined
    })
    return this.stopping
  }

  private async finish(run: Run): Promise<ForwardReport> {
    if (run.mode !== 'script') return this.report(run, await this.engines.stop())
    const script = this.parts.script!
    await script.stop()
    return this.report(run, script.moved())
  }

  private report(run: Run, moved: readonly Moved[]): ForwardReport {
    const streams = run.streams.map((plan, i): StreamCount => {
      const { rx, tx, dropped } = moved[i] ?? NOTHING
      const first = run.first[i] ?? { tx: 0, dropped: 0 }
      return { plan, rx, tx: tx + first.tx, dropped: dropped + first.dropped }
    })
    const ports = new Map<number, ForwardCount>()
    for (let i = 0; i < this.forwardingPorts; i++) {
      const [now, then] = [this.ports[i]!.stats(), run.before[i]!]
      const sending = streams.filter((stream) => stream.plan.txPort === i)
      ports.set(this.ports[i]!.id, {
        rxPackets: now.rxPackets - then.rxPackets,
        rxMissed: now.rxMissed - then.rxMissed,
        rxErrors: now.rxErrors - then.rxErrors,
        rxNombuf: now.rxNombuf - then.rxNombuf,
        txPackets: now.txPackets - then.txPackets,
        txDropped: sending.reduce((sum, stream) => sum + stream.dropped, 0),
      })
    }
    return { streams, ports }
  }

  /** Sets a port's counters to zero; a run of forwarding counts the port from here. */
  clear(port: Port): void {
    port.resetStats()
    const at = this.ports.indexOf(port)
    if (this.run !== undefined) this.run.before[at] = port.stats()
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
    await this.engines.close()
    await this.parts.script?.close()
  }
}
