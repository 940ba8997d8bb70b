// Captures for the tests: generated, and read by a reader that shares nothing with the driver's.
import { readFileSync } from 'node:fs'

/** `count` packets of random bytes, of 60 to 9000 bytes, the edges among them. The same for the same seed. */
export function randomPackets(count: number, seed: number): readonly Buffer[] {
  let state = seed
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state >>> 8
  }
  // What fits a frame, a buffer, or just does not.
  const edges = [60, 61, 64, 1514, 1518, 2036, 2048, 2049, 4096, 8999, 9000]
  return Array.from({ length: count }, (_, i) => {
    const size = edges[i] ?? 60 + (next() % 8941)
    return Buffer.from(Array.from({ length: size }, () => next() & 255))
  })
}

const words = (...values: readonly number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer)
const padded = (data: Buffer): Buffer => Buffer.concat([data, Buffer.alloc(-data.length & 3)])

/** The bytes of a pcap file with these packets. */
export function pcap(packets: readonly Buffer[]): Buffer {
  const head = words(0xa1b2c3d4, 0x0004_0002, 0, 0, 65535, 1)
  return Buffer.concat([
    head,
    ...packets.map((data, i) => Buffer.concat([words(i, 0, data.length, data.length), data])),
  ])
}

function block(type: number, body: Buffer): Buffer {
  const length = body.length + 12
  return Buffer.concat([words(type, length), body, words(length)])
}

/** The bytes of a pcapng file with these packets, on one Ethernet interface. */
export function pcapng(packets: readonly Buffer[]): Buffer {
  const section = block(0x0a0d_0d0a, words(0x1a2b3c4d, 1, 0xffff_ffff, 0xffff_ffff))
  const link = block(1, words(1, 65535))
  const packet = (data: Buffer, i: number): Buffer =>
    block(6, Buffer.concat([words(0, 0, i, data.length, data.length), padded(data)]))
  return Buffer.concat([section, link, ...packets.map(packet)])
}

function readPcap(file: Buffer): Buffer[] {
  const packets = []
  for (let at = 24; at < file.length;) {
    const length = file.readUInt32LE(at + 8)
    packets.push(file.subarray(at + 16, at + 16 + length))
    at += 16 + length
  }
  return packets
}

function readPcapng(file: Buffer): Buffer[] {
  const packets = []
  for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) {
    if (file.readUInt32LE(at) !== 6) continue
    packets.push(file.subarray(at + 28, at + 28 + file.readUInt32LE(at + 20)))
  }
  return packets
}

/** The packets of a little-endian pcap or pcapng file. */
export function readCapture(path: string): readonly Buffer[] {
  const file = readFileSync(path)
  const magic = file.readUInt32LE(0)
  if (magic === 0x0a0d_0d0a) return readPcapng(file)
  if (magic === 0xa1b2c3d4 || magic === 0xa1b23c4d) return readPcap(file)
  throw new Error(`${path}: expected a capture of this machine's byte order, got magic ${magic.toString(16)}`)
}
