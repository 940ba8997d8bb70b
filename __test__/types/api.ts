// The public declarations, as a user's compiler sees them: what must be a type error is one, what must not is none.
import {
  Burst,
  type drivers,
  type DriverName,
  EthernetView,
  Kni,
  type KniRequest,
  type KniStats,
  type LcoreStats,
  Lcore,
  type LinkStatus,
  Mempool,
  PacketFlag,
  Port,
  type PortOptions,
  type PortStats,
  type QueueToken,
  RxQueue,
  type Segment,
  type TxQueue,
  VringError,
  type VringErrorCode,
} from 'vring'

// oxlint-disable typescript/no-unnecessary-type-parameters -- that is how two types are compared exactly
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const exact = <T extends true>(): T | undefined => undefined

const mempool = new Mempool({ count: 1024, pages: '2M' })
void new Mempool()
// @ts-expect-error a page size that there is not
void new Mempool({ pages: '2G' })
// @ts-expect-error an option that there is not
void new Mempool({ size: 3 })
// @ts-expect-error read only
mempool.count = 3
exact<Equal<typeof mempool.bytes, Uint8Array>>()
exact<Equal<typeof mempool.view, DataView>>()

const burst = mempool.createBurst()
// @ts-expect-error only a mempool makes bursts
void new Burst(mempool)
exact<Equal<typeof burst.addr, Uint32Array>>()
exact<Equal<ReturnType<typeof burst.push>, boolean>>()
exact<Equal<ReturnType<typeof burst.segments>, Generator<Segment, void, undefined>>>()
// @ts-expect-error the length changes by free, drop, truncate and the queues
burst.length = 0
// @ts-expect-error the array itself is not replaced
burst.addr = new Uint32Array(1)
burst.addr[0] = 1
for (const words of [burst.csum, burst.gso, burst.tag, burst.hash]) exact<Equal<typeof words, Uint32Array>>()
burst.setSegmentation(0, PacketFlag.GsoTcp4, 1448, 66)
burst.setLayers(0, PacketFlag.GsoUdpL4, 1400, 14, 20, 8)
// @ts-expect-error a bit that is no way to cut a packet
burst.setSegmentation(0, PacketFlag.Vlan, 1448, 66)
exact<Equal<ReturnType<typeof burst.vlanOf>, number | undefined>>()
exact<Equal<ReturnType<typeof burst.hashOf>, number | undefined>>()

const port = await Port.open('net_ring0', { mempool })
exact<Equal<typeof port, Port>>()
// @ts-expect-error a port is opened, not constructed
void new Port()
// @ts-expect-error without a mempool
await Port.open('net_ring0', {})
await Port.open({ driver: 'net_vhost', iface: '/tmp/s', queues: 2, client: true }, { mempool, rxQueues: 2 })
await Port.open({ driver: 'net_vhost', iface: '/tmp/s', tso: true, legacyOlFlags: true }, { mempool })
await Port.open({ driver: 'net_pcap', rxPcap: ['a.pcap', 'b.pcap'], txPcap: 'c.pcap' }, { mempool })
// @ts-expect-error net_vhost needs iface
await Port.open({ driver: 'net_vhost' }, { mempool })
// @ts-expect-error path is virtio_user's
await Port.open({ driver: 'net_vhost', iface: '/tmp/s', path: '/tmp/s' }, { mempool })
// @ts-expect-error no such driver
await Port.open({ driver: 'net_vhots', iface: '/tmp/s' }, { mempool })
exact<Equal<PortOptions['driver'], DriverName>>()

port.on('link', (status) => exact<Equal<typeof status, LinkStatus>>())
port.on('error', (error) => exact<Equal<typeof error, VringError>>())
port.on('rarp', (mac) => exact<Equal<typeof mac, string>>())
// @ts-expect-error what a port does not emit
port.on('lnik', () => {})
exact<Equal<ReturnType<typeof port.stats>, PortStats>>()
exact<Equal<typeof port.rxQueues, readonly RxQueue[]>>()
exact<Equal<ReturnType<typeof port.close>, Promise<void>>>()
// @ts-expect-error a snapshot is not written to
port.stats().rxPackets = 0

const rx = port.rxQueues[0]!
const tx = port.txQueues[0]!
exact<Equal<ReturnType<typeof rx.rxBurst>, number>>()
// @ts-expect-error a queue sends or receives
rx.txBurst(burst)
// @ts-expect-error a burst, not an array
tx.txBurst([burst])
// @ts-expect-error queues are adopted or a port's
void new RxQueue()
const token = rx.handOver()
exact<Equal<typeof token, QueueToken>>()
exact<Equal<ReturnType<typeof TxQueue.adopt>, TxQueue>>()
// @ts-expect-error a token is what handOver gives, not what looks like it
RxQueue.adopt({ direction: 'rx', token: 1 })
for await (const one of rx) exact<Equal<typeof one, Burst>>()
for await (const one of rx.bursts({ size: 64, idle: 'poll', signal: AbortSignal.timeout(1) })) one.free()
// @ts-expect-error sleep or poll
rx.bursts({ idle: 'spin' })

const lcore = new Lcore({ cpu: 1 })
lcore.start('io', [{ rx, tx }], { burst: 64, txpkts: [64, 64] as const })
// @ts-expect-error no such engine
lcore.start('oi', [{ rx, tx }])
// @ts-expect-error rx receives
lcore.start('io', [{ rx: tx, tx }])
exact<Equal<Awaited<ReturnType<typeof lcore.stop>>, LcoreStats>>()

const ethernet = new EthernetView(mempool)
exact<Equal<ReturnType<typeof ethernet.at>, EthernetView>>()
exact<Equal<typeof ethernet.dst, number>>()
// @ts-expect-error where it ends follows from where it begins
ethernet.end = 3

const code: VringErrorCode = 'ERR_VRING_CLOSED'
// @ts-expect-error the codes are a closed list
const wrong: VringErrorCode = 'ERR_VRING_CLOSDE'
void new VringError(code, 'message', { cause: wrong })
exact<Equal<keyof typeof drivers, DriverName>>()

{
  using pool = new Mempool()
  using packets = pool.createBurst()
  await using opened = await Port.open('net_null0', { mempool: pool })
  await using engine = new Lcore()
  void [packets, opened, engine]
}

const kni = await Kni.open(port, { vmm: true, onRequest: async ({ kind }) => kind !== 'mtu' })
// @ts-expect-error an interface is opened, not constructed
void new Kni()
// @ts-expect-error an option that there is not
await Kni.open(port, { vhots: true })
kni.on('request', (request) => exact<Equal<typeof request, KniRequest>>())
exact<Equal<ReturnType<typeof kni.stats>, KniStats>>()
exact<Equal<typeof kni.fd, number | undefined>>()
