// Promise: every combination of {split, packed} × {mergeable, not} × {in order, not} × {indirect, direct} × {event idx, flags} × {1, 4 queue
// pairs}, with our driver and with our device, works against a peer that we did not write: packets of 60 to 9000 bytes come back as they
// were, every 16-bit index comes round twice, and every packet is counted. `npm run interop` prints the same as a table.
import test from 'ava'
import { needs } from '../rig/index.ts'
import { cells, describe, peerOf } from './matrix/cells.ts'
import { runCell } from './matrix/run.ts'

for (const cell of cells) {
  const needed = peerOf(cell) === 'dpdk' ? (['dpdk'] as const) : []
  needs(test, ...needed)(describe(cell), async (t) => {
    const { packets } = await runCell(cell)
    t.true(packets > cell.pairs * 2 * 65_536)
  })
}
