/** What the generator's options say, as numbers. */
import { InvalidArgumentError } from 'commander'
import type { TrafficSize } from '../traffic.ts'

/** How fast: as fast as it goes, packets a second, bits a second on the wire, or a part of the link's speed. */
export type Rate =
  | { readonly max: true }
  | { readonly pps: number }
  | { readonly bps: number }
  | { readonly percent: number }

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9 }

/** Bytes with check sequence 64, 594 and 1518, seven, four and one of them: the simple Internet mix. */
const IMIX: readonly TrafficSize[] = [
  { bytes: 60, weight: 7 },
  { bytes: 590, weight: 4 },
  { bytes: 1514, weight: 1 },
]

/** `1.5Mpps`, `10Gbps`, `40%`, `max`; a number alone is packets a second. */
export function parseRate(text: string): Rate {
  if (text.toLowerCase() === 'max') return { max: true }
  const match = /^(\d+(?:\.\d+)?)\s*(?:(%)|([kmg]?)(pps|bps|bit\/s)?)$/i.exec(text)
  const value = Number(match?.[1])
  if (!(value > 0)) {
    throw new InvalidArgumentError(
      'expected packets a second (1.5Mpps), bits a second on the wire (10Gbps), a part of the link (40%), or max.',
    )
  }
  if (match?.[2] !== undefined) return { percent: value }
  const scaled = value * UNITS[(match?.[3] ?? '').toLowerCase()]!
  return /^b/i.test(match?.[4] ?? '') ? { bps: scaled } : { pps: scaled }
}

/** `64`, `60,1514`, `60:7,590:4,1514:1` or `imix`: bytes without check sequence, and weights. */
export function parseSizes(text: string): readonly TrafficSize[] {
  if (text.toLowerCase() === 'imix') return IMIX
  return text.split(',').map((part) => {
    const match = /^(\d{1,5})(?::(\d{1,4}))?$/.exec(part)
    const [bytes, weight] = [Number(match?.[1]), Number(match?.[2] ?? 1)]
    if (!(bytes >= 60 && bytes <= 9746) || weight === 0) {
      throw new InvalidArgumentError(
        `expected bytes from 60 to 9746, with a weight if you like (60:7,590:4,1514:1), or imix; got '${part}'.`,
      )
    }
    return { bytes, weight }
  })
}

/** Ports by number: `0,2`. */
export function parsePorts(text: string): readonly number[] {
  const ports = text.split(',').map(Number)
  if (/^\d+(,\d+)*$/.test(text)) return [...new Set(ports)]
  throw new InvalidArgumentError('expected numbers of ports, like 0 or 0,1.')
}

/** A number within a range, `whole` or not. */
export function number(low: number, high: number, whole = true): (text: string) => number {
  return (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
    if (value >= low && value <= high && (!whole || Number.isInteger(value))) return value
    throw new InvalidArgumentError(`expected a ${whole ? 'whole ' : ''}number from ${low} to ${high}.`)
  }
}

/** One of some words. */
export function oneOf<T extends string>(...words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((one) => one === text)
    if (word !== undefined) return word
    throw new InvalidArgumentError(`expected one of ${words.join(', ')}.`)
  }
}
