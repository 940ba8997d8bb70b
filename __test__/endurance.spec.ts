// Promise: 10^8 packets through a vhost-user pair, and 10^7 more through a script, leave nothing behind: every buffer is
// free again, all are accounted for, and neither the process nor the JavaScript heap has grown.
import test, { type ExecutionContext } from 'ava'
import { setTimeout as sleep } from 'node:timers/promises'
import { EthernetView, Lcore, Mempool, Port } from '../ts/index.ts'
import { scratch } from './rig/index.ts'

const NATIVE = 100_000_000
const SCRIPTED = 10_000_000
const MIB = 1 << 20

/** What memory was at one time, what is garbage left out. */
interface Sample {
  readonly rss: number
  readonly heap: number
}

function sample(): Sample {
  globalThis.gc!()
  return { rss: process.memoryUsage.rss(), heap: process.memoryUsage().heapUsed }
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!

/**
 * Growth from the first third to the last third of the samples, the first fifth of all left out as warm-up. A byte a
 * packet, or a small object a burst, would be far beyond these bounds; what the allocators keep at hand is not.
 */
function isFlat(t: ExecutionContext, samples: readonly Sample[]): void {
  const warm = samples.slice(Math.ceil(samples.length / 5))
  const third = Math.ceil(warm.length / 3)
  t.true(warm.length >= 6, `${warm.length} samples`)
  for (const [name, bound] of [
    ['rss', 16 * MIB],
    ['heap', 2 * MIB],
  ] as const) {
    const values = warm.map((one) => one[name])
    const growth = median(values.slice(-third)) - median(values.slice(0, third))
    t.true(growth < bound, `${name} grew by ${growth} bytes: ${values.join(', ')}`)
  }
}

interface Pair extends AsyncDisposable {
  readonly user: Port
  readonly vhost: Port
  readonly sender: Lcore
  readonly receiver: Lcore
}

async function pairOn(mempool: Mempool, socket: string): Promise<Pair> {
  const vhost = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool })
  const user = await Port.open({ driver: 'net_virtio_user', path: socket }, { mempool })
  await Promise.all([vhost.waitForLink(), user.waitForLink()])
  const [sender, receiver] = [new Lcore({ name: 'sender' }), new Lcore({ name: 'receiver' })]
  const close = async (): Promise<void> => {
    for (const part of [sender, receiver, user, vhost]) await part.close()
  }
  return { user, vhost, sender, receiver, [Symbol.asyncDispose]: close }
}

test.serial('10^8 packets between two lcores', async (t) => {
  using folder = scratch()
  using mempool = new Mempool({ count: 8192 })
  const samples: Sample[] = []
  {
    await using pair = await pairOn(mempool, folder.path('s0'))
    const { user, vhost, sender, receiver } = pair
    receiver.start('rxonly', [{ rx: vhost.rxQueues[0]! }], { limit: NATIVE })
    sender.start('txonly', [{ tx: user.txQueues[0]! }], { limit: NATIVE, burst: 64 })
    const ended = Promise.all([sender.wait(), receiver.wait()])
    while (sender.running || receiver.running) {
      samples.push(sample())
      await sleep(100) // between two looks at the memory
    }
    const [sent, received] = await ended
    const ours = user.stats()
    t.true(ours.txPackets >= NATIVE)
    t.is(ours.txPackets, sent.streams[0]!.tx)
    t.true(received.streams[0]!.rx >= NATIVE)
    // The limits end a loop with its burst; what came after the receiver's last burst is taken now.
    receiver.start('rxonly', [{ rx: vhost.rxQueues[0]! }])
    while (vhost.stats().rxPackets < ours.txPackets) await sleep(10) // between two looks at the counter
    await receiver.stop()
    t.like(vhost.stats(), { rxPackets: ours.txPackets, rxBytes: ours.txPackets * 64, drops: {} })
    t.deepEqual(user.stats().drops, {})
  }
  t.is(mempool.freeCount, mempool.count)
  isFlat(t, samples)
})

test.serial('10^7 packets with a script in the loop', async (t) => {
  using folder = scratch()
  using mempool = new Mempool({ count: 8192 })
  const samples: Sample[] = []
  {
    await using pair = await pairOn(mempool, folder.path('s0'))
    const { user, vhost, sender, receiver } = pair
    const ethernet = new EthernetView(mempool)
    const [rx, tx] = [vhost.rxQueues[0]!, vhost.txQueues[0]!]
    receiver.start('rxonly', [{ rx: user.rxQueues[0]! }])
    sender.start('txonly', [{ tx: user.txQueues[0]! }], { limit: SCRIPTED })
    let [received, forwarded, dropped] = [0, 0, 0]
    for await (const burst of rx.bursts({ size: 64 })) {
      const { addr, length } = burst
      for (let i = 0; i < length; i++) ethernet.at(addr[i]!).swapMacs()
      received += length
      forwarded += tx.txBurst(burst)
      dropped += burst.length
      burst.free()
      if (received >= ((samples.length + 1) * SCRIPTED) / 20) samples.push(sample())
      if (received >= SCRIPTED && received >= user.stats().txPackets) break
    }
    const { streams } = await sender.wait()
    t.is(received, streams[0]!.tx)
    t.is(received, forwarded + dropped)
    while (user.stats().rxPackets < forwarded) await sleep(10) // between two looks at the counter
    await receiver.stop()
    t.like(user.stats(), { txPackets: received, rxPackets: forwarded, drops: {} })
    t.like(vhost.stats(), { rxPackets: received, txPackets: forwarded, drops: {} })
  }
  t.is(mempool.freeCount, mempool.count)
  isFlat(t, samples)
})
