/** UDP, TCP and ICMP headers. */
import { checksum, onesSum, pseudoHeader4, pseudoHeader6 } from './checksum.ts'
import { IpProtocol, Ipv4View, type Ipv6View } from './ip.ts'
import { HeaderView } from './view.ts'

/** What UDP and TCP have in common: ports, and a checksum over a pseudo header. */
abstract class PortsView extends HeaderView {
  /** Source port. */
  get srcPort(): number {
    return this.view.getUint16(this.addr)
  }

  set srcPort(port: number) {
    this.view.setUint16(this.addr, port)
  }

  /** Destination port. */
  get dstPort(): number {
    return this.view.getUint16(this.addr + 2)
  }

  set dstPort(port: number) {
    this.view.setUint16(this.addr + 2, port)
  }

  /** Swaps the two ports; the checksum stays right. */
  swapPorts(): void {
    const { srcPort } = this
    this.srcPort = this.dstPort
    this.dstPort = srcPort
  }

  protected pseudoSum(ip: Ipv4View | Ipv6View, protocol: number, length: number): number {
    if (ip instanceof Ipv4View) return pseudoHeader4(ip.src, ip.dst, protocol, length)
    return pseudoHeader6(this.bytes, ip.srcAddr, protocol, length)
  }
}

/** The 8 bytes of a UDP header (RFC 768). */
export class UdpView extends PortsView {
  /** Bytes of header and payload. */
  get length(): number {
    return this.view.getUint16(this.addr + 4)
  }

  set length(length: number) {
    this.view.setUint16(this.addr + 4, length)
  }

  /** Checksum; 0: none. */
  get checksum(): number {
    return this.view.getUint16(this.addr + 6)
  }

  set checksum(sum: number) {
    this.view.setUint16(this.addr + 6, sum)
  }

  /** Whether the checksum is right, or there is none. Reads the whole payload. */
  checksumOk(ip: Ipv4View | Ipv6View): boolean {
    if (this.checksum === 0) return true
    return (
      onesSum(this.bytes, this.addr, this.length, this.pseudoSum(ip, IpProtocol.Udp, this.length)) === 0xffff
    )
  }

  /** Writes the checksum, with the addresses of `ip`. Reads the whole payload. */
  writeChecksum(ip: Ipv4View | Ipv6View): void {
    this.checksum = 0
    const sum = checksum(this.bytes, this.addr, this.length, this.pseudoSum(ip, IpProtocol.Udp, this.length))
    this.checksum = sum === 0 ? 0xffff : sum
  }

  /** Byte position of the payload. */
  get end(): number {
    return this.addr + 8
  }
}

/** Bits of {@link TcpView.flags}. */
export const TcpFlag = { Fin: 1, Syn: 2, Rst: 4, Psh: 8, Ack: 16, Urg: 32, Ece: 64, Cwr: 128 } as const

/** A TCP header (RFC 9293), 20 to 60 bytes. */
export class TcpView extends PortsView {
  /** Sequence number. */
  get sequence(): number {
    return this.view.getUint32(this.addr + 4)
  }

  set sequence(sequence: number) {
    this.view.setUint32(this.addr + 4, sequence)
  }

  /** Acknowledgment number. */
  get acknowledgment(): number {
    return this.view.getUint32(this.addr + 8)
  }

  set acknowledgment(acknowledgment: number) {
    this.view.setUint32(this.addr + 8, acknowledgment)
  }

  /** Bytes of the header with its options. */
  get headerLength(): number {
    return (this.bytes[this.addr + 12]! >>> 4) * 4
  }

  set headerLength(bytes: number) {
    this.bytes[this.addr + 12] = (bytes >>> 2) << 4
  }

  /** See {@link TcpFlag}. */
  get flags(): number {
    return this.bytes[this.addr + 13]!
  }

  set flags(flags: number) {
    this.bytes[this.addr + 13] = flags
  }

  /** Bytes that the sender would take. */
  get window(): number {
    return this.view.getUint16(this.addr + 14)
  }

  set window(window: number) {
    this.view.setUint16(this.addr + 14, window)
  }

  /** Checksum. */
  get checksum(): number {
    return this.view.getUint16(this.addr + 16)
  }

  set checksum(sum: number) {
    this.view.setUint16(this.addr + 16, sum)
  }

  /** Urgent pointer. */
  get urgent(): number {
    return this.view.getUint16(this.addr + 18)
  }

  set urgent(urgent: number) {
    this.view.setUint16(this.addr + 18, urgent)
  }

  /** Whether the checksum of header and payload, together `length` bytes, is right. */
  checksumOk(ip: Ipv4View | Ipv6View, length: number): boolean {
    return onesSum(this.bytes, this.addr, length, this.pseudoSum(ip, IpProtocol.Tcp, length)) === 0xffff
  }

  /** Writes the checksum of header and payload, together `length` bytes, with the addresses of `ip`. */
  writeChecksum(ip: Ipv4View | Ipv6View, length: number): void {
    this.checksum = 0
    this.checksum = checksum(this.bytes, this.addr, length, this.pseudoSum(ip, IpProtocol.Tcp, length))
  }

  /** Byte position of the payload. */
  get end(): number {
    return this.addr + this.headerLength
  }
}

/** The first 8 bytes of an ICMP message (RFC 792), as echo request (type 8) and reply (type 0) have them. */
export class IcmpView extends HeaderView {
  /** What it is. */
  get type(): number {
    return this.bytes[this.addr]!
  }

  set type(type: number) {
    this.bytes[this.addr] = type
  }

  /** What it is more exactly. */
  get code(): number {
    return this.bytes[this.addr + 1]!
  }

  set code(code: number) {
    this.bytes[this.addr + 1] = code
  }

  /** Checksum. */
  get checksum(): number {
    return this.view.getUint16(this.addr + 2)
  }

  set checksum(sum: number) {
    this.view.setUint16(this.addr + 2, sum)
  }

  /** Of an echo: whose it is. */
  get identifier(): number {
    return this.view.getUint16(this.addr + 4)
  }

  set identifier(identifier: number) {
    this.view.setUint16(this.addr + 4, identifier)
  }

  /** Of an echo: its number. */
  get sequence(): number {
    return this.view.getUint16(this.addr + 6)
  }

  set sequence(sequence: number) {
    this.view.setUint16(this.addr + 6, sequence)
  }

  /** Whether the checksum of the message, `length` bytes with its header, is right. */
  checksumOk(length: number): boolean {
    return onesSum(this.bytes, this.addr, length) === 0xffff
  }

  /** Writes the checksum of the message, `length` bytes with its header. */
  writeChecksum(length: number): void {
    this.checksum = 0
    this.checksum = checksum(this.bytes, this.addr, length)
  }

  /** Byte position of what follows. */
  get end(): number {
    return this.addr + 8
  }
}
