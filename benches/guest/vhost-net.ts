/**
 * Runs in a guest, for `npm run bench -- vhost-net`: `dpdk-testpmd` and `vring testpmd` in turn on `/dev/vhost-net`, on a tap whose other end is this kernel's.
 * It sends by pktgen, and what comes in it only counts. The last line is the result as JSON.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Testpmd, type TestpmdOptions } from '../../__test__/rig/index.ts'
import { Mempool, Port } from '../../ts/index.ts'
import { type Figures, type Program, type Round, type ScenarioName, SCENARIOS } from './figures.ts'

const [rounds = 1, seconds = 2] = process.argv.slice(2).map(Number)
const TAP = 'tap0'
const TRACE = '/sys/kernel/tracing'
const PKTGEN = '/proc/net/pktgen'

const sh = (script: string): string => execFileSync('sh', ['-ec', script], { encoding: 'utf8' })
const counter = (name: string): number =>
  Number(readFileSync(`/sys/class/net/${TAP}/statistics/${name}`, 'utf8'))

/** Who writes to eventfds (kicks), and who signals them in the kernel (calls): each is one look at a function of the kernel's. */
const PROBES = { kicks: 'eventfd_write', calls: 'eventfd_signal_mask' } as const
type Probe = keyof typeof PROBES

function addProbes(): void {
  sh(`mount -t tracefs tracefs ${TRACE} 2>/dev/null || true`)
  for (const [name, place] of Object.entries(PROBES)) sh(`echo 'p:${name} ${place}' >>${TRACE}/kprobe_events`)
}

const probe = (name: Probe, on: boolean): void =>
  writeFileSync(`${TRACE}/events/kprobes/${name}/trigger`, `${on ? '' : '!'}hist:keys=common_pid`)

/** How often threads whose name matches did it. */
function hits(name: Probe, threads: RegExp): number {
  const text = readFileSync(`${TRACE}/events/kprobes/${name}/hist`, 'utf8')
  const lines = [...text.matchAll(/common_pid:\s+(\d+)[^}]*\}\s+hitcount:\s+(\d+)/g)]
  const matching = lines.filter(([, thread]) => {
    try {
      return threads.test(readFileSync(`/proc/${thread}/comm`, 'utf8'))
    } catch {
      return false // it has ended
    }
  })
  return matching.reduce((sum, [, , count]) => sum + Number(count), 0)
}

/** The kernel takes the last byte for the end of the line. */
const tell = (file: string, line: string): void => writeFileSync(`${PKTGEN}/${file}`, `${line}\n`)

function startPktgen(): void {
  const settings = ['count 0', 'pkt_size 60', 'clone_skb 0', 'dst_mac 02:00:00:00:00:01', 'dst 10.99.0.2']
  tell('kpktgend_0', 'rem_device_all')
  tell('kpktgend_0', `add_device ${TAP}`)
  for (const line of settings) tell(TAP, line)
  // It returns when the sending is stopped.
  sh(`(echo start >${PKTGEN}/pgctrl) >/dev/null 2>&1 &`)
}

const stopPktgen = (): void => tell('pgctrl', 'stop')

async function interval(packets: () => Promise<number>): Promise<{ packets: number; seconds: number }> {
  const [before, begun] = [await packets(), performance.now()]
  await sleep(seconds * 1000)
  const [after, ended] = [await packets(), performance.now()]
  return { packets: after - before, seconds: (ended - begun) / 1000 }
}

async function measure(program: Program, scenario: ScenarioName): Promise<Figures> {
  const { forward, pktgen } = SCENARIOS[scenario]
  const options: TestpmdOptions = {
    vdevs: [`net_virtio_user0,path=/dev/vhost-net,iface=${TAP},queue_size=1024`],
    cpus: [1],
    mbufs: 16384,
    forward,
    timeout: 180_000,
  }
  await using testpmd = await (program === 'dpdk' ? Testpmd.dpdk(options) : Testpmd.vring(options))
  sh(`ip link set ${TAP} up`)
  await testpmd.command('start')
  if (pktgen) startPktgen()
  try {
    const packets = async (): Promise<number> =>
      forward === 'rxonly' ? (await testpmd.portStats()).rxPackets : counter('rx_packets')
    const first = await packets()
    while ((await packets()) < first + 1000) await sleep(50) // until there is traffic
    const timed = await interval(packets)
    // Apart from the rate: a probe costs whoever runs into it.
    for (const name of ['kicks', 'calls'] as const) probe(name, true)
    const counted = await interval(packets)
    const kicks = hits('kicks', /^(lcore|dpdk-worker)/)
    const calls = hits('calls', /^vhost-/)
    for (const name of ['kicks', 'calls'] as const) probe(name, false)
    return {
      rate: timed.packets / timed.seconds,
      kicks: kicks / counted.packets,
      calls: calls / counted.packets,
    }
  } finally {
    if (pktgen) stopPktgen()
  }
}

/** Ticks of a hundredth of a second that the workers of vhost have had. */
function workerTicks(): number {
  const threads = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const all = [
    ...threads.map((pid) => `/proc/${pid}`),
    ...readdirSync('/proc/self/task').map((id) => `/proc/self/task/${id}`),
  ]
  return all.reduce((sum, path) => {
    try {
      const [, name = '', rest = ''] = /\((.*)\) (.*)/.exec(readFileSync(`${path}/stat`, 'utf8')) ?? []
      const [user, system] = rest.split(' ').slice(11, 13).map(Number)
      return name.startsWith('vhost-') ? sum + user! + system! : sum
    } catch {
      return sum // it has ended
    }
  }, 0)
}

/** Of one processor, what a port takes that sleeps and gets nothing: this process, and the kernel's worker. */
async function idle(): Promise<Round['idle']> {
  using mempool = new Mempool({ count: 4096 })
  await using port = await Port.open(`net_virtio_user0,path=/dev/vhost-net,iface=${TAP}`, { mempool })
  await port.waitForLink()
  const stop = new AbortController()
  const receiving = (async () => {
    for await (const burst of port.rxQueues[0]!.bursts({ signal: stop.signal })) burst.free()
  })()
  await sleep(500) // what the kernel says when a link comes up has been said
  const [usage, ticks, begun] = [process.cpuUsage(), workerTicks(), performance.now()]
  await sleep(seconds * 1000)
  const { user, system } = process.cpuUsage(usage)
  const milliseconds = performance.now() - begun
  const worker = workerTicks() - ticks
  stop.abort()
  await receiving
  return { process: (user + system) / 1000 / milliseconds, worker: (worker * 10) / milliseconds }
}

sh(
  'modprobe -a vhost_net tun pktgen; sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1',
)
addProbes()
const result: Round[] = []
for (let round = 1; round <= rounds; round++) {
  const figures: Partial<Record<ScenarioName, Record<Program, Figures>>> = {}
  for (const scenario of Object.keys(SCENARIOS) as ScenarioName[]) {
    const [dpdk, vring] = [await measure('dpdk', scenario), await measure('vring', scenario)]
    figures[scenario] = { dpdk, vring }
    const mega = ({ rate }: Figures): string => `${(rate / 1e6).toFixed(3)} Mpps`
    console.log(`round ${round}/${rounds}  ${scenario.padEnd(7)} dpdk ${mega(dpdk)}  vring ${mega(vring)}`)
  }
  result.push({ figures: figures as Round['figures'], idle: await idle() })
}
console.log(JSON.stringify(result))
