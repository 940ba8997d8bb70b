/** IPv4 and IPv6 headers. */
import { checksum, onesSum } from './checksum.ts'
import { formatIpv4, formatIpv6, parseIpv4 } from './format.ts'
import { HeaderView } from './view.ts'

/** Values of {@link Ipv4View.protocol} and {@link Ipv6View.nextHeader}. */
export const IpProtocol = { Icmp: 1, Tcp: 6, Udp: 17, Icmpv6: 58 } as const

/** An IPv4 header (RFC 791), 20 to 60 bytes. */
export class Ipv4View extends HeaderView {
  /** 4. */
  get version(): number {
    return this.bytes[this.addr]! >>> 4
  }

  /** Bytes of the header with its options. Setting it writes the version too. */
  get headerLength(): number {
    return (this.bytes[this.addr]! & 15) * 4
  }

  set headerLength(bytes: number) {
    this.bytes[this.addr] = 0x40 | (bytes >>> 2)
  }

  /** Differentiated services code point, 0 to 63. */
  get dscp(): number {
    return this.bytes[this.addr + 1]! >>> 2
  }

  set dscp(dscp: number) {
    this.bytes[this.addr + 1] = (dscp << 2) | this.ecn
  }

  /** Explicit congestion notification, 0 to 3. */
  get ecn(): number {
    return this.bytes[this.addr + 1]! & 3
  }

  set ecn(ecn: number) {
    this.bytes[this.addr + 1] = (this.bytes[this.addr + 1]! & 0xfc) | (ecn & 3)
  }

  /** Bytes of header and payload. */
  get totalLength(): number {
    return this.view.getUint16(this.addr + 2)
  }

  set totalLength(length: number) {
    this.view.setUint16(this.addr + 2, length)
  }

  /** Tells the fragments of one packet. */
  get identification(): number {
    return this.view.getUint16(this.addr + 4)
  }

  set identification(id: number) {
    this.view.setUint16(this.addr + 4, id)
  }

  /** Bit 0: more fragments, bit 1: don't fragment. */
  get flags(): number {
    return this.bytes[this.addr + 6]! >>> 5
  }

  set flags(flags: number) {
    this.bytes[this.addr + 6] = (this.bytes[this.addr + 6]! & 0x1f) | (flags << 5)
  }

  /** Position of the fragment in units of 8 bytes. */
  get fragmentOffset(): number {
    return this.view.getUint16(this.addr + 6) & 0x1fff
  }

  set fragmentOffset(offset: number) {
    this.view.setUint16(this.addr + 6, (this.flags << 13) | (offset & 0x1fff))
  }

  /** Hops that are left. */
  get ttl(): number {
    return this.bytes[this.addr + 8]!
  }

  set ttl(ttl: number) {
    this.bytes[this.addr + 8] = ttl
  }

  /** What follows: see {@link IpProtocol}. */
  get protocol(): number {
    return this.bytes[this.addr + 9]!
  }

  set protocol(protocol: number) {
    this.bytes[this.addr + 9] = protocol
  }

  /** Checksum of the header. */
  get checksum(): number {
    return this.view.getUint16(this.addr + 10)
  }

  set checksum(sum: number) {
    this.view.setUint16(this.addr + 10, sum)
  }

  /** Whether the header's checksum is right. */
  get checksumOk(): boolean {
    return onesSum(this.bytes, this.addr, this.headerLength) === 0xffff
  }

  /** Writes the header's checksum. */
  writeChecksum(): void {
    this.checksum = 0
    this.checksum = checksum(this.bytes, this.addr, this.headerLength)
  }

  /** Source address as a 32-bit number. */
  get src(): number {
    return this.view.getUint32(this.addr + 12)
  }

  set src(address: number) {
    this.view.setUint32(this.addr + 12, address)
  }

  /** Destination address as a 32-bit number. */
  get dst(): number {
    return this.view.getUint32(this.addr + 16)
  }

