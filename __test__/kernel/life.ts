// A port on the kernel's device from its opening to its end: what is done to the device is seen, and nothing is left behind.
//   … life.ts DEVICE IFACE       prints one line for each thing that came about
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { Mempool, Port } from 'vring'

const [device, iface] = process.argv.slice(2)
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
/** But for what a port object sleeps on, which goes with the object. */
const descriptors = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    const path = `/proc/self/fd/${fd}`
    return existsSync(path) && !/eventfd|eventpoll/.test(readlinkSync(path))
  }).length

const alive = setInterval(() => {}, 1000) // an open port does not keep the process alive
using mempool = new Mempool({ count: 4096 })
// What libuv and the mempool keep open is open now.
await (await Port.open(device!, { mempool })).close()
const before = descriptors()
{
  await using port = await Port.open(device!, { mempool, mtu: 9000 })
  await port.waitForLink()
  console.log(`up with mtu ${/mtu (\d+)/.exec(ip('link', 'show', iface!))?.[1]}`)

  const mtu = once(port, 'mtu')
  ip('link', 'set', iface!, 'mtu', '1400')
  console.log(`told mtu ${(await mtu)[0]}`)

  ip('link', 'set', iface!, 'down')
  await port.waitForLink(false)
  console.log('down')
  ip('link', 'set', iface!, 'up')
  await port.waitForLink()
  console.log('up again')

  const lost = once(port, 'error')
  ip('link', 'del', iface!)
  await port.waitForLink(false)
  console.log(`lost: ${(await lost)[0].code}`)
  using burst = mempool.createBurst(4)
  burst.push(new Uint8Array(60))
  console.log(`sends ${port.txQueues[0]!.txBurst(burst)}, receives ${port.rxQueues[0]!.rxBurst(burst)}`)
  burst.free()
}
console.log(`buffers left: ${mempool.count - mempool.freeCount}, descriptors left: ${descriptors() - before}`)
clearInterval(alive)
