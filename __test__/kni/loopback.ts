// Two ports with their interfaces, one in another namespace; with loopback, what the ports receive goes back to them.
//   … loopback.ts DEVICE DEVICE NAMESPACE       says what is there, and on SIGTERM what was counted
import { readdirSync } from 'node:fs'
import { Kni, Mempool, Port } from 'vring'

const [left, right, netns] = process.argv.slice(2)
using mempool = new Mempool()
await using a = await Port.open(left!, { mempool, rxQueues: 2, txQueues: 2 })
await using b = await Port.open(right!, { mempool })
const alive = setInterval(() => {}, 1000)
{
  await using one = await Kni.open(a, { loopback: true, promiscuous: true })
  await using other = await Kni.open(b, { loopback: true, promiscuous: true, netns: netns!, name: 'other0' })
  const devices = readdirSync('/proc/sys/net/ipv4/conf').filter((name) => /^vEth|^other/.test(name))
  console.log(`${one.name} and ${other.name} are there, here ${devices.join(' ')}`)
  await new Promise((resolve) => process.once('SIGTERM', resolve))
  for (const { stats } of [one, other].map((kni) => ({ stats: kni.stats() }))) {
    const { ingress, egress } = stats
    console.log(ingress.received, ingress.sent, egress.received, egress.sent, JSON.stringify(ingress.drops))
  }
}
console.log(`buffers in use by the ports alone: ${mempool.count - mempool.freeCount}`)
clearInterval(alive)
