// `npm run interop`: runs the matrix and prints it. Words after it choose cells: `npm run interop -- packed in-order 4` (see --help).
import { missing } from '../../rig/available.ts'
import { type Cell, cells, peerOf } from './cells.ts'
import { runCell } from './run.ts'

const words: Readonly<Record<string, (cell: Cell) => boolean>> = {
  split: ({ ring }) => ring === 'split',
  packed: ({ ring }) => ring === 'packed',
  mergeable: ({ mergeable }) => mergeable,
  single: ({ mergeable }) => !mergeable,
  'in-order': ({ inOrder }) => inOrder,
  'any-order': ({ inOrder }) => !inOrder,
  indirect: ({ indirect }) => indirect,
  direct: ({ indirect }) => !indirect,
  'event-idx': ({ eventIdx }) => eventIdx,
  flags: ({ eventIdx }) => !eventIdx,
  1: ({ pairs }) => pairs === 1,
  4: ({ pairs }) => pairs === 4,
  driver: ({ ours }) => ours === 'net_virtio_user',
  device: ({ ours }) => ours === 'net_vhost',
}

const asked = process.argv.slice(2)
const unknown = asked.filter((word) => !Object.hasOwn(words, word))
if (unknown.length > 0) {
  const known = Object.keys(words).join(' ')
  const help = asked.includes('--help') || asked.includes('-h')
  console.error(
    `usage: npm run interop -- [word…]\nRuns the cells that all words hold for; without any, all ${cells.length}.\nwords: ${known}`,
  )
  process.exit(help ? 0 : 2)
}
const chosen = cells.filter((cell) => asked.every((word) => words[word]!(cell)))

const columns = [
  ['ring', (cell: Cell) => cell.ring],
  ['receive', (cell: Cell) => (cell.mergeable ? 'mergeable' : 'single')],
  ['order', (cell: Cell) => (cell.inOrder ? 'in-order' : 'any-order')],
  ['descriptors', (cell: Cell) => (cell.indirect ? 'indirect' : 'direct')],
  ['notify', (cell: Cell) => (cell.eventIdx ? 'event-idx' : 'flags')],
  ['pairs', (cell: Cell) => String(cell.pairs)],
  ['ours', (cell: Cell) => (cell.ours === 'net_vhost' ? 'device' : 'driver')],
  ['peer', peerOf],
] as const

const widths = columns.map(([name, of]) => Math.max(name.length, ...cells.map((cell) => of(cell).length)))
const line = (texts: readonly string[]): string =>
  texts.map((text, i) => text.padEnd(widths[i] ?? 0)).join('  ')
console.log(`${line(columns.map(([name]) => name))}      packets   Mpps  result`)

const noDpdk = missing('dpdk')
let [passed, failed, skipped] = [0, 0, 0]
for (const cell of chosen) {
  process.stdout.write(line(columns.map(([, of]) => of(cell))))
  if (peerOf(cell) === 'dpdk' && noDpdk !== undefined) {
    skipped += 1
    console.log(`  skipped: ${noDpdk}`)
    continue
  }
  try {
    const { packets, mpps } = await runCell(cell)
    passed += 1
    console.log(`  ${String(packets).padStart(11)} ${mpps.toFixed(1).padStart(6)}  ok`)
  } catch (error) {
    failed += 1
    console.log(`  FAILED: ${error instanceof Error ? error.message : String(error)}`)
  }
}
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
