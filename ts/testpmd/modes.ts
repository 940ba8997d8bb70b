/** The forwarding modes. */
import type { EngineName } from '../index.ts'

/** The engines that run natively. */
export const ENGINES: readonly EngineName[] = [
  ...(['io', 'mac', 'macswap', 'flowgen', 'rxonly', 'txonly'] as const),
  ...(['csum', 'icmpecho', 'noisy', '5tswap', 'recycle_mbufs'] as const),
]

/** What forwards packets: an engine, or the script of `--script`. */
export type Mode = EngineName | 'script'

/** The modes that `set fwd` takes in a session. */
export const modesOf = (hasScript: boolean): readonly Mode[] => (hasScript ? [...ENGINES, 'script'] : ENGINES)

/** Whether the mode uses receive queues. */
export const receives = (mode: Mode): boolean => mode !== 'txonly'

/** Whether the mode uses transmit queues. */
export const transmits = (mode: Mode): boolean => mode !== 'rxonly'

/** Whether the mode makes packets: its lengths are worth telling. */
export const generates = (mode: Mode): boolean => mode === 'txonly' || mode === 'flowgen'

export const MAX_BURST = 512

/** Ethernet, IPv4 and UDP headers: the least that a txonly packet holds. */
export const MIN_TX_LENGTH = 42

/** The most segments a txonly packet has. */
export const MAX_SEGMENTS = 255

/**
 * Segment lengths as `--txpkts` and `set txpkts` write them: `64` or `100,60`. Returns the lengths, or the line that
 * testpmd prints about what is wrong. `room` is how many bytes a buffer holds.
 */
export function parseTxpkts(text: string, room: number): readonly number[] | string {
  const strange = /[^\d,]/.exec(text)
  if (strange !== null) return `character ${strange[0]} is not a decimal digit`
  const parts = text.split(',')
  if (parts.includes('')) return `segment lengths are decimal numbers with ',' between: '${text}' - give up`
  if (parts.length > MAX_SEGMENTS)
    return `nb segments per TX packets=${parts.length} > ${MAX_SEGMENTS} - give up`
  const lengths = parts.map(Number)
  const long = lengths.findIndex((length) => length > room)
  if (long >= 0) return `length[${long}]=${lengths[long]} > mbuf_data_size=${room} - give up`
  const total = lengths.reduce((sum, length) => sum + length, 0)
  if (total < MIN_TX_LENGTH) return `total packet length=${total} < ${MIN_TX_LENGTH} - give up`
  return lengths
}
