/** What `stop` and `show fwd stats all` print. */
import type { BurstCount } from '../../index.ts'
import type { Bursts, ForwardCount, ForwardReport, StreamCount } from '../counts.ts'
import { generates } from '../modes.ts'

const left = (value: number, width: number): string => String(value).padEnd(width)
const right = (value: number, width: number): string => String(value).padStart(width)

const received = ({ rxPackets, rxMissed }: ForwardCount): string =>
  `  RX-packets: ${left(rxPackets, 14)} RX-dropped: ${left(rxMissed, 14)}RX-total: ${rxPackets + rxMissed}`

const sent = ({ txPackets, txDropped }: ForwardCount): string =>
  `  TX-packets: ${left(txPackets, 14)} TX-dropped: ${left(txDropped, 14)}TX-total: ${txPackets + txDropped}`

const withoutBuffer = ({ rxNombuf }: ForwardCount): string => `  RX-nombufs: ${left(rxNombuf, 14)}`

/** How many bursts had which share of packets: those without any, the two most frequent sizes, and the rest. */
function spread(direction: 'RX' | 'TX', counts: readonly BurstCount[]): readonly string[] {
  const total = counts.reduce((sum, { bursts }) => sum + bursts, 0)
  if (total === 0) return []
  const empty = { packets: 0, bursts: counts.find(({ packets }) => packets === 0)?.bursts ?? 0 }
  const others = counts.filter(({ packets }) => packets > 0).toSorted((a, b) => b.bursts - a.bursts)
  let [seen, percents] = [0, 0]
  let text = `  ${direction}-bursts : ${total} [`
  for (const { packets, bursts } of [empty, ...others.slice(0, 2)]) {
    seen += bursts
    if (seen === total) return [`${text}${100 - percents}% of ${packets} pkts]`]
    const percent = Math.trunc((bursts / total) * 100)
    percents += percent
    text += `${percent}% of ${packets} pkts + `
  }
  return [`${text}${100 - percents}% of other]`]
}

const spreads = (bursts: Bursts | undefined): readonly string[] =>
  bursts === undefined ? [] : [...spread('RX', bursts.rx), ...spread('TX', bursts.tx)]

function portLines(count: ForwardCount, checksums: boolean): string[] {
  const errors = count.rxErrors + count.rxNombuf > 0
  const bad = [
    `  Bad-ipcsum: ${left(count.badIp, 14)} Bad-l4csum: ${left(count.badL4, 14)}Bad-outer-l4csum: ${left(0, 14)}`,
    `  Bad-outer-ipcsum: ${left(0, 14)}`,
  ]
  return [
    received(count),
    ...(checksums ? bad : []),
    ...(errors ? [`  RX-error: ${count.rxErrors}`, withoutBuffer(count)] : []),
    sent(count),
  ]
}

function totalLines(count: ForwardCount): string[] {
  return [received(count), sent(count), ...(count.rxNombuf > 0 ? [withoutBuffer(count)] : [])]
}

function streamBlock(count: StreamCount, checksums: boolean): string[] {
  const { plan, rx, tx, dropped, badIp, badL4 } = count
  const from = `RX Port=${right(plan.rxPort, 2)}/Queue=${right(plan.rxQueue, 2)}`
  const to = `TX Port=${right(plan.txPort, 2)}/Queue=${right(plan.txQueue, 2)}`
  const bad = `  RX- bad IP checksum: ${left(badIp, 14)}  Rx- bad L4 checksum: ${left(badL4, 14)}`
  const outer = ` Rx- bad outer L4 checksum: ${left(0, 14)}`
  const counts = `  RX-packets: ${left(rx, 14)} TX-packets: ${left(tx, 14)} TX-dropped: ${left(dropped, 14)}`
  return [
    '',
    `  ------- Forward Stats for ${from} -> ${to} -------`,
    ...(checksums ? [`${counts}${bad}${outer}`, ` RX- bad outer IP checksum: ${left(0, 14)}`] : [counts]),
    ...spreads(count.bursts),
  ]
}

function total(counts: readonly ForwardCount[]): ForwardCount {
  const sum = (name: keyof ForwardCount): number => counts.reduce((all, count) => all + count[name], 0)
  return {
    rxPackets: sum('rxPackets'),
    rxMissed: sum('rxMissed'),
    rxErrors: sum('rxErrors'),
    rxNombuf: sum('rxNombuf'),
    txPackets: sum('txPackets'),
    txDropped: sum('txDropped'),
    badIp: sum('badIp'),
    badL4: sum('badL4'),
  }
}

function cyclesLines({ mode, streams, cycles }: ForwardReport, all: ForwardCount): readonly string[] {
  const packets = mode !== 'script' && generates(mode) ? all.txPackets : all.rxPackets
  if (cycles === undefined || (all.rxPackets === 0 && all.txPackets === 0)) return []
  const used = streams.reduce((sum, stream) => sum + stream.cycles, 0)
  const each = (used / packets).toFixed(2)
  const clock = Math.trunc(cycles.perSecond / 1e6)
  const totals = `(total cycles=${used} / total ${mode} packets=${packets})`
  return ['', `  CPU cycles/packet=${each} ${totals} at ${clock} MHz Clock`]
}

/**
 * The statistics of a forwarding run: streams that moved something (only when there are more streams than ports), each
 * port by its id, and the sum.
 */
export function forwardStats(report: ForwardReport): string {
  const { mode, streams, ports } = report
  const checksums = mode === 'csum'
  const lines: string[] = []
  const byStream = streams.length > ports.size
  if (byStream) {
    for (const stream of streams)
      if (stream.rx + stream.tx + stream.dropped > 0) lines.push(...streamBlock(stream, checksums))
  }
  const dashes = '-'.repeat(22)
  for (const [id, count] of ports) {
    lines.push('', `  ${dashes} Forward statistics for port ${left(id, 2)} ${dashes}`)
    lines.push(...portLines(count, checksums))
    if (!byStream) {
      const rx = streams.find(({ plan }) => plan.rxPort === id)?.bursts?.rx
      const tx = streams.find(({ plan }) => plan.txPort === id)?.bursts?.tx
      lines.push(...spreads(rx === undefined || tx === undefined ? undefined : { rx, tx }))
    }
    lines.push(`  ${'-'.repeat(76)}`)
  }
  const pluses = '+'.repeat(15)
  const all = total([...ports.values()])
  lines.push('', `  ${pluses} Accumulated forward statistics for all ports${pluses}`)
  lines.push(...totalLines(all), `  ${'+'.repeat(76)}`, ...cyclesLines(report, all), '')
  return lines.join('\n')
}
