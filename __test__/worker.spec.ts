// Queues move between threads by hand-over, belong to one at a time, and come back when a thread ends however it ends.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Mempool, Port, RxQueue, TxQueue } from '../ts/index.ts'
import type { Order } from './workers/queue.ts'

const options = { count: 2048, pages: '4K' } as const

function start(): { readonly worker: Worker; readonly ask: (order: Order) => Promise<string> } {
  const worker = new Worker(new URL('workers/queue.ts', import.meta.url))
  return {
    worker,
    async ask(order) {
      worker.postMessage(order)
      const [answer] = (await once(worker, 'message')) as [string]
      return answer
    },
  }
}

const frame = Buffer.from('0200000000010200000000020800'.padEnd(120, '0'), 'hex')

/** Two net_ring ports, connected crosswise: this thread has one, a Worker the other. */
async function pair(mempool: Mempool): Promise<{ near: Port; far: Port }> {
  const far = await Port.open('net_ring0', { mempool })
  const near = await Port.open('net_ring1,peer=net_ring0', { mempool })
  return { near, far }
}

test('a Worker adopts both queues, swaps and returns packets, and releases', async (t) => {
  using mempool = new Mempool(options)
  const { near, far } = await pair(mempool)
  const { worker, ask } = start()
  const [rx, tx] = [far.rxQueues[0]!, far.txQueues[0]!]
  const tokens = structuredClone({ rx: rx.handOver(), tx: tx.handOver() })
  t.is(
    await ask({ do: 'adopt', ...tokens }),
    'adopted net_ring0 rx queue 0, port undefined, one mempool true',
  )
  using burst = mempool.createBurst(64)
  for (let i = 0; i < 50; i++) burst.push(frame)
  const done = ask({ do: 'forward', packets: 50 })
  t.is(near.txQueues[0]!.txBurst(burst), 50)
  let came = 0
  for await (const back of near.rxQueues[0]!) {
    came += back.length
    t.is(Buffer.from(back.bytes(0).subarray(0, 12)).toString('hex'), '020000000002020000000001')
    back.free()
    if (came === 50) break
  }
  t.is(await done, 'forwarded 50')
  t.throws(() => rx.rxBurst(burst), {
    code: 'ERR_VRING_HANDED_OVER',
    message: /net_ring0 rx queue 0 was handed over/,
  })
  t.throws(() => tx.txBurst(burst), { code: 'ERR_VRING_HANDED_OVER' })
  t.is(far.stats().rxPackets, 50, 'the port counts what its queues did in the Worker')
  t.is(await ask({ do: 'release' }), 'released')
  t.is(rx.rxBurst(burst), 0, 'released, it can be used here again')
  await worker.terminate()
  await Promise.all([near.close(), far.close()])
  t.is(mempool.freeCount, mempool.count)
})

test('a token is good for one adoption, of its own direction', async (t) => {
  using mempool = new Mempool(options)
  await using port = await Port.open('net_ring0', { mempool })
  const queue = port.rxQueues[0]!
  const first = queue.handOver()
  t.throws(() => TxQueue.adopt(first), { code: 'ERR_VRING_TOKEN', message: /RxQueue\.adopt/ })
  const second = queue.handOver()
  t.throws(() => RxQueue.adopt(first), { code: 'ERR_VRING_TOKEN' }, 'a new token voids the old one')
  using burst = mempool.createBurst()
  t.throws(() => queue.rxBurst(burst), { code: 'ERR_VRING_HANDED_OVER' }, 'nobody has it, but the token does')
  const adopted = RxQueue.adopt(second)
  t.is(adopted.rxBurst(burst), 0)
  t.is(adopted.mempool, mempool, 'one object for one pool')
  t.is(adopted.port, undefined)
  t.throws(() => RxQueue.adopt(second), { code: 'ERR_VRING_TOKEN' })
  t.throws(() => RxQueue.adopt({} as typeof second), { code: 'ERR_VRING_INVALID_ARGUMENT' })
})

test('a second thread cannot have a queue, nor give it away', async (t) => {
  using mempool = new Mempool(options)
  await using port = await Port.open('net_ring0', { mempool })
  const { worker, ask } = start()
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  await ask({ do: 'adopt', rx: rx.handOver(), tx: tx.handOver() })
  t.throws(() => rx.handOver(), { code: 'ERR_VRING_HANDED_OVER' })
  await worker.terminate()
})

test('a Worker that ends asleep on a queue gives it back, with the packets of its bursts', async (t) => {
  using mempool = new Mempool(options)
  await using port = await Port.open('net_ring0', { mempool })
  using burst = mempool.createBurst()
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  for (const end of ['terminate', 'exit', 'terminate', 'exit']) {
    const { worker, ask } = start()
    t.is(
      await ask({ do: 'adopt', rx: rx.handOver(), tx: tx.handOver() }),
      'adopted net_ring0 rx queue 0, port undefined, one mempool true',
    )
    t.is(await ask({ do: 'sleep' }), 'asleep')
    const gone = once(worker, 'exit')
    if (end === 'terminate') await worker.terminate()
    else worker.postMessage({ do: 'exit' } satisfies Order)
    await gone
    t.is(rx.rxBurst(burst), 0, `after ${end} the queue is free`)
    t.is(tx.txBurst(burst), 0)
    t.is(mempool.freeCount, mempool.count)
  }
})

test('a port that a Worker opened closes with it, and an lcore stops', async (t) => {
  using mempool = new Mempool(options)
  await using port = await Port.open('net_ring0', { mempool })
  const { worker, ask } = start()
  t.is(await ask({ do: 'open', device: 'net_null0' }), 'opened net_null0')
  await t.throwsAsync(
    Port.open('net_null0', { mempool }),
    { code: 'ERR_VRING_NAME_IN_USE' },
    'names are the process’s',
  )
  await ask({ do: 'adoptRx', rx: port.rxQueues[0]!.handOver() })
  t.is(await ask({ do: 'release' }), 'released')
  t.is(await ask({ do: 'lcore' }), 'running')
  await worker.terminate()
  await using again = await Port.open('net_null0', { mempool })
  t.is(again.name, 'net_null0')
  using burst = mempool.createBurst()
  t.is(port.rxQueues[0]!.rxBurst(burst), 0, 'the lcore gave the queue back')
})

test('a queue of a port that is closed meanwhile ends the Worker’s iteration', async (t) => {
  using mempool = new Mempool(options)
  const port = await Port.open('net_ring0', { mempool })
  const { worker, ask } = start()
  await ask({ do: 'adopt', rx: port.rxQueues[0]!.handOver(), tx: port.txQueues[0]!.handOver() })
  const done = ask({ do: 'forward', packets: 1 })
  await port.close()
  t.is(await done, 'forwarded 0')
  await worker.terminate()
})
