// txonly: sends UDP packets of its own.
//   node --import=@oxc-node/core/register examples/txonly.ts DEVICE [--packets N] [--size BYTES]
import { setImmediate as turn } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { EthernetView, EtherType, IpProtocol, Ipv4View, Mempool, parseIpv4, Port, UdpView } from 'vring'

const text = { type: 'string' } as const
const { positionals, values } = parseArgs({ allowPositionals: true, options: { packets: text, size: text } })
const [limit, size] = [Number(values.packets ?? Infinity), Number(values.size ?? 64)]

const stop = new AbortController()
process.once('SIGINT', () => stop.abort())

using mempool = new Mempool()
await using port = await Port.open(positionals[0] ?? 'net_null0', { mempool })
await port.waitForLink(true, { signal: stop.signal })
const [ethernet, ip, udp] = [new EthernetView(mempool), new Ipv4View(mempool), new UdpView(mempool)]

function write(addr: number): void {
  ethernet.at(addr).dstText = '02:00:00:00:00:00'
  ethernet.srcText = port.mac
  ethernet.etherType = EtherType.Ipv4
  mempool.bytes.fill(0, ethernet.end, addr + size)
  ip.at(ethernet.end).headerLength = 20
  ip.totalLength = size - 14
  ip.ttl = 64
  ip.protocol = IpProtocol.Udp
  ip.src = parseIpv4('198.18.0.1')
  ip.dst = parseIpv4('198.18.0.2')
  ip.writeChecksum()
  udp.at(ip.end).srcPort = udp.dstPort = 9
  udp.length = size - 34
}

// One packet is written once and copied into each fresh buffer.
using template = mempool.createBurst(1)
template.push(new Uint8Array(size))
write(template.addr[0]!)
using burst = mempool.createBurst(32)
let sent = 0
while (sent < limit && !stop.signal.aborted) {
  const fresh = mempool.alloc(burst, Math.min(32 - burst.length, limit - sent - burst.length))
  for (let i = burst.length - fresh; i < burst.length; i++) {
    mempool.bytes.copyWithin(burst.addr[i]!, template.addr[0]!, template.addr[0]! + size)
    burst.len[i] = size
  }
  const accepted = port.txQueues[0]!.txBurst(burst)
  sent += accepted
  // A full ring: let timers and signals have their turn. What was not taken is sent next.
  if (accepted === 0) await turn()
}
console.log(`sent ${sent} packets`)
