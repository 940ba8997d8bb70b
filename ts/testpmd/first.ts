/** The packets of `start tx_first` when a script forwards: sent from here before the queues are handed over. */
import type { Port, TxQueue } from '../index.ts'
import type { StreamPlan } from './topology.ts'

const UDP_PORT_DISCARD = 9

function checksum(header: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < header.length; i += 2) sum += (header[i]! << 8) | header[i + 1]!
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

const macBytes = (mac: string): number[] => mac.split(':').map((part) => Number.parseInt(part, 16))

/** A UDP packet from 198.18.0.1 to 198.18.0.2, the addresses that RFC 2544 sets apart for tests. */
export function firstPacket(source: string, destination: string, length: number): Uint8Array {
  const packet = new Uint8Array(length)
  const view = new DataView(packet.buffer)
  packet.set([...macBytes(destination), ...macBytes(source), 0x08, 0x00])
  packet.set([0x45, 0], 14)
  view.setUint16(16, length - 14)
  packet.set([64, 17], 22)
  packet.set([198, 18, 0, 1, 198, 18, 0, 2], 26)
  view.setUint16(24, checksum(packet.subarray(14, 34)))
  view.setUint16(34, UDP_PORT_DISCARD)
  view.setUint16(36, UDP_PORT_DISCARD)
  view.setUint16(38, length - 34)
  return packet
}

/** What was sent ahead on one stream. */
export interface SentFirst {
  readonly tx: number
  readonly dropped: number
}

function sendOn(queue: TxQueue, packet: Uint8Array, bursts: number, size: number): SentFirst {
  using burst = queue.mempool.createBurst(size)
  let [tx, dropped] = [0, 0]
  for (let turn = 0; turn < bursts; turn++) {
    for (let i = 0; i < size && burst.push(packet); i++);
    tx += queue.txBurst(burst)
    dropped += burst.length
    burst.free()
  }
  queue.release()
  return { tx, dropped }
}

/** Sends `bursts` bursts of `size` packets on the transmit queue of every stream. What is not taken is dropped. */
export function sendFirst(
  streams: readonly StreamPlan[],
  portOf: (id: number) => Port,
  options: {
    readonly bursts: number
    readonly size: number
    readonly length: number
    peer(port: number): string
  },
): readonly SentFirst[] {
  return streams.map(({ txPort, txQueue }) => {
    const packet = firstPacket(portOf(txPort).mac, options.peer(txPort), options.length)
    return sendOn(portOf(txPort).txQueues[txQueue]!, packet, options.bursts, options.size)
  })
}
