/** The session's side of a script: starts the workers, hands queues over, and takes them back. */
import { Worker } from 'node:worker_threads'
import type { StreamStats } from '../../index.ts'
import type { LcoreConfig } from '../corelist.ts'
import { FatalError, messageOf } from '../output.ts'
import type { CorePlan, StreamPlan } from '../topology.ts'
import {
  ControlBlock,
  type RunOrder,
  type StreamOrder,
  type WorkerReport,
  type WorkerStart,
} from './protocol.ts'

/** What one stream moved; what only engines count is missing of a script's. */
export type Moved = Pick<StreamStats, 'rx' | 'tx' | 'dropped'> & Partial<StreamStats>

type Listener = (report: WorkerReport) => void

/** One worker: it keeps the script's module, so what the module remembers lasts from one start to the next. */
class ScriptWorker {
  private readonly worker: Worker
  private readonly waiting = new Set<Listener>()
  private control: ControlBlock | undefined
  private finished: Promise<void> = Promise.resolve()
  private streams: readonly StreamPlan[] = []

  constructor(start: WorkerStart, say: (text: string) => void) {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    this.worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), {
      workerData: start,
      name: `lcore-${start.lcore}`,
    })
    this.worker.on('message', (report: WorkerReport) => {
      if (report.type === 'log') say(`${report.text}\n`)
      if (report.type === 'thrown') say(this.thrownText(report.stream, report.message))
      for (const listener of this.waiting) listener(report)
    })
    const gone = (message: string): void => {
      for (const listener of this.waiting) listener({ type: 'failed', message })
    }
    this.worker.on('error', (error) => gone(`script worker of lcore ${start.lcore}: ${String(error)}`))
    this.worker.on('exit', (code) => gone(`script worker of lcore ${start.lcore} ended with code ${code}`))
  }

  private thrownText(stream: number, message: string): string {
    const plan = this.streams[stream]
    const name =
      plan === undefined
        ? ''
        : ` on RX P=${plan.rxPort}/Q=${plan.rxQueue} -> TX P=${plan.txPort}/Q=${plan.txQueue}`
    return `\nscript: ${message}\nscript: forwarding stopped${name}; the statistics count until here\n`
  }

  /** Resolves at the first report of one of `types`; rejects when the worker fails before. */
  private next(...types: readonly WorkerReport['type'][]): Promise<void> {
    return new Promise((resolve, reject) => {
      const listener: Listener = (report) => {
        if (report.type !== 'failed' && !types.includes(report.type)) return
        this.waiting.delete(listener)
        if (report.type === 'failed') reject(new FatalError(report.message))
        else resolve()
      }
      this.waiting.add(listener)
    })
  }

  loaded(): Promise<void> {
    return this.next('loaded')
  }

  /** Resolves when the worker polls. */
  start(plan: CorePlan, burst: number, hand: (plan: StreamPlan) => StreamOrder): Promise<void> {
    this.streams = plan.streams
    this.control = ControlBlock.forStreams(plan.streams.length)
    const order: RunOrder = {
      control: this.control.buffer,
      burst,
      streams: plan.streams.map((one) => hand(one)),
    }
    this.finished = this.next('done')
    // A failure is told by `running`, and again when the session stops: not as an unhandled rejection in between.
    this.finished.catch(() => {})
    const running = this.next('running', 'done')
    this.worker.postMessage(order, [])
    return running
  }

  moved(): readonly Moved[] {
    const { control } = this
    return control === undefined ? [] : this.streams.map((_, i) => control.moved(i))
  }

  signalStop(): void {
    this.control?.stop()
  }

  /** Resolves when the worker has left its loop and released its queues. */
  async stopped(): Promise<void> {
    await this.finished
  }

  async close(): Promise<void> {
    this.signalStop()
    await this.worker.terminate()
  }
}

/** What a stream has moved with all workers that it had. */
const together = (one: Moved | undefined, other: Moved): Moved => ({
  rx: (one?.rx ?? 0) + other.rx,
  tx: (one?.tx ?? 0) + other.tx,
  dropped: (one?.dropped ?? 0) + other.dropped,
})

/** A part of a run: the streams of one lcore, and who forwards them now. */
interface Running {
  readonly plan: CorePlan
  worker: ScriptWorker
  /** What workers that were replaced have moved, by stream. */
  before: readonly Moved[]
}

const movedOf = ({ worker, before }: Running): readonly Moved[] =>
  worker.moved().map((moved, i) => together(before[i], moved))

