/**
 * What `vring dumpcap` and a program with ports say to each other, over a Unix socket: one line of JSON from the client, one from the
 * server, then the bytes of the capture until it ends. The client ends a capture by ending its half of the connection.
 */

/** The socket's name in the program's run-time folder. */
export const SOCKET = 'vring_dumpcap'
/** Longest line. */
export const LONGEST_LINE = 65_536

/** Asks for a capture. */
export interface CaptureRequest {
  readonly ask: 'capture'
  /** Ports, by name or number. */
  readonly interfaces: readonly string[]
  /** Queues of each port; all without. */
  readonly queues?: readonly number[]
  readonly direction: 'in' | 'out' | 'both'
  readonly snaplen?: number
  readonly filter?: string
  readonly format: 'pcapng' | 'pcap'
  readonly limit?: number
  readonly buffer?: number
}

/** Everything that a client can ask. */
export type Request =
  | { readonly ask: 'list' }
  | { readonly ask: 'stats'; readonly id: number }
  | CaptureRequest

/** What became of the packets of a port. */
export interface InterfaceStats {
  readonly name: string
  readonly captured: number
  readonly filtered: number
  readonly dropped: number
}

/** What the server answers. */
export type Answer =
  | { readonly interfaces: readonly { readonly id: number; readonly name: string }[] }
  | { readonly stats: readonly InterfaceStats[] }
  | { readonly id: number }
  | { readonly error: { readonly code: string; readonly message: string } }

/** A line of JSON as its object; `undefined` when it is none. */
export function parseLine(line: string): unknown {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}
