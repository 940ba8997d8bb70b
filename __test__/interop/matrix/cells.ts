// The cells of the matrix: every combination of what a virtqueue can be, at either end of the link.
import type { LinkOptions } from '../link.ts'

/** One combination. */
export interface Cell {
  readonly ring: 'split' | 'packed'
  readonly mergeable: boolean
  readonly inOrder: boolean
  readonly indirect: boolean
  readonly eventIdx: boolean
  readonly pairs: 1 | 4
  /** Which end is ours. */
  readonly ours: 'net_virtio_user' | 'net_vhost'
}

const both = [false, true] as const

/** All of them, 128. */
export const cells: readonly Cell[] = (['split', 'packed'] as const).flatMap((ring) =>
  both.flatMap((mergeable) =>
    both.flatMap((inOrder) =>
      both.flatMap((indirect) =>
        both.flatMap((eventIdx) =>
          ([1, 4] as const).flatMap((pairs) =>
            (['net_virtio_user', 'net_vhost'] as const).map((ours) => ({
              ring,
              mergeable,
              inOrder,
              indirect,
              eventIdx,
              pairs,
              ours,
            })),
          ),
        ),
      ),
    ),
  ),
)

/** Who is at the other end: DPDK, but for its driver, which has no EVENT_IDX. */
export const peerOf = ({ ours, eventIdx }: Cell): 'dpdk' | 'vring' =>
  ours === 'net_vhost' && eventIdx ? 'vring' : 'dpdk'

/** The features that must have been agreed on, and those that must not. */
export function expected(cell: Cell): { readonly has: readonly string[]; readonly lacks: readonly string[] } {
  const all = {
    RING_PACKED: cell.ring === 'packed',
    MRG_RXBUF: cell.mergeable,
    IN_ORDER: cell.inOrder,
    INDIRECT_DESC: cell.indirect,
    EVENT_IDX: cell.eventIdx,
    MQ: cell.pairs > 1,
  }
  const names = Object.entries(all)
  return {
    has: names.filter(([, on]) => on).map(([name]) => name),
    lacks: names.filter(([, on]) => !on).map(([name]) => name),
  }
}

/** A cell in words. */
export function describe(cell: Cell): string {
  const words = [
    cell.ring,
    cell.mergeable ? 'mergeable' : 'single buffers',
    cell.inOrder ? 'in order' : 'any order',
    cell.indirect ? 'indirect' : 'direct',
    cell.eventIdx ? 'event idx' : 'flags',
    `${cell.pairs} queue pair${cell.pairs > 1 ? 's' : ''}`,
  ]
  return `${words.join(', ')}: our ${cell.ours} and ${peerOf(cell)}`
}

/** How the link of a cell is made. What is left out, we leave out: DPDK takes and offers all that it has. */
export function linkOptions(cell: Cell): LinkOptions {
  const { mergeable, ours, pairs } = cell
  const flag = (on: boolean): number => Number(on)
  const switches = [
    `packed_vq=${flag(cell.ring === 'packed')}`,
    `mrg_rxbuf=${flag(mergeable)}`,
    `in_order=${flag(cell.inOrder)}`,
    `indirect=${flag(cell.indirect)}`,
    `event_idx=${flag(cell.eventIdx)}`,
  ]
  const theirs = ours === 'net_vhost' && cell.ring === 'packed' ? ',packed_vq=1' : ''
  // Without mergeable buffers a packet must fit one buffer, so they are large then.
  const large = { count: 4096, bufferSize: 10240 }
  return {
    ours,
    weListen: ours === 'net_vhost',
    pairs,
    program: peerOf(cell),
    ourArgs: `,${switches.join(',')}`,
    theirArgs: theirs,
    pool: mergeable ? {} : large,
    peer: { forward: 'io', ...(mergeable ? {} : { mbufSize: large.bufferSize, mbufs: large.count }) },
  }
}
