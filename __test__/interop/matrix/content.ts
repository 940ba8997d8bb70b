// Packets of known content that go out over a port and come back from its peer: whole, in order on each queue, and digested.
import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { type Burst, type Port, type RxQueue, type TxQueue } from '../../../ts/index.ts'
import { randomPackets } from '../captures.ts'
import { LIMIT } from '../link.ts'

/** Packets on each queue, and how many of them may be on their way: a peer that forwards drops what its ring has no room for. */
const COUNT = 200
const WINDOW = 12

/** What one queue pair has sent and got back. */
interface Lane {
  readonly tx: TxQueue
  readonly rx: RxQueue
  readonly burst: Burst
  readonly packets: readonly Buffer[]
  readonly digest: ReturnType<typeof createHash>
  sent: number
  back: number
}

function receive(lane: Lane): void {
  const { burst, digest } = lane
  lane.rx.rxBurst(burst)
  for (let i = 0; i < burst.length; i++) {
    // Lengths are part of the digest: the same bytes cut differently are other packets.
    digest.update(`${burst.len[i]!} `).update(burst.bytes(i))
  }
  lane.back += burst.length
  burst.free()
}

/** Nothing is received while a packet waits to be sent: the burst is used for one thing at a time. */
function send(lane: Lane): void {
  const { burst, packets } = lane
  while (lane.sent < packets.length && lane.sent - lane.back < WINDOW) {
    if (!burst.push(packets[lane.sent]!)) break
    if (lane.tx.txBurst(burst) === 0) break
    lane.sent += 1
  }
  burst.free()
}

function digestOf(packets: readonly Buffer[]): string {
  const digest = createHash('sha256')
  for (const packet of packets) digest.update(`${packet.length} `).update(packet)
  return digest.digest('hex')
}

/** Sends packets of 60 to 9000 bytes on every queue, receives them again, and says whether each queue's digests agree. */
export async function echo(
  port: Port,
): Promise<{ readonly packets: number; readonly bytes: number; readonly same: readonly boolean[] }> {
  const lanes: readonly Lane[] = port.txQueues.map((tx, i) => ({
    tx,
    rx: port.rxQueues[i]!,
    burst: port.mempool.createBurst(),
    packets: randomPackets(COUNT, i + 1),
    digest: createHash('sha256'),
    sent: 0,
    back: 0,
  }))
  const deadline = Date.now() + LIMIT
  while (lanes.some((lane) => lane.back < COUNT)) {
    if (Date.now() > deadline) {
      const states = lanes.map((lane) => `${lane.sent} sent, ${lane.back} back`)
      throw new Error(`not within ${LIMIT} ms: all packets back; queue by queue: ${states.join('; ')}`)
    }
    for (const lane of lanes) {
      send(lane)
      receive(lane)
    }
    await turn()
  }
  for (const { burst, rx, tx } of lanes) {
    burst.close()
    rx.release()
    tx.release()
  }
  const bytes = lanes.reduce(
    (sum, { packets }) => sum + packets.reduce((total, packet) => total + packet.length, 0),
    0,
  )
  return {
    packets: COUNT * lanes.length,
    bytes,
    same: lanes.map(({ digest, packets }) => digest.digest('hex') === digestOf(packets)),
  }
}
