// Promise: a capture that is replayed through a link of virtio and vhost arrives byte for byte and in order, between ports
// of ours and with DPDK at either end, up to 9000 bytes.
import { writeFileSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { type Burst, Mempool, Port, type RxQueue, type TxQueue } from '../../ts/index.ts'
import { needs, scratch } from '../rig/index.ts'
import { pcap, pcapng, randomPackets, readCapture } from './captures.ts'
import { LIMIT, Link, options } from './link.ts'

type Format = 'pcap' | 'pcapng'
const formats: readonly Format[] = ['pcap', 'pcapng']

function write(path: string, format: Format, packets: readonly Buffer[]): void {
  writeFileSync(path, format === 'pcap' ? pcap(packets) : pcapng(packets))
}

function same(t: ExecutionContext, path: string, sent: readonly Buffer[]): void {
  const received = readCapture(path)
  t.is(received.length, sent.length)
  // One comparison a packet, and no dump of thousands of bytes for one that differs.
  const differing = sent.findIndex((packet, i) => !packet.equals(received[i] ?? Buffer.alloc(0)))
  t.is(differing, -1, `the first packet that differs; it has ${sent[differing]?.length} bytes`)
}

/** One step from queue to queue that loses nothing: what the next queue has no room for stays in the burst. */
interface Hop {
  readonly from: RxQueue
  readonly to: TxQueue
  readonly burst: Burst
}

const hop = (from: RxQueue, to: TxQueue): Hop => ({ from, to, burst: from.mempool.createBurst(16) })

/** Forwards along all hops until `count` packets have made the last of them. */
async function carry(count: number, ...hops: readonly Hop[]): Promise<void> {
  const deadline = Date.now() + LIMIT
  let done = 0
  while (done < count) {
    if (Date.now() > deadline) throw new Error(`${done} of ${count} packets came through in ${LIMIT} ms`)
    let sent = 0
    for (const { from, to, burst } of hops) {
      from.rxBurst(burst)
      sent = to.txBurst(burst)
    }
    done += sent
    await turn()
  }
  for (const { burst } of hops) burst.close()
}

/** Packets whose chains together fit a ring of 1024: a DPDK that forwards does not wait for room. */
const WINDOW = 150
const ring = ',queue_size=1024'

for (const ours of ['net_virtio_user', 'net_vhost'] as const) {
  for (const [i, format] of formats.entries()) {
    const common = {
      ours,
      weListen: i === 0,
      ...(ours === 'net_vhost' ? { theirArgs: ring } : { ourArgs: ring }),
    }

    needs(test, 'dpdk')(`${format} → our ${ours} → DPDK → pcap: byte for byte`, async (t) => {
      using files = scratch()
      const [input, output] = [files.path(`in.${format}`), files.path('out.pcap')]
      const packets = randomPackets(1000, i + 1)
      write(input, format, packets)
      await using link = await Link.up({
        ...common,
        theirOthers: [`net_pcap0,tx_pcap=${output}`],
        peer: { forward: 'io', autoStart: true },
      })
      await using source = await Port.open(`net_pcap0,rx_pcap=${input}`, { mempool: link.pool })
      await carry(packets.length, hop(source.rxQueues[0]!, link.port.txQueues[0]!))
      await link.dpdk.waitForStats('all written', (stats) => stats.txPackets >= packets.length, { port: 1 })
      t.like(link.port.stats(), { txPackets: packets.length, drops: {} })
      await source.close()
      t.deepEqual(await link.end(), { missing: 0, code: 0 })
      same(t, output, packets)
    })

    needs(test, 'dpdk')(`${format} → DPDK → our ${ours} → ${format}: byte for byte`, async (t) => {
      using files = scratch()
      const [input, output] = [files.path(`in.${format}`), files.path(`out.${format}`)]
      const packets = randomPackets(WINDOW, i + 3)
      write(input, format, packets)
      await using link = await Link.up({
        ...common,
        theirOthers: [`net_pcap0,rx_pcap=${input}`],
        // Without the first, testpmd throws away what its ports have received before it starts. In order, DPDK's driver has no indirect tables:
        // it needs all descriptors of its ring.
        peer: { forward: 'io', args: ['--no-flush-rx'], txd: 1024 },
      })
      await using sink = await Port.open(`net_pcap0,tx_pcap=${output}`, { mempool: link.pool })
      await link.dpdk.command('start')
      await carry(packets.length, hop(link.port.rxQueues[0]!, sink.txQueues[0]!))
      t.like(link.port.stats(), { rxPackets: packets.length, drops: {} })
      t.is((await link.dpdk.stop()).total.txDropped, 0)
      await sink.close()
      t.deepEqual(await link.end(), { missing: 0, code: 0 })
      same(t, output, packets)
    })
  }
}

for (const mergeable of [true, false]) {
  for (const format of formats) {
    const words = mergeable ? 'mergeable buffers' : 'no mergeable buffers'
    test(`${format} → net_virtio_user → net_vhost → ${format} and back again: byte for byte (${words})`, async (t) => {
      using files = scratch()
      const [input, output, back] = ['in', 'out', 'back'].map((name) => files.path(`${name}.${format}`))
      const packets = randomPackets(1000, 9)
      write(input!, format, packets)
      using pool = new Mempool({ ...options, bufferSize: mergeable ? 2176 : 10240, count: 4096 })
      const config = { mempool: pool }
      {
        const socket = files.path('s0')
        await using vhost = await Port.open(`net_vhost0,iface=${socket}`, config)
        const args = mergeable ? '' : ',mrg_rxbuf=0'
        await using user = await Port.open(`net_virtio_user0,path=${socket}${args}`, config)
        await Promise.all([vhost, user].map((port) => port.waitForLink(true, { timeout: LIMIT })))
        await using first = await Port.open(`net_pcap0,rx_pcap=${input},tx_pcap=${back}`, config)
        await using second = await Port.open(`net_pcap1,tx_pcap=${output}`, config)
        await carry(
          packets.length,
          hop(first.rxQueues[0]!, user.txQueues[0]!),
          hop(vhost.rxQueues[0]!, second.txQueues[0]!),
        )
        await using third = await Port.open(`net_pcap2,rx_pcap=${output}`, config)
        await carry(
          packets.length,
          hop(third.rxQueues[0]!, vhost.txQueues[0]!),
          hop(user.rxQueues[0]!, first.txQueues[0]!),
        )
        t.like(vhost.stats(), { rxPackets: packets.length, txPackets: packets.length, drops: {} })
        t.like(user.stats(), { rxPackets: packets.length, txPackets: packets.length, drops: {} })
      }
      t.is(pool.freeCount, pool.count)
      same(t, output!, packets)
      same(t, back!, packets)
    })
  }
}
