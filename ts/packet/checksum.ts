/** The Internet checksum (RFC 1071), over bytes of a mempool. Allocates nothing. */

/** Adds the carries of a sum of 16-bit words back in, until it is a 16-bit number. */
export function foldSum(sum: number): number {
  let folded = sum
  // A sum may be above 32 bits: no bit operators before it is small.
  while (folded > 0xffff) folded = (folded % 0x1_0000) + Math.floor(folded / 0x1_0000)
  return folded
}

/**
 * The ones' complement sum of `length` bytes from `addr`, as a 16-bit number, begun with `start`. An odd last byte counts as if a zero
 * followed.
 */
export function onesSum(bytes: Uint8Array, addr: number, length: number, start = 0): number {
  let sum = start
  const end = addr + length - 1
  let at = addr
  for (; at < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!
  if (at === end) sum += bytes[at]! << 8
  return foldSum(sum)
}

/**
 * The checksum of `length` bytes from `addr`, as a 16-bit number: what is to be written into a header whose checksum field was 0. `start`
 * is the sum of a pseudo header, if the protocol has one.
 */
export function checksum(bytes: Uint8Array, addr: number, length: number, start = 0): number {
  return ~onesSum(bytes, addr, length, start) & 0xffff
}

/**
 * The sum of the IPv4 pseudo header that UDP and TCP include (RFC 768, RFC 9293): two 32-bit addresses, the protocol's number, and the
 * bytes of header and payload.
 */
export function pseudoHeader4(src: number, dst: number, protocol: number, length: number): number {
  return foldSum((src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff) + protocol + length)
}

/** The same for IPv6 (RFC 8200, section 8.1): the two addresses are the 32 bytes from `addr`. */
export function pseudoHeader6(bytes: Uint8Array, addr: number, nextHeader: number, length: number): number {
  return onesSum(bytes, addr, 32, (length >>> 16) + (length & 0xffff) + nextHeader)
}

/**
 * The checksum `old` after one 16-bit word of what it covers changed from `from` to `to` (RFC 1624): cheaper than adding everything up
 * again.
 */
export function updateChecksum(old: number, from: number, to: number): number {
  return ~foldSum((~old & 0xffff) + (~from & 0xffff) + to) & 0xffff
}
