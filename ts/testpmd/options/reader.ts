/** What was given of testpmd's options, read one by one. */
import { type GivenOption, UsageError } from '../getopt.ts'

/** A number within bounds; `wrong` says what testpmd says otherwise. */
export function whole(
  text: string | undefined,
  low: number,
  high: number,
  wrong: (text: string) => string,
): number {
  const value = text !== undefined && /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN
  if (!(value >= low && value <= high)) throw new UsageError(wrong(text ?? ''))
  return value
}

/** See the file's first line. */
export class Reader {
  private readonly given: readonly GivenOption[]

  constructor(given: readonly GivenOption[]) {
    this.given = given
  }

  has(name: string): boolean {
    return this.given.some((option) => option.name === name)
  }

  /** The value that was given last. */
  last(name: string): string | undefined {
    return this.given.findLast((option) => option.name === name)?.value
  }

  /** All values, in the order given. */
  all(name: string): readonly string[] {
    return this.given.filter((option) => option.name === name).map((option) => option.value ?? '')
  }

  /** The last value of `name` as a number within the range; `wrong` says what testpmd says when it is not. */
  number<T>(
    name: string,
    low: number,
    high: number,
    otherwise: T,
    wrong: (text: string) => string,
  ): number | T {
    return this.has(name) ? whole(this.last(name), low, high, wrong) : otherwise
  }
}
