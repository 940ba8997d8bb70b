/** What the comparisons have in common: medians, result files, tables in README.md. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus as processors } from 'node:os'

/** The middle one, or the mean of the middle two. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** What this machine is. */
export function machine(): string {
  const [processor] = processors()
  return `${processor?.model.trim() ?? 'unknown processor'}, ${processors().length} cores, Linux, Node ${process.version}`
}

/** Writes `bench-results/NAME.json`. */
export function write(name: string, result: Readonly<Record<string, unknown>>): void {
  mkdirSync('bench-results', { recursive: true })
  const file = `bench-results/${name}.json`
  const all = { machine: machine(), date: new Date().toISOString(), ...result }
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`)
  console.log(`\nWritten to ${file}`)
}

/** The README's tables stand between comments, so that nobody copies figures by hand. */
export function intoReadme(name: string, table: string): void {
  const text = readFileSync('README.md', 'utf8')
  const [begin, end] = [`<!-- bench ${name} -->`, `<!-- end of bench ${name} -->`]
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`README.md has no ${begin} … ${end}`)
  writeFileSync('README.md', `${text.slice(0, from + begin.length)}\n\n${table}\n\n${text.slice(to)}`)
}
