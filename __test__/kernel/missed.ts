// Sends until the receiver's ring is full, and only then receives.       … missed.ts DEVICE DEVICE
import { Mempool, Port } from 'vring'

using mempool = new Mempool()
await using sender = await Port.open(process.argv[2]!, { mempool })
await using receiver = await Port.open(process.argv[3]!, { mempool })
await Promise.all([sender.waitForLink(), receiver.waitForLink()])
using burst = mempool.createBurst(32)
const queue = receiver.rxQueues[0]!
while (queue.rxBurst(burst) > 0) burst.free()
sender.resetStats()
receiver.resetStats()
for (let i = 0; i < 8; i++) {
  while (burst.push(new Uint8Array(60))) {}
  for (let tries = 0; burst.length > 0 && tries < 1_000_000; tries++) sender.txQueues[0]!.txBurst(burst)
}
const { txPackets } = sender.stats()
const deadline = Date.now() + 20_000
const seen = (): number => receiver.stats().rxPackets + receiver.stats().rxMissed
while (seen() < txPackets && Date.now() < deadline) {
  queue.rxBurst(burst)
  burst.free()
}
const { rxPackets, rxMissed } = receiver.stats()
console.log(`sent ${txPackets}, received ${rxPackets}, missed ${rxMissed}`)
