// Memory on hugepages: they are used where they can be had, demanded where they must be, and shared with a peer like any other.
import test from 'ava'
import { Lcore, Mempool, Port } from '../ts/index.ts'
import { needs, reserveHugepages, scratch } from './rig/index.ts'

// 4096 buffers are five pages of 2 MiB.
const pool = { count: 4096 } as const

test('hugepages that are demanded and not there are an error that says how to get them', (t) => {
  const error = t.throws(() => new Mempool({ ...pool, pages: '1G' }), { code: 'ERR_VRING_NO_HUGEPAGES' })
  t.regex(error.message, /expected .* on 1G hugepages/)
  t.regex(error.message, /nr_hugepages/)
})

needs(test, 'hugepages')(
  '2M pages are taken when they are free, and a vhost pair works on them',
  async (t) => {
    const restore = reserveHugepages(12)
    try {
      using folder = scratch()
      const mempool = new Mempool({ ...pool, pages: '2M' })
      t.is(mempool.pageSize, 2 << 20)
      {
        await using device = await Port.open({ driver: 'net_vhost', iface: folder.path('s') }, { mempool })
        await using driver = await Port.open(
          { driver: 'net_virtio_user', path: folder.path('s') },
          { mempool },
        )
        await Promise.all([device.waitForLink(), driver.waitForLink()])
        await using sender = new Lcore()
        await using receiver = new Lcore()
        receiver.start('rxonly', [{ rx: device.rxQueues[0]! }], { limit: 20_000 })
        sender.start('txonly', [{ tx: driver.txQueues[0]! }], { limit: 20_000 })
        await sender.wait()
        await receiver.stop()
        const [sent, received] = [driver.stats(), device.stats()]
        t.true(sent.txPackets > 0)
        t.is(sent.txPackets, received.rxPackets + (sent.drops['tx_unconfirmed'] ?? 0))
      }
      t.is(mempool.freeCount, mempool.count)
      mempool.close()
      using automatic = new Mempool({ ...pool, pages: 'auto' })
      t.is(automatic.pageSize, 2 << 20, 'auto takes hugepages where they can be had')
    } finally {
      restore()
    }
  },
)
