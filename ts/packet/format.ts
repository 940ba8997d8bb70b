/** Addresses as text. For people: these make strings. */
import { VringError } from '../errors.ts'

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0')

/** A 48-bit number as an Ethernet address: `02:00:00:00:00:01`. */
export function formatMac(mac: number): string {
  return hex(mac, 12).match(/../g)!.join(':')
}

/** An Ethernet address as a 48-bit number. Throws `ERR_VRING_INVALID_ARGUMENT`. */
export function parseMac(text: string): number {
  if (/^[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){5}$/i.test(text)) {
    return text.split(/[:-]/).reduce((value, part) => value * 256 + Number.parseInt(part, 16), 0)
  }
  throw new VringError(
    'ERR_VRING_INVALID_ARGUMENT',
    `expected an Ethernet address like 02:00:00:00:00:01, got '${text}'`,
  )
}

/** An Ethernet address as its six bytes. Throws `ERR_VRING_INVALID_ARGUMENT`. */
export function macBytes(text: string): number[] {
  const mac = parseMac(text)
  return [5, 4, 3, 2, 1, 0].map((i) => Math.floor(mac / 2 ** (8 * i)) & 255)
}

/** A 32-bit number as an IPv4 address: `198.18.0.1`. */
export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
}

/** An IPv4 address as a 32-bit number. Throws `ERR_VRING_INVALID_ARGUMENT`. */
export function parseIpv4(text: string): number {
  const parts = text.split('.')
  if (parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) {
    return parts.reduce((value, part) => value * 256 + Number(part), 0)
  }
  throw new VringError(
    'ERR_VRING_INVALID_ARGUMENT',
    `expected an IPv4 address like 198.18.0.1, got '${text}'`,
  )
}

/** The eight 16-bit groups of an IPv6 address as text in RFC 5952's form: `2001:db8::1`. */
export function formatIpv6(groups: ArrayLike<number>): string {
  const words = Array.from({ length: 8 }, (_, i) => groups[i] ?? 0)
  const [from, length] = longestZeros(words)
  const text = (part: readonly number[]): string => part.map((word) => word.toString(16)).join(':')
  return length < 2 ? text(words) : `${text(words.slice(0, from))}::${text(words.slice(from + length))}`
}

/** Where the longest run of zeros begins, and how long it is. */
function longestZeros(words: readonly number[]): readonly [number, number] {
  let best: readonly [number, number] = [0, 0]
  for (let from = 0; from < words.length; from++) {
    let length = 0
    while (words[from + length] === 0) length++
    if (length > best[1]) best = [from, length]
  }
  return best
}
