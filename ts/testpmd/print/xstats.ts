/** What is printed of extended statistics. */

const left = (value: number, width: number): string => String(value).padEnd(width)
const right = (value: number, width: number): string => String(value).padStart(width)

/** `show port xstats N`. */
export function xstatsBlock(id: number, xstats: ReadonlyMap<string, number>, hideZero: boolean): string {
  const shown = [...xstats].filter(([, value]) => !hideZero || value !== 0)
  const rows = shown.map(([name, value]) => `${name}: ${value}\n`)
  return `###### NIC extended statistics for port ${left(id, 2)}\n${rows.join('')}`
}

/** One counter of `--display-xstats`, and how much it grows in a second. */
export interface ShownXstat {
  readonly name: string
  readonly value: number
  readonly rate: number
}

/** What stands in `show port stats` of the counters that `--display-xstats` chose; nothing where the port has none of them. */
export function chosenXstats(chosen: readonly ShownXstat[]): readonly string[] {
  if (chosen.length === 0) return []
  const head = `${' '.padEnd(31)}${'Value'.padEnd(17)}Rate (since last show)`
  return [
    '',
    head,
    ...chosen.map(({ name, value, rate }) => `  ${name.padEnd(25)}${right(value, 12)} ${right(rate, 15)}`),
  ]
}
