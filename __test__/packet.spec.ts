// Header views read and write what the RFCs say, at any address, and checksums are those that a receiver computes.
import test from 'ava'
import {
  ArpView,
  checksum,
  EthernetView,
  EtherType,
  formatIpv4,
  formatIpv6,
  formatMac,
  type HeaderView,
  IcmpView,
  IpProtocol,
  Ipv4View,
  Ipv6View,
  Mempool,
  onesSum,
  parseIpv4,
  parseMac,
  pseudoHeader4,
  TcpFlag,
  TcpView,
  UdpView,
  updateChecksum,
  VlanView,
} from '../ts/index.ts'

const pool = new Mempool({ count: 64, pages: '4K' })
const BASE = 256

/** Puts bytes, given in hexadecimal, at an address. */
function put(hex: string, addr = BASE): number {
  const bytes = Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
  pool.bytes.set(bytes, addr)
  return bytes.length
}

const hex = (addr: number, length: number): string =>
  Buffer.from(pool.bytes.subarray(addr, addr + length)).toString('hex')

/** Writes each value into its field and reads it back; the bytes around the header stay. */
function roundTrip(
  t: { is(a: unknown, b: unknown, m?: string): void },
  view: HeaderView,
  fields: Record<string, number | boolean>,
): void {
  const fieldsOf = view as unknown as Record<string, number | boolean>
  for (const [name, value] of Object.entries(fields)) fieldsOf[name] = value
  for (const [name, value] of Object.entries(fields)) t.is(fieldsOf[name], value, name)
}

test('EthernetView reads, writes and swaps at any alignment', (t) => {
  const view = new EthernetView(pool)
  for (const addr of [BASE, BASE + 1, BASE + 2, BASE + 3]) {
    put('ff 020000000001 fe0000000002 0800 ff', addr - 1)
    view.at(addr)
    t.is(view.dst, 0x02_00_00_00_00_01)
    t.is(view.src, 0xfe_00_00_00_00_02)
    t.is(view.etherType, EtherType.Ipv4)
    t.is(view.end, addr + 14)
    t.false(view.isMulticast)
    view.swapMacs()
    t.is(hex(addr - 1, 16), 'fffe00000000020200000000010800ff')
    view.dstText = 'aa:bb:cc:dd:ee:ff'
    view.src = 0xffff_ffff_ffff
    view.etherType = EtherType.Ipv6
    t.is(hex(addr - 1, 16), 'ffaabbccddeeffffffffffffff86ddff')
    t.deepEqual([view.dstText, view.srcText], ['aa:bb:cc:dd:ee:ff', 'ff:ff:ff:ff:ff:ff'])
  }
})

test('VlanView and ArpView', (t) => {
  const vlan = new VlanView(pool).at(BASE)
  put('b064 0800')
  t.deepEqual(
    [vlan.priority, vlan.dropEligible, vlan.id, vlan.etherType, vlan.end],
    [5, true, 100, 0x0800, BASE + 4],
  )
  roundTrip(t, vlan, { priority: 7, dropEligible: false, id: 4095, etherType: EtherType.Arp })
  t.is(hex(BASE, 4), 'efff0806')
  const arp = new ArpView(pool).at(BASE)
  put('0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002')
  t.true(arp.isIpv4OverEthernet)
  t.deepEqual(
    [arp.operation, arp.senderMac, arp.senderIp, arp.targetIp],
    [1, 0x02_00_00_00_00_01, 0x0a00_0001, 0x0a00_0002],
  )
  roundTrip(t, arp, {
    operation: 2,
    senderMac: 0xfe_ff_00_00_00_01,
    senderIp: 0xc0a8_0001,
    targetMac: 5,
    targetIp: 6,
  })
  pool.bytes.fill(0, BASE, BASE + 6)
  arp.init()
  t.is(hex(BASE, 6), '000108000604')
})

// The example header of a well-known text on the checksum: 4500 0073 … b861 ….
test('Ipv4View, and the checksum of a known header', (t) => {
  const ip = new Ipv4View(pool).at(BASE)
  put('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7')
  t.deepEqual(
    [
      ip.version,
      ip.headerLength,
      ip.totalLength,
      ip.flags,
      ip.fragmentOffset,
      ip.ttl,
      ip.protocol,
      ip.checksum,
    ],
    [4, 20, 115, 2, 0, 64, IpProtocol.Udp, 0xb861],
  )
  t.deepEqual(
    [ip.srcText, ip.dstText, ip.payloadLength, ip.end],
    ['192.168.0.1', '192.168.0.199', 95, BASE + 20],
  )
  t.true(ip.checksumOk)
  ip.ttl--
  t.false(ip.checksumOk)
  const updated = updateChecksum(0xb861, 0x4011, 0x3f11)
  ip.writeChecksum()
  t.true(ip.checksumOk)
  t.is(ip.checksum, updated, 'updating gives what adding up gives')
  ip.swapAddresses()
  t.true(ip.checksumOk)
  roundTrip(t, ip, {
    dscp: 46,
    ecn: 3,
    identification: 0xabcd,
    flags: 1,
    fragmentOffset: 0x1fff,
    src: 0xffff_ffff,
    dst: 1,
  })
})

