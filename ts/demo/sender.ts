/** Where the demo's packets come from and where they go. */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { Lcore } from '../lcore.ts'
import type { Mempool } from '../mempool.ts'
import { Port } from '../port.ts'
import type { DemoOptions } from './options.ts'

/** One end of the traffic: sends on a port until it is done or told to stop, and takes what comes back. */
export interface Traffic {
  /** Resolves when everything was sent, or the signal fired. */
  send(signal: AbortSignal): Promise<void>
  /** Packets that came back. */
  received(): number
  close(): Promise<void>
}

/** Packets of our own, from a native thread; counted and freed by another one when they come back. */
export function generatedTraffic(port: Port, { size, packets, seconds }: DemoOptions): Traffic {
  const [sender, receiver] = [new Lcore({ name: 'demo-send' }), new Lcore({ name: 'demo-receive' })]
  receiver.start('rxonly', [{ rx: port.rxQueues[0]! }])
  return {
    async send(signal) {
      const limit = packets === undefined ? {} : { limit: packets }
      sender.start('txonly', [{ tx: port.txQueues[0]! }], { txpkts: [size], ...limit })
      const stop = (): void => void sender.stop()
      signal.addEventListener('abort', stop, { once: true })
      const timer = packets === undefined ? setTimeout(stop, seconds * 1000) : undefined
      if (signal.aborted) stop()
      await sender.wait()
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    },
    received: () => receiver.stats().streams[0]?.rx ?? 0,
    async close() {
      await Promise.all([sender.close(), receiver.close()])
    },
  }
}

/** The packets of a capture, each once; what comes back is written to another. */
export async function capturedTraffic(port: Port, mempool: Mempool, options: DemoOptions): Promise<Traffic> {
  const capture = { driver: 'net_pcap', rxPcap: options.pcap!, txPcap: options.out! } as const
  const file = await Port.open(capture, { mempool })
  const receiver = new Lcore({ name: 'demo-receive' })
  receiver.start('io', [{ rx: port.rxQueues[0]!, tx: file.txQueues[0]! }])
  const [source, link] = [file.rxQueues[0]!, port.txQueues[0]!]

  async function send(signal: AbortSignal): Promise<void> {
    let left = options.packets ?? Number.POSITIVE_INFINITY
    for await (const burst of source.bursts({ signal })) {
      burst.truncate(left)
      left -= burst.length
      while (burst.length > 0 && !signal.aborted) {
        // The ring is full: the other threads need the processor more than this one.
        if (link.txBurst(burst) === 0) await sleep(1)
        else await turn()
      }
      if (left === 0) return
    }
  }

  return {
    send,
    received: () => receiver.stats().streams[0]?.tx ?? 0,
    async close() {
      await receiver.close()
      await file.close()
    },
  }
}
