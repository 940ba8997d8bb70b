// rxonly: counts what arrives, by EtherType, and lets go of it.
//   node --import=@oxc-node/core/register examples/rxonly.ts DEVICE [--packets N]
import { parseArgs } from 'node:util'
import { EthernetView, Mempool, Port } from 'vring'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { packets: { type: 'string' } },
})
const limit = Number(values.packets ?? Infinity)

const stop = new AbortController()
process.once('SIGINT', () => stop.abort())

using mempool = new Mempool()
await using port = await Port.open(positionals[0] ?? 'net_null0', { mempool })
const ethernet = new EthernetView(mempool)
const types = new Map<number, number>()
let [packets, bytes] = [0, 0]

for await (const burst of port.rxQueues[0]!.bursts({ signal: stop.signal })) {
  for (let i = 0; i < burst.length; i++) {
    const type = ethernet.at(burst.addr[i]!).etherType
    types.set(type, (types.get(type) ?? 0) + 1)
    bytes += burst.len[i]!
  }
  packets += burst.length
  burst.free()
  if (packets >= limit) break
}

console.log(`received ${packets} packets, ${bytes} bytes`)
for (const [type, count] of types) console.log(`  0x${type.toString(16).padStart(4, '0')}: ${count}`)
