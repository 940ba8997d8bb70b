// Two ports on the kernel's devices, joined by the kernel: every frame that the one sends, the other receives, unchanged and in order.
//   … two.ts DEVICE DEVICE PACKETS       prints `sent N, received N` and the digests of both sides
import { createHash } from 'node:crypto'
import { Mempool, Port, type RxQueue, type TxQueue } from 'vring'

const [from, to, count] = process.argv.slice(2)
const packets = Number(count)
const TYPE = [0x88, 0xb5] // local experimental: nothing of the kernel's is like it
const TAG = [0x81, 0x00, 0x00, 0x07] // a VLAN tag, which the kernel takes out of a frame and puts in again
const SIZES = [60, 61, 594, 1514]

using mempool = new Mempool()
await using sender = await Port.open(from!, { mempool })
await using receiver = await Port.open(to!, { mempool })
await Promise.all([sender.waitForLink(), receiver.waitForLink()])

const [sent, got] = [createHash('sha256'), createHash('sha256')]
const tx: TxQueue = sender.txQueues[0]!
const rx: RxQueue = receiver.rxQueues[0]!
using out = mempool.createBurst(32)
using into = mempool.createBurst(32)
const frame = Buffer.alloc(1514)
frame.fill(0xff, 0, 6)
frame.set([2, 0, 0, 0, 0, 1], 6)

function make(number: number): Uint8Array {
  const type = number % 5 === 0 ? [...TAG, ...TYPE] : TYPE
  frame.fill(number & 0xff, 12).set(type, 12)
  frame.writeUInt32BE(number, 12 + type.length)
  return frame.subarray(0, SIZES[number % SIZES.length])
}

let [made, received, idle] = [0, 0, 0]
/** Takes what has come; what is the kernel's own is not counted. */
function take(): void {
  while (rx.rxBurst(into) > 0) {
    for (let i = 0; i < into.length; i++) {
      const bytes = into.bytes(i)
      const type = bytes[12] === TAG[0] ? 16 : 12
      if (bytes[type] !== TYPE[0] || bytes[type + 1] !== TYPE[1]) continue
      got.update(bytes)
      received++
      idle = 0
    }
    into.free()
  }
}

while (received < packets && idle++ < 1_000_000) {
  // No more under way than a tap's queue takes: what comes after is dropped there, as on any wire.
  while (made < packets && made - received < 256 && out.length < out.capacity) {
    const bytes = make(made)
    sent.update(bytes)
    out.push(bytes)
    made++
  }
  tx.txBurst(out)
  take()
}
const counts = `sent ${sender.stats().txPackets}, received ${received}`
console.log(`${counts}, ${sent.digest('hex') === got.digest('hex') ? 'the same' : 'NOT the same'}`)
