/** The demo's command line. */
import { parseArgs } from 'node:util'

/** What the command line says. */
export interface DemoOptions {
  readonly seconds: number
  readonly packets: number | undefined
  readonly size: number
  readonly pcap: string | undefined
  readonly out: string | undefined
}

/** What `vring demo --help` prints. */
export const USAGE = `vring demo [options]

Connects a net_vhost port and a net_virtio_user port over a vhost-user socket, sends packets from one end, swaps their
Ethernet addresses in a TypeScript script at the other, and counts what comes back. Needs no root and no hugepages.

  --seconds N    how long to send (default 5)
  --packets N    send so many packets instead
  --size N       bytes of a packet, 60 to 2048 (default 64)
  --pcap FILE    send the packets of this capture, once
  --out FILE     where to write what came back of a capture (default FILE.out.pcap)
  --help         this text
`

/** A command line that cannot be understood. */
export class DemoUsageError extends Error {}

function count(name: string, text: string, low: number, high: number): number {
  const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (value >= low && value <= high) return value
  throw new DemoUsageError(`--${name}: expected a number from ${low} to ${high}, got '${text}'`)
}

/** Reads the command line; `undefined` when help is asked for. Throws {@link DemoUsageError}. */
export function parseDemoOptions(argv: readonly string[]): DemoOptions | undefined {
  const text = { type: 'string' } as const
  const options = {
    seconds: text,
    packets: text,
    size: text,
    pcap: text,
    out: text,
    help: { type: 'boolean' },
  } as const
  let values
  try {
    ;({ values } = parseArgs({ args: [...argv], options }))
  } catch (error) {
    throw new DemoUsageError(error instanceof Error ? error.message : String(error))
  }
  if (values.help === true) return undefined
  const { seconds = '5', packets, size = '64', pcap } = values
  return {
    seconds: count('seconds', seconds, 0.1, 86_400),
    packets: packets === undefined ? undefined : Math.floor(count('packets', packets, 1, 1e12)),
    size: Math.floor(count('size', size, 60, 2048)),
    pcap,
    out: values.out ?? (pcap === undefined ? undefined : `${pcap}.out.pcap`),
  }
}
