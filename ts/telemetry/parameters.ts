/** Parameters of commands. */

/** The whole number at the front of `text`, and what follows its comma; undefined when there is none. */
export function leadingNumber(text: string | undefined): readonly [number, string | undefined] | undefined {
  const [, digits, rest] = /^(\d+)(?:,(.*))?$/s.exec(text ?? '') ?? []
  return digits === undefined ? undefined : [Number(digits), rest]
}

/** `hide_zero=true` among the parameters. */
export const hides = (rest: string | undefined): boolean => /(?:^|,)hide_zero=true(?:,|$)/.test(rest ?? '')

/** A set of bits as DPDK writes it. */
export const hex = (bits: number): string => `0x${bits.toString(16)}`

/** A switch as DPDK writes it. */
export const onOff = (on: boolean): 'on' | 'off' => (on ? 'on' : 'off')