  set dst(address: number) {
    this.view.setUint32(this.addr + 16, address)
  }

  /** Source address as text. Makes a string. */
  get srcText(): string {
    return formatIpv4(this.src)
  }

  set srcText(text: string) {
    this.src = parseIpv4(text)
  }

  /** Destination address as text. Makes a string. */
  get dstText(): string {
    return formatIpv4(this.dst)
  }

  set dstText(text: string) {
    this.dst = parseIpv4(text)
  }

  /** Swaps the two addresses; checksums stay right. */
  swapAddresses(): void {
    const { src } = this
    this.src = this.dst
    this.dst = src
  }

  /** Bytes behind the header, as its lengths say. */
  get payloadLength(): number {
    return this.totalLength - this.headerLength
  }

  /** Byte position of what follows the header. */
  get end(): number {
    return this.addr + this.headerLength
  }
}

/** The 40 bytes of an IPv6 header (RFC 8200). */
export class Ipv6View extends HeaderView {
  /** 6. */
  get version(): number {
    return this.bytes[this.addr]! >>> 4
  }

  /** Traffic class, 0 to 255. Setting it writes the version too. */
  get trafficClass(): number {
    return (this.view.getUint16(this.addr) >>> 4) & 0xff
  }

  set trafficClass(value: number) {
    this.view.setUint16(this.addr, 0x6000 | ((value & 0xff) << 4) | (this.bytes[this.addr + 1]! & 15))
  }

  /** Flow label, 20 bits. */
  get flowLabel(): number {
    return this.view.getUint32(this.addr) & 0xf_ffff
  }

  set flowLabel(label: number) {
    this.view.setUint32(
      this.addr,
      ((this.view.getUint32(this.addr) & 0xfff0_0000) | (label & 0xf_ffff)) >>> 0,
    )
  }

  /** Bytes behind this header. */
  get payloadLength(): number {
    return this.view.getUint16(this.addr + 4)
  }

  set payloadLength(length: number) {
    this.view.setUint16(this.addr + 4, length)
  }

  /** What follows: see {@link IpProtocol}. */
  get nextHeader(): number {
    return this.bytes[this.addr + 6]!
  }

  set nextHeader(protocol: number) {
    this.bytes[this.addr + 6] = protocol
  }

  /** Hops that are left. */
  get hopLimit(): number {
    return this.bytes[this.addr + 7]!
  }

  set hopLimit(hops: number) {
    this.bytes[this.addr + 7] = hops
  }

  /** Byte position of the source address, 16 bytes. */
  get srcAddr(): number {
    return this.addr + 8
  }

  /** Byte position of the destination address, 16 bytes. */
  get dstAddr(): number {
    return this.addr + 24
  }

  /** 32-bit word `i` (0 to 3) of the source address. */
  srcWord(i: number): number {
    return this.view.getUint32(this.addr + 8 + 4 * i)
  }

  /** 32-bit word `i` (0 to 3) of the destination address. */
  dstWord(i: number): number {
    return this.view.getUint32(this.addr + 24 + 4 * i)
  }

  #text(at: number): string {
    return formatIpv6(Array.from({ length: 8 }, (_, i) => this.view.getUint16(at + 2 * i)))
  }

  /** Source address as text. Makes a string. */
  get srcText(): string {
    return this.#text(this.srcAddr)
  }

  /** Destination address as text. Makes a string. */
  get dstText(): string {
    return this.#text(this.dstAddr)
  }

  /** Swaps the two addresses; checksums stay right. */
  swapAddresses(): void {
    const { view, addr } = this
    for (let at = addr + 8; at < addr + 24; at += 4) {
      const word = view.getUint32(at)
      view.setUint32(at, view.getUint32(at + 16))
      view.setUint32(at + 16, word)
    }
  }

  /** Byte position of what follows the header. */
  get end(): number {
    return this.addr + 40
  }
}
