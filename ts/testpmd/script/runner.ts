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

/** The workers of a session's script, one for each forwarding lcore that is used. */
export class ScriptRunner {
  private readonly file: string
  private readonly say: (text: string) => void
  private readonly workers = new Map<number, ScriptWorker>()
  private running: ScriptWorker[] = []

  /** `say` prints what a script logs and throws. */
  constructor(file: string, say: (text: string) => void) {
    this.file = file
    this.say = say
  }

  /** Starts a worker for each lcore and loads the script in it. Throws when the script cannot be loaded. */
  async load(lcores: readonly LcoreConfig[]): Promise<void> {
    const fresh = lcores.filter((lcore) => !this.workers.has(lcore.id))
    await Promise.all(
      fresh.map(async ({ id, cpus }) => {
        // As native lcores: pinned to one CPU or to none.
        const cpu = cpus.length === 1 ? cpus[0] : undefined
        const worker = new ScriptWorker({ file: this.file, lcore: id, cpu }, this.say)
        this.workers.set(id, worker)
        await worker.loaded()
      }),
    )
  }

  /** Hands the queues of every stream over and resolves when all workers poll. */
  async start(
    plans: readonly CorePlan[],
    burst: number,
    hand: (plan: StreamPlan) => StreamOrder,
  ): Promise<void> {
    this.running = plans.map((plan) => this.workers.get(plan.lcore)!)
    await Promise.all(this.running.map((worker, i) => worker.start(plans[i]!, burst, hand)))
  }

  /** What each stream moved so far, in the order of the plans that were started. */
  moved(): readonly Moved[] {
    return this.running.flatMap((worker) => worker.moved())
  }

  /** Stops every worker at its next look at the flag; resolves when all queues are released. Says which worker failed. */
  async stop(): Promise<void> {
    for (const worker of this.running) worker.signalStop()
    const results = await Promise.allSettled(this.running.map((worker) => worker.stopped()))
    for (const result of results)
      if (result.status === 'rejected') this.say(`script: ${messageOf(result.reason)}\n`)
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.workers.values()].map((worker) => worker.close()))
    this.workers.clear()
  }
}
