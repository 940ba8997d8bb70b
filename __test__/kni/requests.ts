// What the kernel's side does to an interface, one thing after the other, and what becomes of it.
//   … requests.ts       in a namespace with a veth p0; prints a line for each request
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { Kni, Mempool, Port } from 'vring'

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
const shown = (name: string): string => {
  const [link] = JSON.parse(ip('-j', 'link', 'show', name)) as [
    { mtu: number; address: string; flags: string[] },
  ]
  return `${link.flags.includes('UP') ? 'up' : 'down'} mtu ${link.mtu} ${link.address}`
}

using mempool = new Mempool()
await using port = await Port.open('net_af_packet0,iface=p0', { mempool })
port.setMac('02:00:00:00:00:01')
let refuse: 'no' | 'false' | 'throw' | 'later' = 'no'
await using kni = await Kni.open(port, {
  name: 'vEth7',
  allMulticast: false,
  onRequest() {
    if (refuse === 'throw') throw new Error('not today')
    return refuse === 'later' ? Promise.resolve(false) : refuse === 'no'
  },
})
const alive = setInterval(() => {}, 1000)
console.log(`${kni.name} ${shown('vEth7')} promiscuous ${port.rxMode.promiscuous}`)

/** Does it, and says what came of it. */
async function set(...args: string[]): Promise<void> {
  const requested = once(kni, refuse === 'no' ? 'request' : 'refused')
  ip('link', 'set', 'vEth7', ...args)
  const [request, reason] = (await requested) as [object, Error | undefined]
  const { promiscuous, allMulticast } = port.rxMode
  const state = [port.started ? 'started' : 'stopped', `mtu ${port.mtu}`, port.mac, promiscuous, allMulticast]
  console.log(JSON.stringify(request), refuse === 'no' ? '' : `refused ${reason?.message ?? ''}`)
  console.log(`  ${state.join(' ')} | ${shown('vEth7')}`)
}

await set('mtu', '1400')
console.log(`  p0 ${/mtu \d+/.exec(ip('link', 'show', 'p0'))![0]}`)
await set('address', '02:00:00:00:00:77')
await set('promisc', 'on')
await set('promisc', 'off')
await set('allmulticast', 'on')
await set('down')
await set('up')
refuse = 'false'
await set('mtu', '9000')
await set('address', '02:00:00:00:00:99')
refuse = 'later'
await set('down')
refuse = 'throw'
await set('promisc', 'on')
refuse = 'no'
const tooMuch = once(kni, 'refused')
ip('link', 'set', 'vEth7', 'mtu', '20000') // more than a port can have
const [, reason] = await tooMuch
console.log(`${(reason as { code: string }).code} ${shown('vEth7')}`)
// Somebody who looks at the interface makes the port promiscuous for as long as he looks.
const looks = once(kni, 'request')
const { spawn } = await import('node:child_process')
const dump = spawn('tcpdump', ['-ni', 'vEth7', '-c', '1'], { stdio: 'ignore' })
console.log(JSON.stringify((await looks)[0]), port.rxMode.promiscuous)
const looked = once(kni, 'request')
dump.kill()
console.log(JSON.stringify((await looked)[0]), port.rxMode.promiscuous)
// The other way: the port's link is the interface's carrier.
const carrier = async (on: boolean): Promise<void> => {
  const has = (): boolean => !ip('link', 'show', 'vEth7').includes('NO-CARRIER')
  while (has() !== on) await new Promise((resolve) => setTimeout(resolve, 20))
  console.log(`carrier ${on ? 'on' : 'off'}, ${port.started ? 'started' : 'stopped'}`)
}
ip('link', 'set', 'p0', 'down')
await carrier(false)
ip('link', 'set', 'p0', 'up')
await carrier(true)
const lost = once(kni, 'error')
ip('link', 'del', 'vEth7')
console.log((await lost)[0].code)
clearInterval(alive)
await kni.close()
await port.close()
console.log(`buffers left: ${mempool.count - mempool.freeCount}`)
