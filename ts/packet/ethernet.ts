/** Ethernet and VLAN headers. */
import type { Mempool } from '../mempool.ts'
import { formatMac, parseMac } from './format.ts'
import { HeaderView } from './view.ts'

/** Values of {@link EthernetView.etherType}. */
export const EtherType = {
  Ipv4: 0x0800,
  Arp: 0x0806,
  Vlan: 0x8100,
  Ipv6: 0x86dd,
  QinQ: 0x88a8,
} as const

/** The 14 bytes of an Ethernet header. */
export class EthernetView extends HeaderView {
  readonly #words: Int32Array

  constructor(mempool: Mempool) {
    super(mempool)
    this.#words = new Int32Array(this.bytes.buffer, 0, this.bytes.length >>> 2)
  }

  /** Destination address as a 48-bit number; compare it with `parseMac(text)`. */
  get dst(): number {
    return this.view.getUint32(this.addr) * 0x1_0000 + this.view.getUint16(this.addr + 4)
  }

  set dst(mac: number) {
    this.view.setUint32(this.addr, Math.floor(mac / 0x1_0000))
    this.view.setUint16(this.addr + 4, mac % 0x1_0000)
  }

  /** Source address as a 48-bit number. */
  get src(): number {
    return this.view.getUint32(this.addr + 6) * 0x1_0000 + this.view.getUint16(this.addr + 10)
  }

  set src(mac: number) {
    this.view.setUint32(this.addr + 6, Math.floor(mac / 0x1_0000))
    this.view.setUint16(this.addr + 10, mac % 0x1_0000)
  }

  /** Destination address as text. Makes a string. */
  get dstText(): string {
    return formatMac(this.dst)
  }

  set dstText(text: string) {
    this.dst = parseMac(text)
  }

  /** Source address as text. Makes a string. */
  get srcText(): string {
    return formatMac(this.src)
  }

  set srcText(text: string) {
    this.src = parseMac(text)
  }

  /** What follows: see {@link EtherType}. */
  get etherType(): number {
    return this.view.getUint16(this.addr + 12)
  }

  set etherType(type: number) {
    this.view.setUint16(this.addr + 12, type)
  }

  /** Whether it goes to more than one: multicast or broadcast. */
  get isMulticast(): boolean {
    return (this.bytes[this.addr]! & 1) !== 0
  }

  /** Swaps the two addresses. */
  swapMacs(): void {
    const { addr } = this
    if ((addr & 3) !== 0) return this.#swapUnaligned(addr)
    const words = this.#words
    const at = addr >>> 2
    // Three words in the order of this (little-endian) machine: DDDD | ssDD | SSss. Swapped, each half moves by six bytes.
    const first = words[at]!
    const middle = words[at + 1]!
    const last = words[at + 2]!
    words[at] = (middle >>> 16) | (last << 16)
    words[at + 1] = (last >>> 16) | (first << 16)
    words[at + 2] = (first >>> 16) | (middle << 16)
  }

  #swapUnaligned(addr: number): void {
    const { view } = this
    const high = view.getUint32(addr)
    const low = view.getUint16(addr + 4)
    view.setUint32(addr, view.getUint32(addr + 6))
    view.setUint16(addr + 4, view.getUint16(addr + 10))
    view.setUint32(addr + 6, high)
    view.setUint16(addr + 10, low)
  }

  /** Byte position of what follows the header. */
  get end(): number {
    return this.addr + 14
  }
}

/** The 4 bytes behind an EtherType of 0x8100 or 0x88a8: a VLAN tag and the next EtherType. */
export class VlanView extends HeaderView {
  /** The whole tag. */
  get tci(): number {
    return this.view.getUint16(this.addr)
  }

  set tci(tci: number) {
    this.view.setUint16(this.addr, tci)
  }

  /** Priority, 0 to 7. */
  get priority(): number {
    return this.tci >>> 13
  }

  set priority(priority: number) {
    this.tci = (this.tci & 0x1fff) | (priority << 13)
  }

  /** Whether it may be dropped first. */
  get dropEligible(): boolean {
    return (this.tci & 0x1000) !== 0
  }

  set dropEligible(eligible: boolean) {
    this.tci = (this.tci & 0xefff) | (eligible ? 0x1000 : 0)
  }

  /** Number of the VLAN, 0 to 4095. */
  get id(): number {
    return this.tci & 0xfff
  }

  set id(id: number) {
    this.tci = (this.tci & 0xf000) | (id & 0xfff)
  }

  /** What follows: see {@link EtherType}. */
  get etherType(): number {
    return this.view.getUint16(this.addr + 2)
  }

  set etherType(type: number) {
    this.view.setUint16(this.addr + 2, type)
  }

  /** Byte position of what follows the tag. */
  get end(): number {
    return this.addr + 4
  }
}

/** The 28 bytes of an ARP message for IPv4 over Ethernet (RFC 826). */
export class ArpView extends HeaderView {
  /** 1: request, 2: reply. */
  get operation(): number {
    return this.view.getUint16(this.addr + 6)
  }

  set operation(operation: number) {
    this.view.setUint16(this.addr + 6, operation)
  }

  #mac(at: number): number {
    return this.view.getUint32(this.addr + at) * 0x1_0000 + this.view.getUint16(this.addr + at + 4)
  }

  #setMac(at: number, mac: number): void {
    this.view.setUint32(this.addr + at, Math.floor(mac / 0x1_0000))
    this.view.setUint16(this.addr + at + 4, mac % 0x1_0000)
  }

  /** Ethernet address of the sender as a 48-bit number. */
  get senderMac(): number {
    return this.#mac(8)
  }

  set senderMac(mac: number) {
    this.#setMac(8, mac)
  }

  /** IPv4 address of the sender as a 32-bit number. */
  get senderIp(): number {
    return this.view.getUint32(this.addr + 14)
  }

  set senderIp(address: number) {
    this.view.setUint32(this.addr + 14, address)
  }

  /** Ethernet address that is asked for, as a 48-bit number. */
  get targetMac(): number {
    return this.#mac(18)
  }

  set targetMac(mac: number) {
    this.#setMac(18, mac)
  }

  /** IPv4 address that is asked for, as a 32-bit number. */
  get targetIp(): number {
    return this.view.getUint32(this.addr + 24)
  }

  set targetIp(address: number) {
    this.view.setUint32(this.addr + 24, address)
  }

  /** Writes what every ARP message for IPv4 over Ethernet begins with: all before the operation. */
  init(): void {
    this.view.setUint32(this.addr, 0x0001_0800)
    this.view.setUint16(this.addr + 4, 0x0604)
  }

  /** Whether it is one for IPv4 over Ethernet. */
  get isIpv4OverEthernet(): boolean {
    return this.view.getUint32(this.addr) === 0x0001_0800 && this.view.getUint16(this.addr + 4) === 0x0604
  }

  /** Byte position of what follows the message. */
  get end(): number {
    return this.addr + 28
  }
}
