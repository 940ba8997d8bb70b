// Packets for the engines: every kind that one of them treats in a way of its own, with right and wrong checksums.
const mac = (n: number): Buffer => Buffer.from([2, 0, 0, 0, 0, n])
const u16 = (n: number): Buffer => Buffer.from([(n >> 8) & 255, n & 255])
const bytes = (count: number, seed: number): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, i) => (i * 7 + seed) & 255))

function checksum(...parts: readonly Buffer[]): number {
  const all = Buffer.concat(parts)
  const even = Buffer.concat([all, Buffer.alloc(all.length & 1)])
  let sum = 0
  for (let i = 0; i < even.length; i += 2) sum += even.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

const ethernet = (type: number, payload: Buffer, to = mac(9)): Buffer =>
  Buffer.concat([to, mac(1), u16(type), payload])

const ipv4Address = (n: number): Buffer => Buffer.from([10, 0, 0, n])
const ipv6Address = (n: number): Buffer =>
  Buffer.concat([Buffer.from([0xfd]), Buffer.alloc(14), Buffer.from([n])])

function ipv4(protocol: number, payload: Buffer, to = ipv4Address(2)): Buffer {
  const head = Buffer.concat([
    Buffer.from([0x45, 0]),
    u16(20 + payload.length),
    Buffer.from([0, 0, 0, 0, 64, protocol, 0, 0]),
    ipv4Address(1),
    to,
  ])
  head.writeUInt16BE(checksum(head), 10)
  return Buffer.concat([head, payload])
}

const ipv6 = (protocol: number, payload: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from([0x60, 0, 0, 0]),
    u16(payload.length),
    Buffer.from([protocol, 64]),
    ipv6Address(1),
    ipv6Address(2),
    payload,
  ])

const addresses = (version: 4 | 6): Buffer =>
  version === 4
    ? Buffer.concat([ipv4Address(1), ipv4Address(2)])
    : Buffer.concat([ipv6Address(1), ipv6Address(2)])

function layer4(version: 4 | 6, protocol: number, packet: Buffer, at: number): Buffer {
  const pseudo = Buffer.concat([addresses(version), Buffer.from([0, protocol]), u16(packet.length)])
  packet.writeUInt16BE(checksum(pseudo, packet), at)
  return packet
}

function udp(version: 4 | 6, size: number): Buffer {
  const head = Buffer.concat([u16(1000), u16(2000), u16(8 + size), u16(0)])
  return layer4(version, 17, Buffer.concat([head, bytes(size, 3)]), 6)
}

function tcp(version: 4 | 6, size: number): Buffer {
  const head = Buffer.from('03e807d00000004d000000585010020000000000', 'hex')
  return layer4(version, 6, Buffer.concat([head, bytes(size, 5)]), 16)
}

function ping(size: number): Buffer {
  const packet = Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 7, 0, 1]), bytes(size, 1)])
  packet.writeUInt16BE(checksum(packet), 2)
  return packet
}

const arp = (operation: number): Buffer =>
  Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4, 0, operation]),
    mac(1),
    ipv4Address(1),
    Buffer.alloc(6),
    ipv4Address(2),
    Buffer.alloc(18),
  ])

const vlan = (packet: Buffer): Buffer =>
  Buffer.concat([packet.subarray(0, 12), Buffer.from([0x81, 0, 0, 5]), packet.subarray(12)])

/** The packet with the bytes of some places turned over. */
function wrong(packet: Buffer, ...at: readonly number[]): Buffer {
  const changed = Buffer.from(packet)
  for (const i of at) changed[i] = changed[i]! ^ 0xff
  return changed
}

const withoutUdpChecksum = (packet: Buffer): Buffer => {
  const changed = Buffer.from(packet)
  changed.fill(0, 40, 42)
  return changed
}

/** One of each. */
export const PACKETS: readonly Buffer[] = [
  ethernet(0x0800, ipv4(17, udp(4, 18))),
  ethernet(0x0800, ipv4(17, udp(4, 1001))),
  ethernet(0x0800, ipv4(6, tcp(4, 33))),
  ethernet(0x86dd, ipv6(17, udp(6, 20))),
  ethernet(0x86dd, ipv6(6, tcp(6, 400))),
  vlan(ethernet(0x0800, ipv4(6, tcp(4, 12)))),
  wrong(ethernet(0x0800, ipv4(17, udp(4, 60))), 24, 40),
  wrong(ethernet(0x0800, ipv4(6, tcp(4, 90))), 50),
  withoutUdpChecksum(ethernet(0x0800, ipv4(17, udp(4, 40)))),
  ethernet(0x0800, ipv4(1, ping(56))),
  vlan(ethernet(0x0800, ipv4(1, ping(33)))),
  ethernet(0x0800, ipv4(1, ping(10), Buffer.from([224, 0, 0, 1]))),
  ethernet(0x0806, arp(1), Buffer.alloc(6, 0xff)),
  ethernet(0x0806, arp(2)),
  ethernet(0x88b5, bytes(50, 9)),
]
