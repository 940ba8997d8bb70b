// Sends numbered frames, and takes them back from whoever returns them: each once, in order, unchanged but for its addresses.
//   … generator.ts DEVICE PACKETS       prints `sent N, received N, the same, at N packets/s`
import { createHash } from 'node:crypto'
import { Mempool, Port } from 'vring'

const [device, count] = process.argv.slice(2)
const packets = Number(count)
const TYPE = [0x88, 0xb5] // local experimental: nothing of the kernel's is like it
const SIZES = [60, 61, 594, 1514]
/** Frames under way, at most: no queue on the way is to be full. A macvtap's holds 500. */
const WINDOW = 256
/** Without a frame for so many milliseconds, the rest is lost. */
const PATIENCE = 20_000

using mempool = new Mempool()
await using port = await Port.open(device!, { mempool })
await port.waitForLink()
const [sent, got] = [createHash('sha256'), createHash('sha256')]
using out = mempool.createBurst(32)
using into = mempool.createBurst(32)
const frame = Buffer.alloc(1514)
frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...TYPE])
let [made, received, idle, last] = [0, 0, 0, performance.now()]

/** Takes what has come; what is the kernel's own is not counted. */
function take(): void {
  while (port.rxQueues[0]!.rxBurst(into) > 0) {
    for (let i = 0; i < into.length; i++) {
      const bytes = into.bytes(i)
      if (bytes[12] !== TYPE[0] || bytes[13] !== TYPE[1]) continue
      got.update(bytes.subarray(12))
      received++
      idle = 0
    }
    last = performance.now()
    into.free()
  }
}

const start = performance.now()
while (received < packets && performance.now() - last < PATIENCE) {
  while (made < packets && made - received < WINDOW && out.length < out.capacity) {
    frame.fill(made & 0xff, 14).writeUInt32BE(made, 14)
    const bytes = frame.subarray(0, SIZES[made++ % SIZES.length])
    sent.update(bytes.subarray(12))
    out.push(bytes)
  }
  port.txQueues[0]!.txBurst(out)
  take()
  if (idle++ > 100) await new Promise((resolve) => setTimeout(resolve, 0))
}
const rate = Math.round(received / ((performance.now() - start) / 1000))
out.free()
const same = sent.digest('hex') === got.digest('hex') ? 'the same' : 'DIFFERENT'
console.log(`sent ${made}, received ${received}, ${same}, at ${rate} packets/s`)
