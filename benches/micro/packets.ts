/** What JavaScript does with the packets of a burst. */
import { checksum, EthernetView, Ipv4View, Mempool, updateChecksum } from 'vring'
import { heading, measure, type Result } from './suite.ts'

const PACKETS = 32
const FRAME = '02000000000102000000000208004500003200000000401100000a0000010a000002'.padEnd(128, '0')

/** See the file's first line. Each loop is its own function: one that is shared by all would measure its own generality. */
export function benchPackets(): readonly Result[] {
  using mempool = new Mempool({ count: 1024 })
  using burst = mempool.createBurst(PACKETS)
  while (burst.push(Buffer.from(FRAME, 'hex')));
  const { addr, len } = burst
  const { bytes, view } = mempool
  const [ethernet, ip] = [new EthernetView(mempool), new Ipv4View(mempool)]
  let sink = 0

  heading(`a burst of ${PACKETS} packets`)
  const results = [
    measure(
      'read address and length',
      () => {
        let sum = 0
        for (let i = 0; i < burst.length; i++) sum = (sum + addr[i]! + len[i]!) | 0
        sink ^= sum
      },
      PACKETS,
    ),
    measure(
      'read one byte',
      () => {
        let sum = 0
        for (let i = 0; i < burst.length; i++) sum += bytes[addr[i]!]!
        sink ^= sum
      },
      PACKETS,
    ),
    measure(
      'read a 32-bit number by DataView',
      () => {
        let sum = 0
        for (let i = 0; i < burst.length; i++) sum = (sum + view.getUint32(addr[i]! + 26)) | 0
        sink ^= sum
      },
      PACKETS,
    ),
    measure(
      'EthernetView.etherType',
      () => {
        let sum = 0
        for (let i = 0; i < burst.length; i++) sum += ethernet.at(addr[i]!).etherType
        sink ^= sum
      },
      PACKETS,
    ),
    measure(
      'EthernetView.dst, a 48-bit number',
      () => {
        let sum = 0
        for (let i = 0; i < burst.length; i++)
          sum += ethernet.at(addr[i]!).dst === 0x02_00_00_00_00_01 ? 1 : 0
        sink ^= sum
      },
      PACKETS,
    ),
    measure(
      'EthernetView.swapMacs()',
      () => {
        for (let i = 0; i < burst.length; i++) ethernet.at(addr[i]!).swapMacs()
      },
      PACKETS,
    ),
    measure(
      'Ipv4View.swapAddresses()',
      () => {
        for (let i = 0; i < burst.length; i++) ip.at(addr[i]! + 14).swapAddresses()
      },
      PACKETS,
    ),
    measure(
      'Ipv4View: one hop less, checksum updated',
      () => {
        for (let i = 0; i < burst.length; i++) {
          const { ttl } = ip.at(addr[i]! + 14)
          const next = ttl > 1 ? ttl - 1 : 64
          ip.ttl = next
          ip.checksum = updateChecksum(ip.checksum, (ttl << 8) | 17, (next << 8) | 17)
        }
      },
      PACKETS,
    ),
    measure(
      'checksum() of a 20-byte header',
      () => {
        let sum = 0
        for (let i = 0; i < burst.length; i++) sum += checksum(bytes, addr[i]! + 14, 20)
        sink ^= sum
      },
      PACKETS,
    ),
  ]
  // What was read is used: the reads cannot be optimised away.
  if (sink === Number.POSITIVE_INFINITY) throw new Error('never')
  return results
}
