// A vhost-user pair in one process: what goes in at one end comes out at the other, with its addresses swapped.
import { EthernetView, Mempool, Port } from 'vring'

const socket = `/tmp/vring-readme-${process.pid}.sock`
using mempool = new Mempool({ count: 4096 })
await using device = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool })
await using driver = await Port.open({ driver: 'net_virtio_user', path: socket }, { mempool })
await Promise.all([device.waitForLink(), driver.waitForLink()])

// The device end: swap addresses and send back. Polls while packets come, sleeps while none do.
const stop = new AbortController()
const ethernet = new EthernetView(mempool)
async function swapAll(): Promise<void> {
  for await (const burst of device.rxQueues[0]!.bursts({ signal: stop.signal })) {
    for (let i = 0; i < burst.length; i++) ethernet.at(burst.addr[i]!).swapMacs()
    device.txQueues[0]!.txBurst(burst)
  }
}
const swapping = swapAll()

// The driver end: one packet out, one packet back.
using burst = mempool.createBurst()
burst.push(Buffer.from('0200000000010200000000020800'.padEnd(120, '0'), 'hex'))
driver.txQueues[0]!.txBurst(burst)
for await (const back of driver.rxQueues[0]!) {
  console.log(`${ethernet.at(back.addr[0]!).srcText} -> ${ethernet.dstText}, ${back.len[0]} bytes`)
  break
}
stop.abort()
await swapping
