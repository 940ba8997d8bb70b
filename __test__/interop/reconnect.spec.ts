// Promise: a peer that ends or dies and comes back is served by the same port object: the link goes down and up, in this
// order, packets pass again both ways, and no buffer is lost, whoever listens on the socket.
import { rmSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { Lcore, Mempool, Port } from '../../ts/index.ts'
import { needs, scratch, Testpmd } from '../rig/index.ts'
import { devices, LIMIT, options, until } from './link.ts'

const WINDOW = 64

/** A window of packets goes round and round between DPDK and our `io`. */
async function circulate(t: ExecutionContext, port: Port, dpdk: Testpmd): Promise<void> {
  const before = port.stats()
  await dpdk.command('start tx_first 2')
  await dpdk.waitForStats('packets come back', (stats) => stats.rxPackets >= 10_000)
  const now = port.stats()
  t.true(now.rxPackets - before.rxPackets >= 10_000 - WINDOW)
  t.true(now.txPackets - before.txPackets >= 10_000)
}

/** DPDK stops and is looked at: what it sent arrived, what came back is all but the window. */
async function account(t: ExecutionContext, port: Port, dpdk: Testpmd, before: number): Promise<void> {
  await dpdk.command('stop')
  const theirs = await dpdk.portStats()
  await until('all of it', () => port.stats().rxPackets - before >= theirs.txPackets)
  t.is(port.stats().rxPackets - before, theirs.txPackets)
  t.is(theirs.txPackets - theirs.rxPackets, WINDOW)
}

for (const ours of ['net_virtio_user', 'net_vhost'] as const) {
  for (const weListen of [true, false]) {
    const role = weListen ? 'server' : 'client'
    needs(test, 'dpdk')(`${ours} as ${role}: DPDK quits, comes back, is killed, comes back`, async (t) => {
      using folder = scratch()
      using pool = new Mempool(options)
      const { our, their } = devices({ ours, weListen }, folder.path('s0'))
      await using port = await Port.open(our, { mempool: pool })
      const changes: string[] = []
      const errors: Error[] = []
      port.on('link', ({ up }) => changes.push(up ? 'up' : 'down'))
      port.on('error', (error) => errors.push(error))
      await using lcore = new Lcore()
      lcore.start('io', [{ rx: port.rxQueues[0]!, tx: port.txQueues[0]! }])
      const ends = ['quit', 'kill in traffic', 'quit', 'kill in traffic'] as const
      for (const [i, end] of ends.entries()) {
        await using dpdk = await Testpmd.dpdk({ vdevs: [their], forward: 'io' })
        await port.waitForLink(true, { timeout: LIMIT })
        await dpdk.waitForLink()
        const before = port.stats().rxPackets
        await circulate(t, port, dpdk)
        if (end === 'quit') {
          await account(t, port, dpdk, before)
          t.is(await dpdk.quit(), 0)
        } else {
          await dpdk.kill()
          // DPDK does not remove a socket that its killed self left behind; who starts it anew has to.
          if (!weListen) rmSync(folder.path('s0'))
        }
        await port.waitForLink(false, { timeout: LIMIT })
        await until('the events', () => changes.length === 2 * (i + 1))
        t.deepEqual(
          changes,
          ends.slice(0, i + 1).flatMap(() => ['up', 'down']),
        )
      }
      const { streams } = await lcore.stop()
      const stats = port.stats()
      // Everything received was sent, was in the peer's ring when it died, or found the link down: nothing vanished.
      t.is(streams[0]!.rx, stats.rxPackets)
      const unconfirmed = stats.drops['tx_unconfirmed'] ?? 0
      t.is(streams[0]!.rx, streams[0]!.tx + streams[0]!.dropped)
      t.is(streams[0]!.tx, stats.txPackets)
      t.true(unconfirmed <= ends.length * WINDOW)
      t.deepEqual(
        Object.keys(stats.drops).filter((name) => name !== 'tx_unconfirmed' && name !== 'rx_unread'),
        [],
      )
      t.deepEqual(errors, [])
      t.is(pool.freeCount, pool.count, 'with the port open, all buffers are back')
    })
  }
}

needs(test, 'dpdk')('a peer that finds nobody waits, and the port that comes later serves it', async (t) => {
  using folder = scratch()
  using pool = new Mempool(options)
  const { our, their } = devices({ ours: 'net_virtio_user', weListen: true }, folder.path('s0'))
  // DPDK's vhost dials again and again; ours comes, goes, and comes again as another port.
  await using dpdk = await Testpmd.dpdk({ vdevs: [their], forward: 'io', autoStart: true })
  for (const round of [1, 2]) {
    await using port = await Port.open(our, { mempool: pool })
    await using lcore = new Lcore()
    await port.waitForLink(true, { timeout: LIMIT })
    await dpdk.waitForLink()
    lcore.start('io', [{ rx: port.rxQueues[0]!, tx: port.txQueues[0]! }], { firstBursts: 2, limit: 10_000 })
    const { streams } = await lcore.wait()
    t.true(streams[0]!.rx >= 10_000, `round ${round}`)
    await port.close()
    await dpdk.waitForLink(0, 'down')
    t.is(pool.freeCount, pool.count)
  }
  t.is(await dpdk.quit(), 0)
})
