/** Runs micro-benchmarks and prints nanoseconds. */
import Benchmark from 'benchmark'

/** One line of the table. */
export interface Result {
  readonly name: string
  readonly nanoseconds: number
  /** Nanoseconds of one packet, where there are some. */
  readonly perPacket: number | undefined
  /** Relative margin of error in percent. */
  readonly margin: number
}

const pad = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(1)).padStart(10)

/** The heading of the table that {@link measure} adds to. */
export function heading(title: string): void {
  console.log(`\n${title.padEnd(52)}${'ns'.padStart(10)}${'ns/packet'.padStart(10)}${'± %'.padStart(8)}`)
}

/** Measures one function, which handles `packets` packets at a call, and prints its line. */
export function measure(name: string, call: () => void, packets?: number): Result {
  // Half a second of samples is within a few percent on a quiet machine.
  const bench = new Benchmark(name, call, { maxTime: 0.5, minSamples: 20 })
  bench.run()
  const error = (bench as unknown as { readonly error?: Error }).error
  if (error !== undefined) throw error
  // The median: a sample during which the machine did something else says nothing.
  const sorted = bench.stats.sample.toSorted((a, b) => a - b)
  const nanoseconds = sorted[sorted.length >> 1]! * 1e9
  const perPacket = packets === undefined ? undefined : nanoseconds / packets
  const result = { name, nanoseconds, perPacket, margin: bench.stats.rme }
  console.log(
    `  ${name.padEnd(50)}${pad(nanoseconds)}${pad(perPacket)}${bench.stats.rme.toFixed(1).padStart(8)}`,
  )
  return result
}
