// Interfaces that cannot be had.       … refused.ts       in a namespace with veths p0 and p1
import { readdirSync } from 'node:fs'
import { once } from 'node:events'
import { Kni, type KniOptions, Mempool, Port, VringError } from 'vring'

using mempool = new Mempool()
const open = (device: string, rxQueues = 1, txQueues = 1): Promise<Port> =>
  Port.open(device, { mempool, rxQueues, txQueues })

async function refused(what: string, port: Port, options: KniOptions = {}): Promise<void> {
  try {
    await (await Kni.open(port, options)).close()
    console.log(`opened: ${what}`)
  } catch (error) {
    console.log(error instanceof VringError ? error.code : error, what)
  }
}

const port = await open('net_af_packet0,iface=p0')
{
  await using odd = await open('net_af_packet1,iface=p1', 1, 0)
  await refused('1 receive queues, 0 transmit queues', odd)
}
using burst = mempool.createBurst()
port.rxQueues[0]!.rxBurst(burst)
burst.free()
await refused('a queue that is polled', port)
port.rxQueues[0]!.release()
await refused('a name of another device', port, { name: 'g0', vhost: false })
await refused('no name', port, { name: 'a name with spaces' })
await refused('no namespace', port, { netns: '/proc/none' })
await refused('no such processor', port, { ingressCpu: 1000 })
{
  await using tap = await open('net_tap0,iface=taken')
  await refused('a tap of somebody else', port, { name: tap.info.details['device']!, vhost: false })
}
const kni = await Kni.open(port)
{
  await using other = await open('net_af_packet1,iface=p1')
  await refused('the same name twice', other, { name: kni.name })
}
const closed = once(kni, 'close')
await port.close()
await closed
const devices = readdirSync('/proc/sys/net/ipv4/conf').filter((name) => !['all', 'default'].includes(name))
console.log(`closed with its port, devices ${devices.toSorted().join(' ')}`)
