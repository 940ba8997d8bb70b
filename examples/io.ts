// io: sends every packet on as it is, from each of two ports to the other.
//   node --import=@oxc-node/core/register examples/io.ts DEVICE DEVICE [--packets N]
import { parseArgs } from 'node:util'
import { Mempool, Port } from 'vring'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { packets: { type: 'string' } },
})
const [left = 'net_null0', right = 'net_null1,no-rx=1'] = positionals
const limit = Number(values.packets ?? Infinity)

const stop = new AbortController()
process.once('SIGINT', () => stop.abort())

using mempool = new Mempool()
await using a = await Port.open(left, { mempool })
await using b = await Port.open(right, { mempool })
let [forwarded, dropped] = [0, 0]

async function forward(from: Port, to: Port): Promise<void> {
  for await (const burst of from.rxQueues[0]!.bursts({ signal: stop.signal })) {
    forwarded += to.txQueues[0]!.txBurst(burst)
    // What the other port did not take is still ours.
    dropped += burst.length
    burst.free()
    if (forwarded + dropped >= limit) stop.abort()
  }
}

await Promise.all([forward(a, b), forward(b, a)])
console.log(`forwarded ${forwarded}, dropped ${dropped}`)
