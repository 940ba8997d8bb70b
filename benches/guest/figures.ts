/** What is measured on vhost in the kernel: told by the program in the guest to the one outside. */

export type Program = 'dpdk' | 'vring'

/** What a port does, and whether the kernel sends. */
export const SCENARIOS = {
  txonly: { forward: 'txonly', pktgen: false },
  rxonly: { forward: 'rxonly', pktgen: true },
  io: { forward: 'io', pktgen: true },
} as const
export type ScenarioName = keyof typeof SCENARIOS

/** What was measured of one program. */
export interface Figures {
  /** Packets a second. */
  readonly rate: number
  /** Kicks for each packet, counted by the kernel; calls likewise. */
  readonly kicks: number
  readonly calls: number
}

export interface Round {
  readonly figures: Readonly<Record<ScenarioName, Readonly<Record<Program, Figures>>>>
  /** Processor time of a port of ours that sleeps and gets nothing, as a part of one processor. */
  readonly idle: { readonly process: number; readonly worker: number }
}
