/** What a call into the addon costs, and a burst by its size. */
import { type Burst, Mempool, Port } from 'vring'
import { heading, measure, type Result } from './suite.ts'

const SIZES = [1, 4, 8, 16, 32, 64, 128, 256]

function fill(mempool: Mempool, burst: Burst, count: number): void {
  mempool.alloc(burst, count)
  burst.len.fill(64, 0, count)
}

/** See the file's first line. */
export async function benchCalls(): Promise<readonly Result[]> {
  const results: Result[] = []
  using mempool = new Mempool({ count: 4096 })
  await using ring = await Port.open({ driver: 'net_ring' }, { mempool })
  await using none = await Port.open({ driver: 'net_null' }, { mempool })
  const [rx, tx] = [ring.rxQueues[0]!, ring.txQueues[0]!]
  const [nullRx, nullTx] = [none.rxQueues[0]!, none.txQueues[0]!]

  heading('a native call')
  using empty = mempool.createBurst(32)
  results.push(measure('free() of an empty burst: a call that does nothing', () => empty.free()))
  results.push(measure('rxBurst() of an empty net_ring', () => void rx.rxBurst(empty)))
  results.push(measure('txBurst() of an empty burst', () => void tx.txBurst(empty)))

  heading('txBurst() + rxBurst() on net_ring, by packets of a burst')
  for (const size of SIZES) {
    using burst = mempool.createBurst(size)
    fill(mempool, burst, size)
    const both = (): void => {
      tx.txBurst(burst)
      rx.rxBurst(burst)
    }
    results.push(measure(`net_ring ${size}`, both, size))
  }

  heading('rxBurst() + txBurst() on net_null, by packets of a burst')
  for (const size of SIZES) {
    using burst = mempool.createBurst(size)
    const both = (): void => {
      nullRx.rxBurst(burst)
      nullTx.txBurst(burst)
    }
    results.push(measure(`net_null ${size}`, both, size))
  }
  return results
}
