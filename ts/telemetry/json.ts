/** What telemetry answers with. */

/** A value of an answer. */
export type TelemetryValue =
  | null
  | string
  | number
  | readonly TelemetryValue[]
  | { readonly [name: string]: TelemetryValue }

const encode = (command: string, value: TelemetryValue): string => JSON.stringify({ [command]: value })
const bytes = (text: string): number => Buffer.byteLength(text)

function firstOf(value: TelemetryValue, count: number): TelemetryValue {
  if (Array.isArray(value)) return value.slice(0, count)
  return Object.fromEntries(Object.entries(value as object).slice(0, count)) as TelemetryValue
}

/** The answer to `command` in at most `limit` bytes: of a list or table that does not fit, as much from its front as does, as in DPDK. */
export function answer(command: string, value: TelemetryValue, limit: number): string {
  const whole = encode(command, value)
  if (bytes(whole) <= limit || typeof value !== 'object' || value === null) return whole
  let [fits, not] = [0, Object.keys(value).length]
  while (not - fits > 1) {
    const middle = (fits + not) >> 1
    if (bytes(encode(command, firstOf(value, middle))) <= limit) fits = middle
    else not = middle
  }
  return encode(command, firstOf(value, fits))
}
