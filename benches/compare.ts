/**
 * What the comparisons with `dpdk-testpmd` have in common: each round runs every scenario once with two `dpdk-testpmd` and once with two
 * `vring testpmd`, one after the other, so that both meet the same machine; what counts is the median over the rounds of the ratio within a
 * round. Each side has one forwarding core, pinned. The rate is what the receiving side's `show port stats` says between two looks.
 */
import { parseArgs } from 'node:util'
import {
  allowedCpus,
  missing,
  reserveHugepages,
  scratch,
  Testpmd,
  type TestpmdOptions,
} from '../__test__/rig/index.ts'
import { intoReadme, machine, median, write } from './results.ts'

/** How one side forwards. */
type Side = Pick<TestpmdOptions, 'forward'>

export interface Scenario {
  readonly name: string
  /** At which side its packets are counted. */
  readonly counted: 'vhost' | 'user'
  readonly vhost: Side
  readonly user: Side
  /** Bursts that the virtio side sends first, to go round. */
  readonly txFirst?: number
  /** What the vhost side of vring runs in the place of its engine. */
  readonly script?: string
  /** Device arguments of the virtio side, the same for both programs. */
  readonly userArgs?: string
  /** Those that only one of the programs knows. */
  readonly dpdkArgs?: string
  /** More EAL options for DPDK, without which it would take another path. */
  readonly dpdkEal?: readonly string[]
  /** Bytes of a packet; default the run's. */
  readonly size?: number
  /** The least ratio that the project promises. */
  readonly goal: number
}

interface Row {
  readonly scenario: string
  readonly size: number
  readonly goal: number
  /** Packets a second, by round. */
  readonly dpdk: readonly number[]
  readonly vring: readonly number[]
  /** Medians; the ratio is the median of the ratios within a round. */
  readonly median: { readonly dpdk: number; readonly vring: number; readonly ratio: number }
}

interface Run {
  readonly rounds: number
  readonly seconds: number
  readonly size: number
  /** Hugepages of 2 MiB for both programs, or ordinary pages for both. */
  readonly huge: boolean
}

/** 2 MiB pages for two programs of 512 MiB. */
const HUGEPAGES = 600

function parse(argv: readonly string[]): { readonly run: Run; readonly readme: boolean } {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '2' },
      size: { type: 'string', default: '64' },
      pages: { type: 'string' },
      readme: { type: 'boolean', default: false },
    },
  })
  const { pages = missing('hugepages') === undefined && missing('root') === undefined ? '2M' : '4K' } = values
  if (pages !== '2M' && pages !== '4K') throw new Error(`expected --pages 2M or 4K, got ${pages}`)
  const run = {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    size: Number(values.size),
    huge: pages === '2M',
  }
  return { run, readme: values.readme }
}

/**
 * Runs the scenarios, prints a table, writes `bench-results/NAME.json` and, with `--readme`, the table into README.md between the comments that
 * name it.
 */
export async function compare(
  name: string,
  scenarios: readonly Scenario[],
  argv: readonly string[],
): Promise<void> {
  const { run, readme } = parse(argv)
  const restore = run.huge ? reserveHugepages(HUGEPAGES) : undefined
  try {
    const rows = await rounds(scenarios, run)
    const table = tableOf(rows, run)
    console.log(`\n${table}`)
    write(name, { options: run, rows })
    if (readme) intoReadme(name, table)
  } finally {
    restore?.()
  }
}

