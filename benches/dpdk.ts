/**
 * Side by side with `dpdk-testpmd`: `npm run bench -- dpdk`.
 *
 * Each round runs every scenario once with two `dpdk-testpmd` and once with two `vring testpmd`, one after the other, so that both meet the
 * same machine; what counts is the median over the rounds of the ratio within a round. Each side has one forwarding core, pinned. The rate is
 * what the receiving side's `show port stats` says between two looks.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus as processors } from 'node:os'
import { parseArgs } from 'node:util'
import { pathToFileURL } from 'node:url'
import { allowedCpus, missing, scratch, Testpmd, type TestpmdOptions } from '../__test__/rig/index.ts'

type Side = Pick<TestpmdOptions, 'forward'>

interface Scenario {
  readonly name: string
  /** Packets of this scenario per second: at which side they are counted. */
  readonly counted: 'vhost' | 'user'
  readonly vhost: Side
  readonly user: Side
  readonly txFirst?: number
  /** What the vhost side of vring runs in the place of its engine. */
  readonly script?: string
  /** The least ratio that the project promises. */
  readonly goal: number
}

const scenarios: readonly Scenario[] = [
  {
    name: 'virtio txonly → vhost rxonly',
    counted: 'vhost',
    vhost: { forward: 'rxonly' },
    user: { forward: 'txonly' },
    goal: 0.9,
  },
  {
    name: 'vhost txonly → virtio rxonly',
    counted: 'user',
    vhost: { forward: 'txonly' },
    user: { forward: 'rxonly' },
    goal: 0.9,
  },
  {
    name: 'io ⇄ io',
    counted: 'vhost',
    vhost: { forward: 'io' },
    user: { forward: 'io' },
    txFirst: 8,
    goal: 0.9,
  },
  {
    name: 'macswap ⇄ io',
    counted: 'vhost',
    vhost: { forward: 'macswap' },
    user: { forward: 'io' },
    txFirst: 8,
    goal: 0.9,
  },
  {
    name: 'macswap in TypeScript ⇄ io (DPDK: macswap in C)',
    counted: 'vhost',
    vhost: { forward: 'macswap' },
    user: { forward: 'io' },
    txFirst: 8,
    script: new URL('../examples/macswap.ts', import.meta.url).pathname,
    goal: 0.7,
  },
]

interface Row {
  readonly scenario: string
  readonly goal: number
  /** Packets a second, by round. */
  readonly dpdk: readonly number[]
  readonly vring: readonly number[]
  /** Medians; the ratio is the median of the ratios within a round. */
  readonly median: { readonly dpdk: number; readonly vring: number; readonly ratio: number }
}

/** Runs the scenarios, prints a table and writes `bench-results/dpdk.json`. */
export async function dpdk(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      size: { type: 'string', default: '64' },
    },
  })
  const [rounds, seconds, size] = [Number(values.rounds), Number(values.seconds), Number(values.size)]
  const reason = missing('dpdk')
  if (reason !== undefined) console.log(`Without a peer to compare with: ${reason}`)
  const rates = scenarios.map(() => ({ dpdk: [] as number[], vring: [] as number[] }))
  for (let round = 1; round <= rounds; round++) {
    for (const [i, scenario] of scenarios.entries()) {
      const dpdkRate = reason === undefined ? await measure('dpdk', scenario, seconds, size) : Number.NaN
      const vringRate = await measure('vring', scenario, seconds, size)
      rates[i]!.dpdk.push(dpdkRate)
      rates[i]!.vring.push(vringRate)
      console.log(
        `round ${round}/${rounds}  ${scenario.name.padEnd(50)} dpdk ${mega(dpdkRate)}  vring ${mega(vringRate)}  × ${(vringRate / dpdkRate).toFixed(2)}`,
      )
    }
  }
  const rows = scenarios.map((scenario, i) => summary(scenario, rates[i]!))
  print(rows, size)
  write(rows, { rounds, seconds, size })
}

async function measure(
  program: 'dpdk' | 'vring',
  scenario: Scenario,
  seconds: number,
  size: number,
): Promise<number> {
  using folder = scratch()
  const [first = 0, second = first] = allowedCpus()
  const socket = folder.path('s0')
  const start = (vdev: string, side: Side, cpu: number): Promise<Testpmd> => {
    const scripted = program === 'vring' && scenario.script !== undefined && side === scenario.vhost
    const options: TestpmdOptions = {
      vdevs: [vdev],
      cpus: [cpu],
      mbufs: 16384,
      txpkts: [size],
      ...(scripted ? { args: ['--script', scenario.script] } : side),
    }
    return program === 'dpdk' ? Testpmd.dpdk(options) : Testpmd.vring(options)
  }
  await using vhost = await start(`net_vhost0,iface=${socket}`, scenario.vhost, first)
  await using user = await start(`net_virtio_user0,path=${socket}`, scenario.user, second)
  await Promise.all([vhost.waitForLink(), user.waitForLink()])
  await vhost.command('start')
  await user.command(scenario.txFirst === undefined ? 'start' : `start tx_first ${scenario.txFirst}`)
  const counter = scenario.counted === 'vhost' ? vhost : user
  await counter.waitForStats('traffic', (stats) => stats.rxPackets > 1_000_000)
  const [before, begun] = [(await counter.portStats()).rxPackets, performance.now()]
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const [after, ended] = [(await counter.portStats()).rxPackets, performance.now()]
  return ((after - before) * 1000) / (ended - begun)
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function summary(
  scenario: Scenario,
  { dpdk, vring }: { readonly dpdk: number[]; readonly vring: number[] },
): Row {
  const ratio = median(vring.map((rate, round) => rate / dpdk[round]!))
  return {
    scenario: scenario.name,
    goal: scenario.goal,
    dpdk,
    vring,
    median: { dpdk: median(dpdk), vring: median(vring), ratio },
  }
}

function mega(rate: number): string {
  return `${(rate / 1e6).toFixed(2).padStart(6)} Mpps`
}

function machine(): string {
  const [processor] = processors()
  return `${processor?.model.trim() ?? 'unknown processor'}, ${processors().length} cores, Linux, Node ${process.version}`
}

function print(rows: readonly Row[], size: number): void {
  console.log(`\n${machine()}; ${size}-byte packets; medians\n`)
  console.log(`| scenario | dpdk-testpmd | vring testpmd | ratio | goal |`)
  console.log(`|---|---|---|---|---|`)
  for (const {
    scenario,
    goal,
    median: { dpdk, vring, ratio },
  } of rows) {
    console.log(
      `| ${scenario} | ${mega(dpdk).trim()} | ${mega(vring).trim()} | ${ratio.toFixed(2)} | ≥ ${goal} |`,
    )
  }
}

function write(rows: readonly Row[], options: Readonly<Record<string, number>>): void {
  mkdirSync('bench-results', { recursive: true })
  const file = 'bench-results/dpdk.json'
  writeFileSync(
    file,
    `${JSON.stringify({ machine: machine(), date: new Date().toISOString(), options, rows }, null, 2)}\n`,
  )
  console.log(`\nWritten to ${file}`)
}

if (import.meta.url === pathToFileURL(process.argv[1]!).href) await dpdk(process.argv.slice(2))
