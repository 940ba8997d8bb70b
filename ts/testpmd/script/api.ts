/** What the module of `vring testpmd --script FILE.ts` exports, and what it is given. */
import type { Burst, Mempool, RxQueue, TxQueue } from '../../index.ts'

/** Where a script stands: one context for each stream, the same object at every call. */
export interface ScriptContext {
  /** The mempool that the packets of this stream live in: `pool.bytes[burst.addr[i]]` is packet i's first byte. */
  readonly pool: Mempool
  /** The queue that the bursts come from. The loop polls it; a script has no need to. */
  readonly rx: RxQueue
  /** The queue that the loop sends the burst on when the script returns. A script may send on it as well. */
  readonly tx: TxQueue
  /** Number of the port that `rx` belongs to. */
  readonly rxPort: number
  /** Number of the port that `tx` belongs to. */
  readonly txPort: number
  /** Number of the receive queue within its port. */
  readonly queue: number
  /** Number of the lcore that runs the script. */
  readonly lcore: number
  /** Prints a line on the session's terminal. For setting up and for rare events: it makes an object a call. */
  log(text: string): void
}

/**
 * Called with every burst that was received, on the forwarding thread. It edits packets in place and takes out what is
 * not to be sent (`burst.drop(i)`); what is in `burst` when it returns is sent on the stream's transmit queue, and what
 * that does not take is dropped and counted. It must return without waiting: promises and timers do not advance while
 * packets are forwarded. An error that it throws ends forwarding on this stream; the others go on.
 */
export type BurstFunction = (burst: Burst, context: ScriptContext) => void

/** A script with a beginning and an end. A module may export just the function as its default instead. */
export interface ForwardScript {
  /** Called once for each stream when forwarding starts, before its first burst. May be asynchronous. */
  setup?(context: ScriptContext): void | Promise<void>
  /** See {@link BurstFunction}. */
  burst(burst: Burst, context: ScriptContext): void
  /** Called once for each stream after its last burst when forwarding stops. */
  stop?(context: ScriptContext): void
}

/** What a script's module may have as its default export. */
export type ScriptExport = BurstFunction | ForwardScript

/** Makes one thing of the two forms, or says what is wrong with the export. */
export function readExport(exported: unknown, file: string): ForwardScript {
  if (typeof exported === 'function') {
    const call = exported as BurstFunction
    return { burst: (burst, context) => call(burst, context) }
  }
  if (
    typeof exported === 'object' &&
    exported !== null &&
    'burst' in exported &&
    typeof exported.burst === 'function'
  ) {
    return exported as ForwardScript
  }
  const came = exported === undefined ? 'there is none' : `it is of type ${typeof exported}`
  throw new TypeError(
    `${file}: expected the default export to be a function (burst, context) or an object with one named burst, but ${came}`,
  )
}

/** The first place of an error's stack that is in a file, as `file:line:column`; else the file itself. */
export function placeOf(error: unknown, file: string): string {
  const stack = error instanceof Error ? (error.stack ?? '') : ''
  for (const line of stack.split('\n').slice(1)) {
    const place = /(?:file:\/\/)?(\/[^()]*:\d+:\d+)\)?$/.exec(line)?.[1]
    if (place !== undefined && !place.includes('/node_modules/')) return place
  }
  return file
}

/** One line about an error that a script threw: where, and what. */
export function describeThrown(error: unknown, file: string): string {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : `${String(error)} (not an Error)`
  return `${placeOf(error, file)}: ${what}`
}