async function rounds(scenarios: readonly Scenario[], run: Run): Promise<readonly Row[]> {
  const reason = missing('dpdk')
  if (reason !== undefined) console.log(`Without a peer to compare with: ${reason}`)
  const rates = scenarios.map(() => ({ dpdk: [] as number[], vring: [] as number[] }))
  for (let round = 1; round <= run.rounds; round++) {
    for (const [i, scenario] of scenarios.entries()) {
      const dpdkRate = reason === undefined ? await measure('dpdk', scenario, run) : Number.NaN
      const vringRate = await measure('vring', scenario, run)
      rates[i]!.dpdk.push(dpdkRate)
      rates[i]!.vring.push(vringRate)
      const size = scenario.size ?? run.size
      console.log(
        `round ${round}/${run.rounds}  ${scenario.name.padEnd(50)} ${String(size).padStart(4)}  dpdk ${mega(dpdkRate)}  vring ${mega(vringRate)}  × ${(vringRate / dpdkRate).toFixed(2)}`,
      )
    }
  }
  return scenarios.map((scenario, i) => summary(scenario, scenario.size ?? run.size, rates[i]!))
}

async function measure(program: 'dpdk' | 'vring', scenario: Scenario, run: Run): Promise<number> {
  using folder = scratch()
  const [first = 0, second = first] = allowedCpus()
  const socket = folder.path('s0')
  const start = (vdev: string, side: Side, cpu: number): Promise<Testpmd> => {
    const scripted = program === 'vring' && scenario.script !== undefined && side === scenario.vhost
    const options: TestpmdOptions = {
      vdevs: [vdev],
      cpus: [cpu],
      mbufs: 16384,
      huge: run.huge,
      txpkts: [scenario.size ?? run.size],
      ...(scripted ? { args: ['--script', scenario.script] } : side),
      ...(program === 'dpdk' && scenario.dpdkEal !== undefined ? { eal: scenario.dpdkEal } : {}),
    }
    return program === 'dpdk' ? Testpmd.dpdk(options) : Testpmd.vring(options)
  }
  const userArgs = (scenario.userArgs ?? '') + (program === 'dpdk' ? (scenario.dpdkArgs ?? '') : '')
  await using vhost = await start(`net_vhost0,iface=${socket}`, scenario.vhost, first)
  await using user = await start(`net_virtio_user0,path=${socket}${userArgs}`, scenario.user, second)
  await Promise.all([vhost.waitForLink(), user.waitForLink()])
  await vhost.command('start')
  await user.command(scenario.txFirst === undefined ? 'start' : `start tx_first ${scenario.txFirst}`)
  const counter = scenario.counted === 'vhost' ? vhost : user
  await counter.waitForStats('traffic', (stats) => stats.rxPackets > 1_000_000)
  const [before, begun] = [(await counter.portStats()).rxPackets, performance.now()]
  await new Promise((resolve) => setTimeout(resolve, run.seconds * 1000))
  const [after, ended] = [(await counter.portStats()).rxPackets, performance.now()]
  return ((after - before) * 1000) / (ended - begun)
}

function summary(
  scenario: Scenario,
  size: number,
  { dpdk, vring }: { readonly dpdk: number[]; readonly vring: number[] },
): Row {
  const ratio = median(vring.map((rate, round) => rate / dpdk[round]!))
  return {
    scenario: scenario.name,
    size,
    goal: scenario.goal,
    dpdk,
    vring,
    median: { dpdk: median(dpdk), vring: median(vring), ratio },
  }
}

const mega = (rate: number): string => `${(rate / 1e6).toFixed(2).padStart(6)} Mpps`

function tableOf(rows: readonly Row[], run: Run): string {
  const pages = run.huge ? 'hugepages of 2 MiB' : 'ordinary pages of 4 KiB'
  const lines = rows.map(({ scenario, size, goal, median: { dpdk, vring, ratio } }) => {
    const cells = [scenario, size, mega(dpdk).trim(), mega(vring).trim(), ratio.toFixed(2), `≥ ${goal}`]
    return `| ${cells.join(' | ')} |`
  })
  return [
    '| scenario | bytes | dpdk-testpmd | vring testpmd | ratio | goal |',
    '|---|---|---|---|---|---|',
    ...lines,
    '',
    `${run.rounds === 1 ? 'One round' : `Medians of ${run.rounds} rounds`}, one pinned core on each side, ${pages} for both; ${machine()}.`,
  ].join('\n')
}
