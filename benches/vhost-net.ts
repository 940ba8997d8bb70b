/**
 * On vhost in the kernel, beside `dpdk-testpmd`: `npm run bench -- vhost-net`. Both programs run in one guest, in turn within each round, on a tap whose
 * other end is the guest's kernel; guest/vhost-net.ts is what runs there. Under QEMU without KVM the rates are low: what counts is the ratio.
 */
import { parseArgs } from 'node:util'
import { Guest } from '../__test__/guest/rig/index.ts'
import { missing } from '../__test__/rig/index.ts'
import { type Figures, type Program, type Round, type ScenarioName, SCENARIOS } from './guest/figures.ts'
import { intoReadme, median, write } from './results.ts'

const GOAL = 1

const percent = (part: number): string => `${(part * 100).toFixed(1)} %`

function tableOf(rounds: readonly Round[], kernel: string): string {
  const lines = (Object.keys(SCENARIOS) as ScenarioName[]).map((scenario) => {
    const of = (program: Program, what: keyof Figures): number =>
      median(rounds.map(({ figures }) => figures[scenario][program][what]))
    const ratio = median(
      rounds.map(({ figures }) => figures[scenario].vring.rate / figures[scenario].dpdk.rate),
    )
    const rate = (program: Program): string => `${(of(program, 'rate') / 1e6).toFixed(3)} Mpps`
    const each = (what: 'kicks' | 'calls'): string =>
      `${of('dpdk', what).toFixed(4)} / ${of('vring', what).toFixed(4)}`
    const cells = [
      scenario,
      rate('dpdk'),
      rate('vring'),
      ratio.toFixed(2),
      `≥ ${GOAL}`,
      each('kicks'),
      each('calls'),
    ]
    return `| ${cells.join(' | ')} |`
  })
  const idle = (what: 'process' | 'worker'): string =>
    percent(median(rounds.map((round) => round.idle[what])))
  return [
    '| | dpdk-testpmd | vring testpmd | ratio | goal | kicks a packet, DPDK / vring | calls a packet, DPDK / vring |',
    '|---|---|---|---|---|---|---|',
    ...lines,
    '',
    `${rounds.length === 1 ? 'One round' : `Medians of ${rounds.length} rounds`} in a guest of three processors without KVM, Linux ${kernel}, 64 bytes, one core that forwards.`,
    `A port that sleeps and gets nothing takes ${idle('process')} of a processor, the kernel's worker ${idle('worker')}; DPDK polls.`,
  ].join('\n')
}

/** Runs it, prints a table, writes `bench-results/vhost-net.json` and, with `--readme`, the table into README.md. */
export async function vhostNet(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '3' },
      kernel: { type: 'string', default: '6.12' },
      readme: { type: 'boolean', default: false },
    },
  })
  const reason = missing(values.kernel === '6.1' ? 'guest' : 'guest-6.12') ?? missing('dpdk')
  if (reason !== undefined) {
    console.log(`vhost-net: skipped: ${reason}`)
    return
  }
  await using guest = await Guest.start({ kernel: values.kernel, cpus: 3, memory: 3072 })
  const script = 'benches/guest/vhost-net.ts'
  const job = guest.start(
    `node --import=@oxc-node/core/register ${script} ${values.rounds} ${values.seconds} 2>&1`,
  )
  let shown = 0
  await guest.until('the end of the measurements', 3_600_000, () => {
    const whole = job.output.slice(shown, job.output.lastIndexOf('\n') + 1)
    for (const line of whole.split('\n')) if (line.startsWith('round ')) console.log(line)
    shown += whole.length
    return job.status
  })
  if (job.status !== 0) throw job.failure('failed')
  const rounds = JSON.parse(job.output.trim().split('\n').at(-1)!) as readonly Round[]
  const table = tableOf(rounds, guest.release)
  console.log(`\n${table}`)
  write('vhost-net', { kernel: guest.release, options: values, rounds })
  if (values.readme) intoReadme('vhost-net', table)
}
