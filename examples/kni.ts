// kni: a network interface of the kernel's for a port. Lcores carry the packets; what `ip link` does to the interface is done to the port.
//   node --import=@oxc-node/core/register examples/kni.ts DEVICE [--name vEth0] [--ip 10.0.0.1/24] [--netns NAME]
//   … examples/kni.ts net_af_packet0,iface=eth1 --ip 10.0.0.1/24        and then: ping 10.0.0.2, tcpdump -i vEth0, ip link set vEth0 down
import { parseArgs } from 'node:util'
import { Kni, type KniRequest, Mempool, Port } from 'vring'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { name: { type: 'string' }, ip: { type: 'string' }, netns: { type: 'string' } },
})

/** The kernel's side may do what it likes, but no jumbo frames. */
const onRequest = (request: KniRequest): boolean => request.kind !== 'mtu' || request.mtu <= 1500

using mempool = new Mempool()
await using port = await Port.open(positionals[0] ?? 'net_null0,no-rx=1', { mempool })
await using kni = await Kni.open(port, { ...values, onRequest })
kni.on('request', (request) => console.log('done:', request))
kni.on('refused', (request) => console.log('refused:', request))
kni.on('error', (error) => console.log(error.message))
console.log(`${kni.name} is there, by ${kni.backend}`)

await new Promise((resolve) => {
  const alive = setInterval(() => {}, 60_000) // an open interface does not keep the process alive
  process.once('SIGINT', () => resolve(clearInterval(alive)))
})
const { ingress, egress } = kni.stats()
console.log(`in ${ingress.sent}, out ${egress.sent}`, { ...ingress.drops, ...egress.drops })
