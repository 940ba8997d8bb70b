// Runs in a guest. Promise: vring, as it is built on the host, works on a Debian kernel in a virtual machine.
import test from 'ava'
import { Mempool, Port } from '../../../ts/index.ts'

test('a port sends to its peer in the guest', async (t) => {
  using mempool = new Mempool({ count: 512, pages: '4K' })
  await using a = await Port.open({ driver: 'net_ring' }, { mempool })
  using burst = mempool.createBurst()
  for (let i = 0; i < 8; i++) burst.push(Buffer.alloc(60, i))
  t.is(a.txQueues[0]!.txBurst(burst), 8)
  t.is(a.rxQueues[0]!.rxBurst(burst), 8)
  t.deepEqual(Buffer.from(burst.bytes(7)), Buffer.alloc(60, 7))
  burst.free()
})
