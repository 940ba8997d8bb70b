// Promise: extended statistics have DPDK's names and DPDK's values, sizes and kinds of addresses included, and add up.
import test from 'ava'
import { Mempool, Port } from '../../ts/index.ts'
import { needs, scratch, Testpmd } from '../rig/index.ts'

/** `show port xstats` as names and values, in order. */
const xstats = (shown: string): Map<string, number> =>
  new Map([...shown.matchAll(/^(\w+): (\d+)$/gm)].map(([, name, value]) => [name!, Number(value)]))

/** What DPDK has of each queue and nobody here: the caches of an IOMMU, and copies by other hardware. */
const THEIRS = /_(iotlb_\w+|inflight_\w+)$/
/** Counts of events, which each end has of its own. */
const OWN = /_notifications$/

const packetTo = (address: string, length: number): Uint8Array => {
  const packet = new Uint8Array(length)
  packet.set(address.split(':').map((byte) => Number.parseInt(byte, 16)))
  return packet
}

test('packets count by size and by address, on both sides, and only while that is asked for', async (t) => {
  using mempool = new Mempool({ count: 512, bufferSize: 4096 })
  await using port = await Port.open({ driver: 'net_ring' }, { mempool })
  const lengths = [14, 63, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1518, 1519, 3000]
  const exchange = (): void => {
    using burst = mempool.createBurst(64)
    for (const length of lengths) burst.push(packetTo('02:00:00:00:00:01', length))
    burst.push(packetTo('ff:ff:ff:ff:ff:ff', 64))
    burst.push(packetTo('01:00:5e:00:00:01', 64))
    t.is(port.txQueues[0]!.txBurst(burst), 17)
    t.is(port.rxQueues[0]!.rxBurst(burst), 17)
    burst.free()
  }
  exchange()
  t.false(port.xstats().has('rx_q0_size_64_packets'))
  port.countKinds()
  exchange()
  const shown = port.xstats()
  const expected = {
    ...{ undersize: 2, size_64: 3, size_65_127: 2, size_128_255: 2, size_256_511: 2, size_512_1023: 2 },
    ...{ size_1024_1518: 2, size_1519_max: 2, multicast: 1, broadcast: 1 },
  }
  for (const [kind, count] of Object.entries(expected))
    for (const direction of ['rx', 'tx'])
      t.is(shown.get(`${direction}_q0_${kind}_packets`), count, `${direction} ${kind}`)
  t.is(shown.get('rx_good_packets'), 34)
  t.is(shown.get('rx_q0_runt_packets'), 0)
  port.resetStats()
  t.true([...port.xstats().values()].every((value) => value === 0))
  port.countKinds(false)
  exchange()
  t.is(port.stats().rx[0]!.kinds['size_64'], 0)
})

needs(test, 'dpdk')(
  "DPDK's names in DPDK's order, and what one end sent is what the other received",
  async (t) => {
    using folder = scratch()
    const path = folder.path('s0')
    const options = { args: ['--xstats-sizes'], forward: 'rxonly' } as const
    const names = { mine: new Map<string, string[]>(), theirs: new Map<string, string[]>() }
    for (const [ours, theirs] of [
      [`net_vhost0,iface=${path}`, `net_virtio_user0,path=${path}`],
      [`net_virtio_user0,path=${path},server=1`, `net_vhost0,iface=${path},client=1`],
    ] as const) {
      await using vring = await Testpmd.vring({ ...options, vdevs: [ours] })
      await using dpdk = await Testpmd.dpdk({ vdevs: [theirs], forward: 'rxonly', txpkts: [200] })
      await Promise.all([vring.waitForLink(), dpdk.waitForLink()])
      await vring.command('start')
      await dpdk.command('start tx_first 3')
      await vring.waitForStats('all came', (stats) => stats.rxPackets === 96)
      await dpdk.stop()
      const [mine, yours] = [
        xstats(await vring.command('show port xstats 0')),
        xstats(await dpdk.command('show port xstats 0')),
      ]
      names.mine.set(ours.split(/\d/, 1)[0]!, [...mine.keys()])
      names.theirs.set(
        theirs.split(/\d/, 1)[0]!,
        [...yours.keys()].filter((name) => !THEIRS.test(name)),
      )
      for (const name of [...mine.keys()].filter((one) => !OWN.test(one))) {
        const there = name.startsWith('rx') ? name.replace('rx', 'tx') : name.replace('tx', 'rx')
        if (yours.has(there)) t.is(mine.get(name), yours.get(there), name)
      }
      t.is(mine.get('rx_q0_size_128_255_packets'), 96)
      await vring.command('clear port xstats 0')
      await vring.command('set xstats-hide-zero on')
      t.is(await vring.command('show port xstats 0'), '###### NIC extended statistics for port 0 \n')
    }
  },
)

test('--display-xstats: what was chosen stands in the statistics of a port, with its rate', async (t) => {
  const chosen = 'rx_good_packets,rx_q0_size_64_packets,no_such_counter'
  await using vring = await Testpmd.vring({ vdevs: ['net_null0'], args: [`--display-xstats=${chosen}`] })
  await vring.command('start')
  await vring.waitForStats('packets come', (stats) => stats.rxPackets > 1000)
  const rates =
    /\n {31}Value {12}Rate \(since last show\)\n {2}rx_good_packets +[1-9]\d* +(\d+)\n {2}rx_q0_size_64_packets +[1-9]\d* +(\d+)\n {2}#{76}\n/
  let shown: RegExpExecArray | null
  // On a busy machine the lcore may not have had its turn between two looks.
  do {
    shown = rates.exec(await vring.command('show port stats 0'))
  } while (shown !== null && (shown[1] === '0' || shown[2] === '0'))
  t.not(shown, null)
  await vring.stop()
})
