// A TCP packet of 64 KB that is still to be cut, and what becomes of it.
import { createHash } from 'node:crypto'
import { type Burst, PacketFlag, type Port } from 'vring'

const HEADERS = 54
const PAYLOAD = 65_000
export const LARGE = HEADERS + PAYLOAD
const MSS = 1448

const sum = (bytes: Uint8Array, from: number, to: number): number => {
  let total = 0
  for (let i = from; i < to; i += 2) total += (bytes[i]! << 8) | (i + 1 < to ? bytes[i + 1]! : 0)
  return total
}

const fold = (total: number): number => {
  let folded = total
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000)
  return folded
}

/** The sum over the pseudo header of TCP over IPv4. */
const pseudo = (ip: Buffer, length: number): number => sum(ip, 12, 20) + 6 + length

function largePacket(): Buffer {
  const packet = Buffer.alloc(LARGE)
  packet.fill(0xff, 0, 6).set([2, 0, 0, 0, 0, 0x77], 6)
  packet.writeUInt16BE(0x0800, 12)
  const [ip, tcp] = [packet.subarray(14), packet.subarray(34)]
  ip.set([0x45, 0])
  ip.writeUInt16BE(LARGE - 14, 2)
  ip.set([0x40, 0, 64, 6], 6)
  ip.set([10, 77, 0, 1, 10, 77, 0, 2], 12)
  ip.writeUInt16BE(fold(sum(ip, 0, 20)) ^ 0xffff, 10)
  tcp.writeUInt16BE(7, 0)
  tcp.writeUInt16BE(7, 2)
  tcp.set([0x50, 0x10], 12)
  // What a sender leaves where the checksum is to be.
  tcp.writeUInt16BE(fold(pseudo(ip, 20 + PAYLOAD)), 16)
  for (let i = HEADERS; i < LARGE; i++) packet[i] = (i * 7) ^ (i >> 8)
  return packet
}

const ours = (bytes: Uint8Array): boolean => bytes[6] === 2 && bytes[11] === 0x77 && bytes[12] === 8

/** The TCP checksum of a whole frame is right. */
function isRight(frame: Buffer): boolean {
  const length = frame.readUInt16BE(16) - 20
  return fold(pseudo(frame.subarray(14), length) + sum(frame, 34, 34 + length)) === 0xffff
}

export interface Arrived {
  /** Bytes of each packet. */
  readonly lengths: readonly number[]
  /** All of them are marked as to be cut. */
  readonly uncut: boolean
  /** All checksums are right; of what is uncut nobody can say. */
  readonly right: boolean
  /** The TCP payload is what was sent. */
  readonly same: boolean
}

/** Sends a large packet from one port and takes it, or what it was cut into, from the other. */
export async function sendLarge(from: Port, to: Port): Promise<Arrived> {
  using out = from.mempool.createBurst(1)
  using into: Burst = to.mempool.createBurst(64)
  const packet = largePacket()
  out.push(packet)
  out.setLayers(0, PacketFlag.GsoTcp4, MSS, 14, 20, 20)
  while (out.length > 0) from.txQueues[0]!.txBurst(out)
  const frames: Buffer[] = []
  const flags: number[] = []
  const got = (): number => frames.reduce((bytes, frame) => bytes + frame.length - HEADERS, 0)
  while (got() < PAYLOAD) {
    for (const queue of to.rxQueues) {
      queue.rxBurst(into)
      for (let i = 0; i < into.length; i++) {
        const bytes = Buffer.from(into.bytes(i))
        if (!ours(bytes)) continue
        frames.push(bytes)
        flags.push(into.flags[i]!)
      }
      into.free()
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
  const digest = (parts: readonly Buffer[]): string =>
    parts.reduce((hash, part) => hash.update(part.subarray(HEADERS)), createHash('sha256')).digest('hex')
  const uncut = flags.every((each) => (each & PacketFlag.GsoTcp4) !== 0)
  return {
    lengths: frames.map((frame) => frame.length),
    uncut,
    right: !uncut && frames.every(isRight),
    same: digest(frames) === digest([packet]),
  }
}
