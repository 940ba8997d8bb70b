/** How a line at the prompt becomes a command: words, choices, numbers. */
import type { Output } from '../output.ts'
import type { Session } from '../session.ts'

/** What a command works on. */
export interface Scene {
  readonly session: Session
  readonly output: Output
  /** Set by `quit`. */
  quit(): void
}

/** The words and numbers that stood for the places of a pattern, in order. */
export type Values = readonly (string | number)[]

/** One command. */
export interface Command {
  /**
   * Words with spaces between. `a|b` is one of several, `<name:16>` a number of 16 bits (or 32), `<name>` any word;
   * these three are given to `run`.
   */
  readonly pattern: string
  /** One line for `help`. */
  readonly help: string
  /** The section of `help` it stands in. */
  readonly section: 'control' | 'display' | 'config'
  run(scene: Scene, values: Values): void | Promise<void>
}

/** A number as testpmd reads it: decimal, 0x hexadecimal, 0b binary, 0 octal. Undefined when it does not fit in `bits`. */
export function readNumber(text: string, bits: number): number | undefined {
  let value = Number.NaN
  if (/^0x[0-9a-f]+$/i.test(text) || /^0b[01]+$/i.test(text)) value = Number(text)
  else if (/^0[0-7]+$/.test(text)) value = Number.parseInt(text, 8)
  else if (/^(0|[1-9]\d*)$/.test(text)) value = Number(text)
  return value < 2 ** bits ? value : undefined
}

function matchPlace(place: string, word: string): string | number | true | undefined {
  const named = /^<\w+(?::(\d+))?>$/.exec(place)
  if (named !== null) return named[1] === undefined ? word : readNumber(word, Number(named[1]))
  const choices = place.split('|')
  if (!choices.includes(word)) return undefined
  return choices.length === 1 ? true : word
}

/** The values of `words` under `pattern`, or undefined when they do not match. */
export function match(pattern: string, words: readonly string[]): Values | undefined {
  const places = pattern.split(' ')
  if (places.length !== words.length) return undefined
  const values: (string | number)[] = []
  for (const [i, place] of places.entries()) {
    const value = matchPlace(place, words[i]!)
    if (value === undefined) return undefined
    if (value !== true) values.push(value)
  }
  return values
}

/** The words of a line; `#` begins a comment. */
export function wordsOf(line: string): readonly string[] {
  const text = line.replace(/#.*$/s, '').trim()
  return text === '' ? [] : text.split(/\s+/)
}

/** What a line means. */
export type Meaning =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'bad' }
  | { readonly kind: 'command'; readonly command: Command; readonly values: Values }

/** Finds the command that `line` is. */
export function understand(commands: readonly Command[], line: string): Meaning {
  const words = wordsOf(line)
  if (words.length === 0) return { kind: 'nothing' }
  for (const command of commands) {
    const values = match(command.pattern, words)
    if (values !== undefined) return { kind: 'command', command, values }
  }
  const begun = commands.some(
    (command) => matchPlace(command.pattern.split(' ')[0]!, words[0]!) !== undefined,
  )
  return { kind: begun ? 'bad' : 'unknown' }
}

/** What can stand at the end of `line`: the words that complete what is typed. `ports` fill in for a port's number. */
export function complete(
  commands: readonly Command[],
  line: string,
  ports: readonly number[],
): readonly string[] {
  const words = line.trimStart().split(/\s+/)
  const typed = words.pop() ?? ''
  const found = new Set<string>()
  for (const { pattern } of commands) {
    const places = pattern.split(' ')
    const place = places[words.length]
    if (place === undefined || !words.every((word, i) => matchPlace(places[i]!, word) !== undefined)) continue
    const candidates = place.startsWith('<port')
      ? ports.map(String)
      : place.startsWith('<')
        ? []
        : place.split('|')
    for (const candidate of candidates) if (candidate.startsWith(typed)) found.add(candidate)
  }
  return [...found]
}
