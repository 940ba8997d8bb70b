// A packet of 64 KB that is still to be cut, from one port to another: whole where both agreed on it, else as frames.
//   … uncut.ts DEVICE DEVICE OFFLOADS OFFLOADS       1 or 0 for each port; prints what came
import { Mempool, Port, type QueueConfig } from 'vring'
import { sendLarge } from './large.ts'

const [from, to, fromHas, toHas] = process.argv.slice(2)
using mempool = new Mempool({ count: 4096 })
const config = (has: string | undefined): QueueConfig =>
  has === '1' ? { mempool, rxOffloads: ['lro'], txOffloads: ['tcp-tso'] } : { mempool }
await using sender = await Port.open(from!, config(fromHas))
await using receiver = await Port.open(to!, config(toHas))
await Promise.all([sender.waitForLink(), receiver.waitForLink()])
const { lengths, uncut, right, same } = await sendLarge(sender, receiver)
const longest = Math.max(...lengths)
console.log(
  `${lengths.length} of at most ${longest}, ${uncut ? 'uncut' : right ? 'right' : 'WRONG'}, ${same ? 'the same' : 'NOT the same'}`,
)
