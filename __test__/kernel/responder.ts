// responder: a host of its own behind a port. It answers ARP and ping, and sends UDP datagrams back to where they came from.
//   node --import=@oxc-node/core/register __test__/kernel/responder.ts DEVICE ADDRESS [--queues N] [--mtu N]
//   … __test__/kernel/responder.ts net_virtio_user0,path=/dev/vhost-net,iface=tap0,ip=10.0.0.1/24 10.0.0.2      and then: ping 10.0.0.2
import { parseArgs } from 'node:util'
import {
  ArpView,
  type Burst,
  EthernetView,
  EtherType,
  IcmpView,
  IpProtocol,
  Ipv4View,
  Mempool,
  Port,
  UdpView,
  parseIpv4,
  parseMac,
  updateChecksum,
} from 'vring'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { queues: { type: 'string', default: '1' }, mtu: { type: 'string', default: '1500' } },
})
const [device, address] = positionals
if (device === undefined || address === undefined) throw new Error('expected a device and an IPv4 address')
const ip = parseIpv4(address)
const queues = Number(values.queues)

using mempool = new Mempool()
const config = { mempool, rxQueues: queues, txQueues: queues, mtu: Number(values.mtu) }
await using port = await Port.open(device, config)
const mac = parseMac(port.mac)
const ethernet = new EthernetView(mempool)
const arp = new ArpView(mempool)
const ipv4 = new Ipv4View(mempool)
const icmp = new IcmpView(mempool)
const udp = new UdpView(mempool)

/** Turns a packet into its answer, in place. False when there is none to give. */
function answer(addr: number): boolean {
  ethernet.at(addr)
  const answered = ethernet.etherType === EtherType.Arp ? answerArp() : answerIpv4()
  if (!answered) return false
  ethernet.dst = ethernet.src
  ethernet.src = mac
  return true
}

function answerArp(): boolean {
  arp.at(ethernet.end)
  if (!arp.isIpv4OverEthernet || arp.operation !== 1 || arp.targetIp !== ip) return false
  arp.operation = 2
  arp.targetMac = arp.senderMac
  arp.targetIp = arp.senderIp
  arp.senderMac = mac
  arp.senderIp = ip
  return true
}

function answerIpv4(): boolean {
  if (ethernet.etherType !== EtherType.Ipv4 || ipv4.at(ethernet.end).dst !== ip) return false
  if (ipv4.protocol === IpProtocol.Icmp) {
    if (icmp.at(ipv4.end).type !== 8) return false
    icmp.checksum = updateChecksum(icmp.checksum, 0x0800, 0)
    icmp.type = 0
  } else if (ipv4.protocol === IpProtocol.Udp) {
    udp.at(ipv4.end)
    const from = udp.srcPort
    udp.srcPort = udp.dstPort
    udp.dstPort = from
  } else {
    return false
  }
  // Neither sum changes when the two addresses, or the two ports, change places.
  ipv4.dst = ipv4.src
  ipv4.src = ip
  return true
}

function respond(burst: Burst, queue: number): void {
  for (let i = burst.length - 1; i >= 0; i--) if (!answer(burst.addr[i]!)) burst.drop(i)
  port.txQueues[queue]!.txBurst(burst)
  burst.free()
}

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort())
port.on('link', ({ up }) => console.log(`link ${up ? 'up' : 'down'}`))
port.on('mtu', (mtu) => console.log(`mtu ${mtu}`))
port.on('error', ({ message }) => console.log(message))
console.log(`${address} is at ${port.mac} behind ${port.info.details.device ?? port.name}`)
await Promise.all(
  port.rxQueues.map(async (queue, i) => {
    for await (const burst of queue.bursts({ signal: stop.signal })) respond(burst, i)
  }),
)
const { rxPackets, txPackets } = port.stats()
console.log(`received ${rxPackets}, answered ${txPackets}`)
