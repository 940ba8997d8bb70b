/** The thread that runs a script: one for each forwarding lcore. It forwards until the flag says stop. */
import { register } from 'node:module'
import { pathToFileURL } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import { native } from '../../binding.ts'
import { attempt } from '../../errors.ts'
import { type Burst, RxQueue, TxQueue } from '../../index.ts'
import { describeThrown, type ForwardScript, readExport, type ScriptContext } from './api.ts'
import {
  ControlBlock,
  type RunOrder,
  type StreamOrder,
  type WorkerReport,
  type WorkerStart,
} from './protocol.ts'

const port = parentPort!
const { file, lcore, cpu } = workerData as WorkerStart
const report = (message: WorkerReport): void => port.postMessage(message)
const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'

interface Stream {
  readonly index: number
  readonly rx: RxQueue
  readonly tx: TxQueue
  readonly burst: Burst
  readonly context: ScriptContext
}

/** Compiles TypeScript as it is loaded, in this thread. It has no declarations, so its name is kept from the compiler. */
const LOADER: string = '@oxc-node/core/register'

/** Loads the script. The process may have been started with the loader already. */
async function load(): Promise<ForwardScript> {
  const loading = process.execArgv.some((argument) => argument.includes('@oxc-node/core'))
  if (!loading) await import(LOADER)
  register(`./hooks.${extension}`, {
    parentURL: import.meta.url,
    data: new URL(`../../index.${extension}`, import.meta.url).href,
  })
  const module = (await import(pathToFileURL(file).href)) as { readonly default?: unknown }
  return readExport(module.default, file)
}

function open(order: StreamOrder, index: number, size: number): Stream {
  const { plan } = order
  const rx = RxQueue.adopt(order.rx)
  const tx = TxQueue.adopt(order.tx)
  const context: ScriptContext = {
    pool: rx.mempool,
    rx,
    tx,
    rxPort: plan.rxPort,
    txPort: plan.txPort,
    queue: plan.rxQueue,
    lcore,
    log: (text) => report({ type: 'log', text }),
  }
  return { index, rx, tx, burst: rx.mempool.createBurst(size), context }
}

/** Moves one burst through the script. Counts as it goes: a session reads the counters meanwhile. */
function turn(
  { index, rx, tx, burst, context }: Stream,
  script: ForwardScript,
  counters: Float64Array,
): void {
  const received = rx.rxBurst(burst)
  if (received === 0) return
  const at = ControlBlock.at(index)
  counters[at] = counters[at]! + received
  script.burst(burst, context)
  if (burst.length > 0) counters[at + 1] = counters[at + 1]! + tx.txBurst(burst)
  if (burst.length > 0) {
    counters[at + 2] = counters[at + 2]! + burst.length
    burst.free()
  }
}

/** Polls until told to stop. A stream whose script throws is left out from then on. */
function forward(streams: Stream[], script: ForwardScript, control: ControlBlock): void {
  while (streams.length > 0 && !control.stopping) {
    // The flag is read once in a few rounds: its cache line stays with the session that way.
    for (let round = 0; round < 16; round++) {
      for (let i = 0; i < streams.length; i++) {
        const stream = streams[i]!
        try {
          turn(stream, script, control.counters)
        } catch (error) {
          const at = ControlBlock.at(stream.index)
          control.counters[at + 2] = control.counters[at + 2]! + stream.burst.length
          report({ type: 'thrown', stream: stream.index, message: describeThrown(error, file) })
          streams.splice(i--, 1)
        }
      }
    }
  }
  // Every stream failed: nothing to poll, so sleep until the session stops.
  Atomics.wait(control.flag, 0, 0)
}

/** Calls one of the script's optional functions for every stream; a stream for which it throws is left out. */
async function each(streams: Stream[], call: (stream: Stream) => void | Promise<void>): Promise<Stream[]> {
  const good: Stream[] = []
  for (const stream of streams) {
    try {
      await call(stream)
      good.push(stream)
    } catch (error) {
      report({ type: 'thrown', stream: stream.index, message: describeThrown(error, file) })
    }
  }
  return good
}

async function run(script: ForwardScript, order: RunOrder): Promise<void> {
  const streams: Stream[] = []
  try {
    for (const stream of order.streams) streams.push(open(stream, streams.length, order.burst))
    const ready = await each(streams, (stream) => script.setup?.(stream.context))
    report({ type: 'running' })
    const working = [...ready]
    forward(working, script, new ControlBlock(order.control))
    await each(working, (stream) => script.stop?.(stream.context))
  } finally {
    for (const { rx, tx, burst } of streams) {
      burst.close()
      rx.release()
      tx.release()
    }
    report({ type: 'done' })
  }
}

try {
  // Before anything else: what the script makes at its loading is then in memory that is near.
  if (cpu !== undefined) attempt(() => native.pinThread(cpu))
  const script = await load()
  port.on('message', (order: RunOrder) => {
    run(script, order).catch((error: unknown) =>
      report({ type: 'failed', message: describeThrown(error, file) }),
    )
  })
  report({ type: 'loaded' })
} catch (error) {
  report({ type: 'failed', message: describeThrown(error, file) })
}
