// A Worker that does with queues what it is told, one order a message, and answers what came of it.
import { parentPort } from 'node:worker_threads'
import {
  EthernetView,
  Lcore,
  Mempool,
  Port,
  type QueueToken,
  RxQueue,
  TxQueue,
  VringError,
} from '../../ts/index.ts'

/** What a test can ask for. */
export type Order =
  | { readonly do: 'adopt'; readonly rx: QueueToken; readonly tx: QueueToken }
  | { readonly do: 'adoptRx'; readonly rx: QueueToken }
  | { readonly do: 'forward'; readonly packets: number }
  | { readonly do: 'sleep' }
  | { readonly do: 'release' }
  | { readonly do: 'open'; readonly device: string }
  | { readonly do: 'lcore' }
  | { readonly do: 'exit' }

let rx: RxQueue | undefined
let tx: TxQueue | undefined
const kept: unknown[] = []

/** Swaps and returns packets until there were so many. */
async function forward(packets: number): Promise<string> {
  const ethernet = new EthernetView(rx!.mempool)
  let count = 0
  for await (const burst of rx!) {
    for (let i = 0; i < burst.length; i++) ethernet.at(burst.addr[i]!).swapMacs()
    count += tx!.txBurst(burst)
    if (count >= packets) break
  }
  return `forwarded ${count}`
}

async function carryOut(order: Exclude<Order, { readonly do: 'exit' }>): Promise<string> {
  switch (order.do) {
    case 'adopt':
      rx = RxQueue.adopt(order.rx)
      tx = TxQueue.adopt(order.tx)
      return `adopted ${rx.label}, port ${typeof rx.port}, one mempool ${rx.mempool === tx.mempool}`
    case 'adoptRx':
      rx = RxQueue.adopt(order.rx)
      return 'adopted'
    case 'forward':
      return forward(order.packets)
    case 'sleep':
      // Armed and asleep, for good: whoever ends this thread must not mind.
      void rx![Symbol.asyncIterator]().next()
      kept.push(rx!.mempool.createBurst().push(new Uint8Array(60)))
      return 'asleep'
    case 'release':
      rx?.release()
      tx?.release()
      return 'released'
    case 'open': {
      const mempool = new Mempool({ count: 512, pages: '4K' })
      const port = await Port.open(order.device, { mempool })
      kept.push(port)
      return `opened ${port.name}`
    }
    case 'lcore': {
      const lcore = new Lcore()
      lcore.start('rxonly', [{ rx: rx! }])
      kept.push(lcore)
      return 'running'
    }
    default:
      return order satisfies never
  }
}

parentPort!.on('message', (order: Order) => {
  if (order.do === 'exit') process.exit(0)
  carryOut(order).then(
    (answer) => parentPort!.postMessage(answer),
    (error: unknown) => parentPort!.postMessage(error instanceof VringError ? error.code : String(error)),
  )
})
