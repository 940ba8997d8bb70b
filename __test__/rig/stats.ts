// Reads what testpmd prints. dpdk-testpmd and `vring testpmd` print the same layout, so one reader serves both.

/** `show port stats N`. */
export interface ShownStats {
  readonly rxPackets: number
  readonly rxMissed: number
  readonly rxBytes: number
  readonly rxErrors: number
  readonly rxNombuf: number
  readonly txPackets: number
  readonly txErrors: number
  readonly txBytes: number
}

/** One block of what `stop` prints. */
export interface ForwardStats {
  readonly rxPackets: number
  readonly rxDropped: number
  readonly rxTotal: number
  readonly txPackets: number
  readonly txDropped: number
  readonly txTotal: number
}

export interface StopReport {
  readonly ports: ReadonlyMap<number, ForwardStats>
  readonly total: ForwardStats
}

function number(text: string, name: string): number {
  const found = new RegExp(`\\b${name}:\\s*(\\d+)`).exec(text)?.[1]
  if (found === undefined) throw new Error(`expected a line with "${name}: NUMBER", but came:\n${text}`)
  return Number(found)
}

/** Cuts `text` at each match of `heading` and gives the pieces, each with what its heading's first group matched. */
function blocks(text: string, heading: RegExp): [string, string][] {
  const matches = [...text.matchAll(heading)]
  return matches.map((match, i) => [
    match[1] ?? '',
    text.slice(match.index, matches[i + 1]?.index ?? text.length),
  ])
}

/** Every port's numbers of `show port stats N` or `show port stats all`. */
export function parsePortStats(text: string): ReadonlyMap<number, ShownStats> {
  return new Map(
    blocks(text, /NIC statistics for port (\d+)/g).map(([port, block]) => [
      Number(port),
      {
        rxPackets: number(block, 'RX-packets'),
        rxMissed: number(block, 'RX-missed'),
        rxBytes: number(block, 'RX-bytes'),
        rxErrors: number(block, 'RX-errors'),
        rxNombuf: number(block, 'RX-nombuf'),
        txPackets: number(block, 'TX-packets'),
        txErrors: number(block, 'TX-errors'),
        txBytes: number(block, 'TX-bytes'),
      },
    ]),
  )
}

function forwardStats(block: string): ForwardStats {
  return {
    rxPackets: number(block, 'RX-packets'),
    rxDropped: number(block, 'RX-dropped'),
    rxTotal: number(block, 'RX-total'),
    txPackets: number(block, 'TX-packets'),
    txDropped: number(block, 'TX-dropped'),
    txTotal: number(block, 'TX-total'),
  }
}

/** What `stop` (and the end of a non-interactive run) prints. */
export function parseStop(text: string): StopReport {
  const pieces = blocks(text, /(?:Forward statistics for port (\d+)|Accumulated forward statistics)/g)
  const total = pieces.find(([port]) => port === '')
  if (total === undefined) throw new Error(`expected accumulated forward statistics, but came:\n${text}`)
  const ports = pieces.filter(([port]) => port !== '')
  return {
    ports: new Map(ports.map(([port, block]) => [Number(port), forwardStats(block)])),
    total: forwardStats(total[1]),
  }
}

/** The `Name: value` lines of `show port info N`. */
export function parsePortInfo(text: string): ReadonlyMap<string, string> {
  return new Map(
    [...text.matchAll(/^([A-Z][^:\n]*):[ \t]*(.*)$/gm)].map((match) => [match[1]!, match[2]!.trim()]),
  )
}
