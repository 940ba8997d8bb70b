// What a port wants to receive, and what the kernel's device hands it.       … filters.ts DEVICE IFACE
// A packet socket on the same device sends to a group of all, to another station, and to all of VLAN 5. Prints who filters, how many packets the port
// got, and how many its device kept.
import { readFileSync } from 'node:fs'
import { Mempool, Port } from 'vring'

const [device, iface] = process.argv.slice(2)
const OTHER = '02:00:00:00:00:99'
const ALL = 'ff'.repeat(6)
const FRAMES = [`${ALL}02000000000188b5`, `02000000009902000000000188b5`, `${ALL}0200000000018100000588b5`]

using mempool = new Mempool({ count: 4096 })
await using port = await Port.open(device!, { mempool })
await using sender = await Port.open(`net_af_packet9,iface=${iface}`, { mempool, rxQueues: 0 })
await port.waitForLink()
/** The kernel's count of what it had to send and did not. */
function kept(): number {
  const line = readFileSync('/proc/self/net/dev', 'utf8').split(`${iface}:`)[1] ?? ''
  return Number(line.trim().split(/\s+/)[11])
}
using burst = mempool.createBurst(32)

/** Sends, and says what came through. */
async function look(): Promise<string> {
  const queue = port.rxQueues[0]!
  const before = kept()
  port.resetStats()
  for (const frame of FRAMES) burst.push(Buffer.from(frame.padEnd(120, '0'), 'hex'))
  while (burst.length > 0) sender.txQueues[0]!.txBurst(burst)
  const seen = (): number =>
    port.stats().rxPackets + (port.stats().drops['rx_filtered'] ?? 0) + kept() - before
  for (let i = 0; i < 200 && seen() < FRAMES.length; i++) {
    queue.rxBurst(burst)
    burst.free()
    await new Promise((resolve) => setTimeout(resolve, 5)) // between two looks
  }
  const { rxPackets, drops } = port.stats()
  const { addresses = '-', 'vlan-filter': vlans = '-' } = port.info.appliedBy
  return `${addresses} ${vlans}: ${rxPackets} received, ${kept() - before} kept, ${drops['rx_filtered'] ?? 0} filtered`
}

console.log(`all: ${await look()}`)
port.setRxMode({ promiscuous: false })
console.log(`own: ${await look()}`)
port.setRxMode({ macs: [OTHER] })
console.log(`two: ${await look()}`)
port.setRxMode({ promiscuous: true, vlans: [7] })
console.log(`vlan 7: ${await look()}`)
port.setRxMode({ vlans: [5] })
console.log(`vlan 5: ${await look()}`)