/** The workers of a session's script, one for each forwarding lcore that is used. */
export class ScriptRunner {
  private script: string
  private readonly say: (text: string) => void
  private workers = new Map<number, ScriptWorker>()
  private readonly lcores = new Map<number, LcoreConfig>()
  private running: Running[] = []
  private ended: readonly Moved[] = []
  private replacing: Promise<void> = Promise.resolve()

  /** `say` prints what a script logs and throws. */
  constructor(file: string, say: (text: string) => void) {
    this.script = file
    this.say = say
  }

  /** The file of the script that forwards now. */
  get file(): string {
    return this.script
  }

  /** Starts a worker for each lcore and loads the script in it. Throws when the script cannot be loaded. */
  async load(lcores: readonly LcoreConfig[]): Promise<void> {
    await this.replacing
    const missing = lcores.filter((lcore) => !this.workers.has(lcore.id))
    for (const lcore of missing) this.lcores.set(lcore.id, lcore)
    for (const [id, worker] of await this.workersFor(this.script, missing)) this.workers.set(id, worker)
  }

  /** A loaded worker for each lcore, or none: those that could be started are ended again when one cannot. */
  private async workersFor(
    file: string,
    lcores: readonly LcoreConfig[],
  ): Promise<ReadonlyMap<number, ScriptWorker>> {
    const fresh = lcores.map(({ id, cpus }) => {
      // As native lcores: pinned to one CPU or to none.
      const cpu = cpus.length === 1 ? cpus[0] : undefined
      return [id, new ScriptWorker({ file, lcore: id, cpu }, this.say)] as const
    })
    try {
      await Promise.all(fresh.map(([, worker]) => worker.loaded()))
      return new Map(fresh)
    } catch (error) {
      await Promise.allSettled(fresh.map(([, worker]) => worker.close()))
      throw error
    }
  }

  /** Hands the queues of every stream over and resolves when all workers poll. */
  async start(
    plans: readonly CorePlan[],
    burst: number,
    hand: (plan: StreamPlan) => StreamOrder,
  ): Promise<void> {
    await this.replacing
    this.running = plans.map((plan) => ({ plan, worker: this.workers.get(plan.lcore)!, before: [] }))
    await Promise.all(this.running.map(({ worker, plan }) => worker.start(plan, burst, hand)))
  }

  /**
   * Puts another script, or the same file as it is now, in the place of the one that forwards. It is loaded first, in threads of its own: when
   * that fails this throws, and what forwards goes on. Then each lcore's streams go over at once: the old worker ends with the burst that it
   * has, what comes meanwhile waits in the rings. What the old one's module remembers is gone.
   */
  replace(file: string, burst: number, hand: (plan: StreamPlan) => StreamOrder): Promise<void> {
    const replaced = this.replacing.then(() => this.exchange(file, burst, hand))
    // The next one waits for this one, however it ends.
    this.replacing = replaced.catch(() => {})
    return replaced
  }

  private async exchange(
    file: string,
    burst: number,
    hand: (plan: StreamPlan) => StreamOrder,
  ): Promise<void> {
    const fresh = await this.workersFor(file, [...this.lcores.values()])
    for (const part of this.running) {
      const old = part.worker
      old.signalStop()
      await old.stopped()
      part.before = movedOf(part)
      part.worker = fresh.get(part.plan.lcore)!
      await part.worker.start(part.plan, burst, hand)
    }
    const old = [...this.workers.values()]
    this.workers = new Map(fresh)
    this.script = file
    await Promise.allSettled(old.map((worker) => worker.close()))
  }

  /** What each stream moved so far, in the order of the plans that were started. */
  moved(): readonly Moved[] {
    return this.running.length > 0 ? this.running.flatMap((part) => movedOf(part)) : this.ended
  }

  /** Stops every worker at its next look at the flag; resolves when all queues are released. Says which worker failed. */
  async stop(): Promise<void> {
    await this.replacing
    for (const { worker } of this.running) worker.signalStop()
    const results = await Promise.allSettled(this.running.map(({ worker }) => worker.stopped()))
    for (const result of results)
      if (result.status === 'rejected') this.say(`script: ${messageOf(result.reason)}\n`)
    // Nothing is handed to a run that has ended; its counts stay.
    this.ended = this.running.flatMap((part) => movedOf(part))
    this.running = []
  }

  async close(): Promise<void> {
    await this.replacing
    await Promise.allSettled([...this.workers.values()].map((worker) => worker.close()))
    this.workers.clear()
  }
}
