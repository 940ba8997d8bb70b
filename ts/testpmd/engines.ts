/** Native lcores: one thread for each forwarding lcore that was used, kept from one start to the next. */
import {
  type CsumOptions,
  type EngineName,
  type EngineOptions,
  type LatencyStats,
  Lcore,
  type Port,
  type Stream,
} from '../index.ts'
import type { LcoreConfig } from './corelist.ts'
import { receives, transmits } from './modes.ts'
import type { Moved } from './script/runner.ts'
import type { CorePlan, StreamPlan } from './topology.ts'

/** How an engine is started. */
export interface EngineStart {
  readonly engine: EngineName
  readonly options: EngineOptions
  /** The port of that number. */
  readonly port: (id: number) => Port
  /** Address of that port's peer. */
  readonly peer: (id: number) => string
  /** What csum does for that port. */
  readonly csum: (id: number) => CsumOptions
}

/** The engines of a session. */
export class EngineRunner {
  private readonly configs: ReadonlyMap<number, LcoreConfig>
  private readonly lcores = new Map<number, Lcore>()
  private running: Lcore[] = []

  constructor(lcores: readonly LcoreConfig[]) {
    this.configs = new Map(lcores.map((lcore) => [lcore.id, lcore]))
  }

  private lcore(id: number): Lcore {
    const known = this.lcores.get(id)
    if (known !== undefined) return known
    const cpus = this.configs.get(id)?.cpus ?? []
    // A thread is pinned to one CPU or to none: a set of several is left to the scheduler.
    const lcore = new Lcore({ name: `lcore-${id}`, ...(cpus.length === 1 ? { cpu: cpus[0]! } : {}) })
    this.lcores.set(id, lcore)
    return lcore
  }

  /** Starts every plan on its lcore. If one cannot start, those that did are stopped and the error is thrown. */
  async start(plans: readonly CorePlan[], how: EngineStart): Promise<void> {
    const { engine, options, port } = how
    const withTx = transmits(engine) || (options.firstBursts ?? 0) > 0
    const queues = ({ rxPort, rxQueue, txPort, txQueue }: StreamPlan): Stream => ({
      ...(receives(engine) ? { rx: port(rxPort).rxQueues[rxQueue]! } : {}),
      ...(withTx ? { tx: port(txPort).txQueues[txQueue]! } : {}),
      dst: how.peer(txPort),
      csum: how.csum(txPort),
    })
    this.running = []
    try {
      for (const plan of plans) {
        const lcore = this.lcore(plan.lcore)
        lcore.start(
          engine,
          plan.streams.map((stream) => queues(stream)),
          options,
        )
        this.running.push(lcore)
      }
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Stops all lcores; what each stream moved, in the order of the plans. */
  async stop(): Promise<readonly Moved[]> {
    const stats = await Promise.all(this.running.map((lcore) => lcore.stop()))
    return stats.flatMap((one) => one.streams)
  }

  /** What each stream moved so far. */
  moved(): readonly Moved[] {
    return this.running.flatMap((lcore) => lcore.stats().streams)
  }

  /** How long packets were between the queues, in this run or the last, at some percentiles; undefined where that is not measured. */
  latency(percentiles: readonly number[]): LatencyStats | undefined {
    return Lcore.latency(this.running, percentiles)
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.lcores.values()].map((lcore) => lcore.close()))
    this.lcores.clear()
  }
}
