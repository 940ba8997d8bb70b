// A port is changed while it is open: what counts at once, what is refused, and that no packet is lost by it.
import test from 'ava'
import { Mempool, PacketFlag, Port, type RxQueue, type TxQueue, VringError } from '../ts/index.ts'

const open = async (mempool: Mempool, queues = 1): Promise<Port> =>
  Port.open({ driver: 'net_ring', size: 64 }, { mempool, rxQueues: queues, txQueues: queues })

/** Sends packets to an address; how many were taken. */
function send(queue: TxQueue, to: readonly number[], count = 1): number {
  using burst = queue.mempool.createBurst(32)
  const packet = new Uint8Array(64)
  packet.set(to)
  for (let i = 0; i < count; i++) burst.push(packet)
  const sent = queue.txBurst(burst)
  burst.free()
  return sent
}

function receive(queue: RxQueue): number {
  using burst = queue.mempool.createBurst(32)
  const got = queue.rxBurst(burst)
  burst.free()
  return got
}

const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
const refused = (code: string) => ({ instanceOf: VringError, code })

test('a queue that is stopped moves nothing and loses nothing', async (t) => {
  using mempool = new Mempool({ count: 256 })
  await using port = await open(mempool)
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  t.is(send(tx, BROADCAST, 5), 5)
  rx.stop()
  t.is(receive(rx), 0)
  t.true(rx.info.stopped)
  t.is(rx.usedCount, 5)
  t.is(rx.descriptorStatus(4), 'done')
  t.is(rx.descriptorStatus(5), 'available')
  t.throws(() => rx.descriptorStatus(64), refused('ERR_VRING_OUT_OF_RANGE'))
  rx.start()
  t.is(receive(rx), 5)
  t.deepEqual(rx.info, {
    size: 64,
    mode: { name: 'addresses', why: 'both ends share a mempool: nothing is copied' },
    stopped: false,
    still: false,
  })
})

test('a port that is stopped, or whose link is set down, stands still with its link down', async (t) => {
  using mempool = new Mempool({ count: 256 })
  await using port = await open(mempool)
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  port.stop()
  t.deepEqual([port.started, port.link.up, send(tx, BROADCAST)], [false, false, 0])
  port.start()
  port.setLink(false)
  t.deepEqual([port.started, port.link.up, send(tx, BROADCAST)], [true, false, 0])
  port.setLink(true)
  await port.waitForLink()
  t.deepEqual([send(tx, BROADCAST), receive(rx)], [1, 1])
})

test('the number of queues changes while the port is open, up to what it was opened with', async (t) => {
  using mempool = new Mempool({ count: 256 })
  await using port = await open(mempool, 2)
  port.setQueues({ rx: 1 })
  t.deepEqual(port.queues, { rx: 1, tx: 2 })
  t.is(send(port.txQueues[1]!, BROADCAST, 3), 3)
  t.is(receive(port.rxQueues[1]!), 0)
  port.setQueues({ rx: 2 })
  t.is(receive(port.rxQueues[1]!), 3)
  t.throws(() => port.setQueues({ tx: 3 }), refused('ERR_VRING_OUT_OF_RANGE'))
  t.throws(() => port.setQueues({ rx: 0 }), refused('ERR_VRING_OUT_OF_RANGE'))
})

test('packets to others are dropped under a name when the port is not promiscuous', async (t) => {
  using mempool = new Mempool({ count: 256 })
  await using port = await open(mempool)
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  port.setMac('02:00:00:00:00:07')
  t.is(port.mac, '02:00:00:00:00:07')
  port.setRxMode({ promiscuous: false, macs: ['02:00:00:00:00:08'] })
  t.is(port.info.appliedBy['addresses'], 'software')
  for (const to of [BROADCAST, [2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]])
    t.is(send(tx, to), 1)
  t.is(receive(rx), 3)
  t.deepEqual(port.stats().drops, { rx_filtered: 1 })
  const { rxMode } = port
  t.throws(() => port.setRxMode({ macs: ['01:00:00:00:00:01'] }), refused('ERR_VRING_OUT_OF_RANGE'))
  t.throws(() => port.setRxMode({ macs: ['nonsense'] }), refused('ERR_VRING_OUT_OF_RANGE'))
  t.throws(() => port.setRxMode({ vlans: [4096] }), refused('ERR_VRING_OUT_OF_RANGE'))
  t.deepEqual(port.rxMode, rxMode)
})

test('a VLAN filter and VLAN stripping count at once', async (t) => {
  using mempool = new Mempool({ count: 256 })
  await using port = await open(mempool)
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  const tagged = (id: number): number[] => [...BROADCAST, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, id, 8, 0]
  port.setRxMode({ vlans: [5], vlanStrip: true })
  t.deepEqual([send(tx, tagged(5)), send(tx, tagged(6))], [1, 1])
  using burst = mempool.createBurst()
  t.is(rx.rxBurst(burst), 1)
  t.is(burst.flags[0]! & PacketFlag.Vlan, PacketFlag.Vlan)
  t.deepEqual([burst.len[0], burst.tag[0]! & 0xffff], [60, 5])
  burst.free()
})

test('hashes come with packets, and a table is refused where nobody spreads packets', async (t) => {
  using mempool = new Mempool({ count: 256 })
  await using port = await Port.open(
    { driver: 'net_null' },
    { mempool, rxOffloads: ['rss-hash'], txOffloads: ['tcp-tso'] },
  )
  t.deepEqual(port.offloads.asked, { rx: ['rss-hash'], tx: ['tcp-tso'] })
  t.true(port.offloads.software.rx.includes('vlan-strip'))
  const rss = port.rxMode.rss!
  t.deepEqual([rss.key.length, rss.table], [40, undefined])
  port.setRxMode({ rss: { ...rss, types: ['ipv4-udp'] } })
  t.deepEqual(port.rxMode.rss!.types, ['ipv4-udp'])
  const table = Array.from({ length: 128 }, (_, i) => i % 2)
  t.throws(() => port.setRxMode({ rss: { ...rss, table } }), refused('ERR_VRING_NOT_SUPPORTED'))
  t.throws(
    () => port.setRxMode({ rss: { ...rss, key: new Uint8Array(8) } }),
    refused('ERR_VRING_OUT_OF_RANGE'),
  )
  await t.throwsAsync(
    Port.open('net_null_lro', { mempool, rxOffloads: ['lro'] }),
    refused('ERR_VRING_NOT_SUPPORTED'),
  )
})

test('the MTU is set within its range, and nothing is set on a closed port', async (t) => {
  using mempool = new Mempool({ count: 256 })
  const port = await open(mempool)
  port.setMtu(9000)
  t.is(port.mtu, 9000)
  for (const bad of [67, 9729, 1500.5]) t.throws(() => port.setMtu(bad), refused('ERR_VRING_OUT_OF_RANGE'))
  await port.close()
  t.throws(() => port.setMtu(1500), refused('ERR_VRING_CLOSED'))
  t.throws(() => port.stop(), refused('ERR_VRING_CLOSED'))
})
