// macswap: swaps the Ethernet addresses of every packet and sends it back where it came from.
//   node --import=@oxc-node/core/register examples/macswap.ts DEVICE [--packets N]
//   vring testpmd --vdev DEVICE -- --script examples/macswap.ts
import { isMainThread } from 'node:worker_threads'
import { parseArgs } from 'node:util'
import { type Burst, EthernetView, Mempool, Port } from 'vring'

const views = new WeakMap<Mempool, EthernetView>()

/** Changes a burst in place. Also what `vring testpmd --script` calls for every burst. */
export default function macswap(burst: Burst): void {
  let ethernet = views.get(burst.mempool)
  if (ethernet === undefined) views.set(burst.mempool, (ethernet = new EthernetView(burst.mempool)))
  const { addr, length } = burst
  for (let i = 0; i < length; i++) ethernet.at(addr[i]!).swapMacs()
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { packets: { type: 'string' } },
  })
  const limit = Number(values.packets ?? Infinity)
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())

  using mempool = new Mempool()
  await using port = await Port.open(positionals[0] ?? 'net_null0,copy=1', { mempool })
  let [forwarded, dropped] = [0, 0]
  for await (const burst of port.rxQueues[0]!.bursts({ signal: stop.signal })) {
    macswap(burst)
    forwarded += port.txQueues[0]!.txBurst(burst)
    dropped += burst.length
    burst.free()
    if (forwarded + dropped >= limit) break
  }
  console.log(`forwarded ${forwarded}, dropped ${dropped}`)
}

if (isMainThread && import.meta.url === new URL(process.argv[1]!, 'file:').href) await main()