test('Ipv6View', (t) => {
  const ip = new Ipv6View(pool).at(BASE)
  put('60012345 0010 3a ff 20010db8000000000000000000000001 fe800000000000000000000000000002')
  t.deepEqual(
    [ip.version, ip.trafficClass, ip.flowLabel, ip.payloadLength, ip.nextHeader, ip.hopLimit],
    [6, 0, 0x12345, 16, 58, 255],
  )
  t.deepEqual(
    [ip.srcText, ip.dstText, ip.srcWord(0), ip.dstWord(3)],
    ['2001:db8::1', 'fe80::2', 0x2001_0db8, 2],
  )
  ip.swapAddresses()
  t.deepEqual([ip.srcText, ip.dstText, ip.end], ['fe80::2', '2001:db8::1', BASE + 40])
  roundTrip(t, ip, {
    trafficClass: 0xff,
    flowLabel: 0xfffff,
    payloadLength: 9000,
    nextHeader: 6,
    hopLimit: 1,
  })
  t.is(ip.version, 6)
})

test('UDP, TCP and ICMP checksums hold for even and odd lengths, over IPv4 and IPv6', (t) => {
  const ip4 = new Ipv4View(pool).at(BASE)
  const ip6 = new Ipv6View(pool).at(BASE + 64)
  put('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7')
  put('60012345 0010 3a ff 20010db8000000000000000000000001 fe800000000000000000000000000002', BASE + 64)
  const at = BASE + 128
  for (const length of [20, 21, 64, 1001]) {
    for (let i = 0; i < length; i++) pool.bytes[at + i] = (i * 31 + length) & 255
    const udp = new UdpView(pool).at(at)
    const tcp = new TcpView(pool).at(at)
    for (const ip of [ip4, ip6]) {
      udp.length = length
      udp.writeChecksum(ip)
      t.true(udp.checksumOk(ip), `UDP ${length}`)
      pool.bytes[at + length - 1]! ^= 1
      t.false(udp.checksumOk(ip), `UDP ${length}, a bit flipped`)
      tcp.writeChecksum(ip, length)
      t.true(tcp.checksumOk(ip, length), `TCP ${length}`)
      udp.swapPorts()
      t.true(tcp.checksumOk(ip, length), 'ports swapped')
    }
    const icmp = new IcmpView(pool).at(at)
    icmp.writeChecksum(length)
    t.true(icmp.checksumOk(length), `ICMP ${length}`)
  }
  const udp = new UdpView(pool).at(at)
  udp.checksum = 0
  t.true(udp.checksumOk(ip4), 'none was sent')
  t.is(udp.end, at + 8)
})

test('TcpView and IcmpView fields', (t) => {
  const tcp = new TcpView(pool).at(BASE)
  put('0050 c000 00000001 fffffffe 5012 ffff 0000 0000')
  t.deepEqual([tcp.srcPort, tcp.dstPort, tcp.sequence, tcp.acknowledgment], [80, 49152, 1, 0xffff_fffe])
  t.deepEqual(
    [tcp.headerLength, tcp.flags, tcp.window, tcp.end],
    [20, TcpFlag.Syn | TcpFlag.Ack, 0xffff, BASE + 20],
  )
  roundTrip(t, tcp, {
    srcPort: 1,
    dstPort: 2,
    sequence: 3,
    acknowledgment: 4,
    headerLength: 60,
    flags: 255,
    window: 5,
    urgent: 6,
  })
  const icmp = new IcmpView(pool).at(BASE)
  roundTrip(t, icmp, { type: 8, code: 0, identifier: 0x1234, sequence: 7, checksum: 0xffff })
})

test('sums do not overflow, and a pseudo header is what the RFC adds up', (t) => {
  const ones = new Uint8Array(65535).fill(0xff)
  t.is(onesSum(ones, 0, 65534), 0xffff)
  t.is(onesSum(ones, 0, 0), 0)
  t.is(checksum(ones, 0, 65534), 0)
  t.is(onesSum(ones, 0, 1), 0xff00)
  t.is(pseudoHeader4(0xc0a8_0001, 0xc0a8_00c7, 17, 95), (0xc0a8 + 1 + 0xc0a8 + 0xc7 + 17 + 95) % 0xffff)
})

test('addresses as text and back', (t) => {
  t.is(formatMac(0x02_00_00_00_00_0f), '02:00:00:00:00:0f')
  t.is(parseMac('2:0:0:0:0:f'), 0x02_00_00_00_00_0f)
  t.is(parseMac('FF-ff-ff-ff-ff-FF'), 0xffff_ffff_ffff)
  t.is(formatIpv4(0xffff_ff00), '255.255.255.0')
  t.is(parseIpv4('255.255.255.0'), 0xffff_ff00)
  for (const bad of ['', '02:00:00:00:00', '02:00:00:00:00:gg', '1:2:3:4:5:6:7']) {
    t.throws(() => parseMac(bad), { code: 'ERR_VRING_INVALID_ARGUMENT' })
  }
  for (const bad of ['', '1.2.3', '1.2.3.256', '1.2.3.4.5'])
    t.throws(() => parseIpv4(bad), { code: 'ERR_VRING_INVALID_ARGUMENT' })
  t.is(formatIpv6([0, 0, 0, 0, 0, 0, 0, 0]), '::')
  t.is(formatIpv6([1, 0, 0, 2, 0, 0, 0, 3]), '1:0:0:2::3')
  t.is(formatIpv6([1, 2, 3, 4, 5, 6, 7, 8]), '1:2:3:4:5:6:7:8')
  t.is(formatIpv6([1, 0, 3, 4, 5, 6, 7, 8]), '1:0:3:4:5:6:7:8')
})

test('a view of a mempool that was closed throws', (t) => {
  const gone = new Mempool({ count: 4, pages: '4K' })
  const view = new EthernetView(gone).at(128)
  gone.close()
  t.throws(() => view.etherType, { instanceOf: TypeError })
  t.throws(() => new EthernetView(gone), { code: 'ERR_VRING_CLOSED' })
})
