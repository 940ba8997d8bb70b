/** Core lists in EAL's three ways of writing them: `-c MASK`, `-l LIST`, `--lcores MAP`. */
import { UsageError } from './getopt.ts'

/** A logical core: one forwarding thread, or the prompt. */
export interface LcoreConfig {
  readonly id: number
  /** The CPUs it may run on. One CPU: the thread is pinned to it. */
  readonly cpus: readonly number[]
}

const MAX_LCORE = 127

function parseId(text: string, option: string): number {
  if (!/^\d+$/.test(text))
    throw new UsageError(`EAL: invalid core list syntax in ${option}: '${text}' is no number`)
  const id = Number(text)
  if (id > MAX_LCORE) throw new UsageError(`EAL: ${option}: ${id} is not between 0 and ${MAX_LCORE}`)
  return id
}

/** `0,2-4` without parentheses, in the order written, each once. */
function parseRanges(text: string, option: string): number[] {
  const ids = new Set<number>()
  for (const part of text.split(',')) {
    const [from = '', to] = part.trim().split('-', 2)
    const first = parseId(from, option)
    const last = to === undefined ? first : parseId(to, option)
    const [low, high] = first <= last ? [first, last] : [last, first]
    for (let id = low; id <= high; id++) ids.add(id)
  }
  return [...ids]
}

/** A set of `--lcores`: `3`, `2-4` or `(0,2-4)`. */
function parseSet(text: string): number[] {
  const inner = text.startsWith('(') && text.endsWith(')') ? text.slice(1, -1) : text
  if (/[()]/.test(inner)) throw new UsageError(`EAL: invalid core list syntax in --lcores: '${text}'`)
  return parseRanges(inner, '--lcores')
}

/** Cuts at the commas that are not within parentheses. */
function splitTop(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let from = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++
    else if (text[i] === ')') depth--
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(from, i))
      from = i + 1
    }
    if (depth < 0 || depth > 1) break
  }
  if (depth !== 0)
    throw new UsageError(`EAL: invalid core list syntax in --lcores: unbalanced '(' in '${text}'`)
  parts.push(text.slice(from))
  return parts
}

function mapPart(part: string): LcoreConfig[] {
  const [left = '', right, extra] = part.trim().split('@')
  if (extra !== undefined)
    throw new UsageError(`EAL: invalid core list syntax in --lcores: two '@' in '${part}'`)
  const ids = parseSet(left)
  // A group in parentheses shares the CPUs of all of it; a bare range is one lcore a CPU.
  if (right === undefined) return ids.map((id) => ({ id, cpus: left.startsWith('(') ? ids : [id] }))
  const cpus = parseSet(right)
  return ids.map((id) => ({ id, cpus }))
}

function checked(lcores: readonly LcoreConfig[], cpus: readonly number[]): readonly LcoreConfig[] {
  const have = new Set(cpus)
  const seen = new Set<number>()
  for (const { id, cpus: wanted } of lcores) {
    if (seen.has(id)) throw new UsageError(`EAL: lcore ${id} is given twice`)
    seen.add(id)
    const missing = wanted.find((cpu) => !have.has(cpu))
    if (missing !== undefined) {
      const valid = cpus.join(',')
      throw new UsageError(`EAL: lcore ${id} unavailable: there is no CPU ${missing}, use some of ${valid}`)
    }
  }
  return lcores.toSorted((a, b) => a.id - b.id)
}

/** `-l 0,2-3`: lcore N runs on CPU N. `cpus` are the CPUs of this machine. */
export function parseCoreList(text: string, cpus: readonly number[]): readonly LcoreConfig[] {
  return checked(
    parseRanges(text, '-l').map((id) => ({ id, cpus: [id] })),
    cpus,
  )
}

/** `-c 0x3`: bit N is lcore N on CPU N. */
export function parseCoreMask(text: string, cpus: readonly number[]): readonly LcoreConfig[] {
  const digits = text.replace(/^0x/i, '')
  if (!/^[0-9a-f]{1,32}$/i.test(digits))
    throw new UsageError(`EAL: invalid coremask syntax: '${text}' is not hexadecimal`)
  const mask = BigInt(`0x${digits}`)
  const lcores: LcoreConfig[] = []
  for (let id = 0; id <= MAX_LCORE; id++) if ((mask >> BigInt(id)) & 1n) lcores.push({ id, cpus: [id] })
  if (lcores.length === 0) throw new UsageError(`EAL: invalid coremask: no bit is set in '${text}'`)
  return checked(lcores, cpus)
}

/** `--lcores '0,1@3,(2-4)@(0,1)'`: lcore ids and the CPUs each may run on. */
export function parseLcores(text: string, cpus: readonly number[]): readonly LcoreConfig[] {
  return checked(splitTop(text).flatMap(mapPart), cpus)
}
