/** show: how long packets are here, and how many bits pass. */
import type { Command, Scene } from './grammar.ts'

const PERCENTILES = [50, 90, 99, 99.9] as const

function showLatency({ session, output }: Scene): void {
  if (session.parts.options.latencyStats === undefined) {
    output.err('Latency is not measured: start with --latencystats=LCORE\n')
    return
  }
  const stats = session.latency(PERCENTILES)
  if (stats === undefined || stats.samples === 0) {
    output.out('No packet has been forwarded since latency is measured\n')
    return
  }
  const rows: readonly (readonly [string, number])[] = [
    ['min_latency_ns', stats.min],
    ['avg_latency_ns', stats.mean],
    ['max_latency_ns', stats.max],
    ['jitter_ns', stats.jitter],
    ...PERCENTILES.map((percent, i) => [`p${percent}_latency_ns`, stats.percentiles[i]!] as const),
    ['samples', stats.samples],
  ]
  output.out(rows.map(([name, value]) => `${name}: ${Math.round(value)}\n`).join(''))
}

function showBitrate({ session, output }: Scene): void {
  const { bitrate } = session
  if (bitrate === undefined) {
    output.err('Bits are not counted: start with --bitrate-stats=LCORE\n')
    return
  }
  for (const port of session.ports) {
    const { rx, tx } = bitrate.of(port)
    output.out(`###### Bitrate statistics for port ${String(port.id).padEnd(2)}\n`)
    for (const [name, pick] of [
      ['mean_bits', 'mean'],
      ['peak_bits', 'peak'],
      ['ewma_bits', 'ewma'],
    ] as const)
      output.out(`${name}_in: ${Math.round(rx[pick])}\n${name}_out: ${Math.round(tx[pick])}\n`)
  }
}

export const MEASURE_COMMANDS: readonly Command[] = [
  {
    pattern: 'show latencystats',
    section: 'display',
    help: 'How long packets are between their queues, in this run or the last: with --latencystats.',
    run: (scene) => showLatency(scene),
  },
  {
    pattern: 'show bitrate',
    section: 'display',
    help: 'Bits a second of every port: with --bitrate-stats.',
    run: (scene) => showBitrate(scene),
  },
]
