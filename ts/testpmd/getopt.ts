/** How getopt_long reads a command line: `--name=value`, `--name value`, unambiguous abbreviations, `-xvalue`, `-x value`. */

/** One option a parser knows. */
export interface OptionSpec {
  /** The long name without dashes, or the single letter of an option that has only a short form. */
  readonly name: string
  /** The short letter, where there is one. */
  readonly short?: string
  /** Whether a value belongs to it. */
  readonly value: 'none' | 'required' | 'optional'
}

/** One option as it was given. `name` is always the full name. */
export interface GivenOption {
  readonly name: string
  readonly value: string | undefined
}

/** A command line that cannot be understood; the message is what the user reads. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Levenshtein distance: how many letters to insert, remove or change to get from `a` to `b`. */
export function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}

/** The word of `known` that is closest to `word`; undefined when there is none at all. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let least = Infinity
  for (const candidate of known) {
    const d = distance(word, candidate)
    if (d < least) [best, least] = [candidate, d]
  }
  return best
}

const longNames = (specs: readonly OptionSpec[]): string[] =>
  specs.filter((spec) => spec.name.length > 1).map((spec) => spec.name)

function findLong(specs: readonly OptionSpec[], name: string): OptionSpec {
  const long = specs.filter((spec) => spec.name.length > 1)
  const exact = long.find((spec) => spec.name === name)
  if (exact !== undefined) return exact
  const starting = name === '' ? [] : long.filter((spec) => spec.name.startsWith(name))
  if (starting.length === 1) return starting[0]!
  if (starting.length > 1) {
    const possible = starting.map((spec) => `'--${spec.name}'`).join(' ')
    throw new UsageError(`option '--${name}' is ambiguous; possibilities: ${possible}`)
  }
  const near = nearest(name, longNames(specs))
  const hint = near === undefined ? '' : `; the nearest known option is '--${near}'`
  throw new UsageError(`unrecognized option '--${name}'${hint}`)
}

function readLong(specs: readonly OptionSpec[], argv: readonly string[], at: number): [GivenOption, number] {
  const text = argv[at]!.slice(2)
  const equals = text.indexOf('=')
  const typed = equals < 0 ? text : text.slice(0, equals)
  const attached = equals < 0 ? undefined : text.slice(equals + 1)
  const { name, value } = findLong(specs, typed)
  if (value === 'none' && attached !== undefined) {
    throw new UsageError(`option '--${name}' doesn't allow an argument, but '${attached}' was given`)
  }
  if (value !== 'required' || attached !== undefined) return [{ name, value: attached }, at + 1]
  if (at + 1 >= argv.length) throw new UsageError(`option '--${name}' requires an argument`)
  return [{ name, value: argv[at + 1]! }, at + 2]
}

function readShort(
  specs: readonly OptionSpec[],
  argv: readonly string[],
  at: number,
): [GivenOption[], number] {
  const given: GivenOption[] = []
  const letters = argv[at]!.slice(1)
  for (let i = 0; i < letters.length; i++) {
    const letter = letters[i]!
    const spec = specs.find((one) => one.short === letter || one.name === letter)
    if (spec === undefined) {
      const known = specs.map((one) => one.short ?? one.name).filter((one) => one.length === 1)
      throw new UsageError(`invalid option -- '${letter}'; the short options here are -${known.join(' -')}`)
    }
    if (spec.value === 'none') {
      given.push({ name: spec.name, value: undefined })
      continue
    }
    const rest = letters.slice(i + 1)
    if (rest !== '' || spec.value === 'optional') {
      given.push({ name: spec.name, value: rest === '' ? undefined : rest })
      return [given, at + 1]
    }
    if (at + 1 >= argv.length) throw new UsageError(`option requires an argument -- '${letter}'`)
    given.push({ name: spec.name, value: argv[at + 1]! })
    return [given, at + 2]
  }
  return [given, at + 1]
}

/**
 * Reads `argv` against `specs`, in order. Throws {@link UsageError} for an unknown, ambiguous or incomplete option and
 * for a word that is no option: neither half of testpmd's command line takes one.
 */
export function getopt(specs: readonly OptionSpec[], argv: readonly string[]): readonly GivenOption[] {
  const given: GivenOption[] = []
  let at = 0
  while (at < argv.length) {
    const word = argv[at]!
    if (word.startsWith('--') && word.length > 2) {
      const [option, next] = readLong(specs, argv, at)
      given.push(option)
      at = next
    } else if (word.startsWith('-') && word.length > 1) {
      const [options, next] = readShort(specs, argv, at)
      given.push(...options)
      at = next
    } else {
      throw new UsageError(`unexpected argument '${word}': only options can stand here`)
    }
  }
  return given
}
