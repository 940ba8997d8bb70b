/** `vring demo`: the main job on one machine. A vhost-user pair with a TypeScript script in the loop. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { Control } from './demo/control.ts'
import { type DemoOptions, DemoUsageError, parseDemoOptions, USAGE } from './demo/options.ts'
import { type Account, accountText, isComplete, LiveRates, type Progress } from './demo/report.ts'
import { capturedTraffic, generatedTraffic, type Traffic } from './demo/sender.ts'
import type { WorkerStart } from './demo/worker.ts'
import { Mempool } from './mempool.ts'
import { Port } from './port.ts'

/** How long packets may be on their way without one arriving before the demo gives them up. */
const PATIENCE_MILLISECONDS = 2000
const LINK_MILLISECONDS = 10_000

/** The two ports and what runs between them. */
interface Link {
  readonly device: Port
  readonly driver: Port
  readonly pools: readonly Mempool[]
}

async function connect(folder: string): Promise<Link> {
  const socket = join(folder, 'vhost.sock')
  const pools = ['device', 'driver'].map((name) => new Mempool({ name, count: 16384 }))
  const device = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool: pools[0]! })
  // Long rings: with fewer processors than threads, each thread moves a whole ring while it has one.
  const virtio = { driver: 'net_virtio_user', path: socket, queueSize: 4096 } as const
  const driver = await Port.open(virtio, { mempool: pools[1]! })
  for (const port of [device, driver]) {
    port.on('error', (error) => process.stderr.write(`\n${port.name}: ${error.message}\n`))
  }
  await Promise.all([device, driver].map((port) => port.waitForLink(true, { timeout: LINK_MILLISECONDS })))
  return { device, driver, pools }
}

/** The script in a thread of its own, with both queues of the vhost port. Resolves when it forwards. */
async function startScript({ device }: Link, control: Control): Promise<{ readonly ended: Promise<void> }> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const workerData: WorkerStart = {
    rx: device.rxQueues[0]!.handOver(),
    tx: device.txQueues[0]!.handOver(),
    control: control.buffer,
  }
  const worker = new Worker(new URL(`./demo/worker.${extension}`, import.meta.url), { workerData })
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('error', reject).once('exit', () => resolve())
  })
  await Promise.race([new Promise((resolve) => worker.once('message', resolve)), ended])
  return { ended }
}

function progress({ device, driver }: Link, control: Control, traffic: Traffic): Progress {
  const [virtio, vhost] = [driver.stats(), device.stats()]
  const named = (port: Port, drops: Readonly<Record<string, number>>): [string, number][] =>
    Object.entries(drops).map(([name, n]) => [`${port.name} ${name}`, n])
  const drops = Object.fromEntries([...named(driver, virtio.drops), ...named(device, vhost.drops)])
  if (control.notTaken > 0) drops['script tx_not_taken'] = control.notTaken
  return { sent: virtio.txPackets, swapped: control.swapped, received: traffic.received(), drops }
}

/** Waits until all that was sent has arrived or is dropped by name, as long as there is progress. */
async function settle(look: () => Progress): Promise<Progress> {
  let [last, since] = [-1, performance.now()]
  for (;;) {
    const now = look()
    const done = now.received + Object.values(now.drops).reduce((sum, n) => sum + n, 0)
    if (done >= now.sent) return now
    if (done !== last) [last, since] = [done, performance.now()]
    else if (performance.now() - since > PATIENCE_MILLISECONDS) return now
    await sleep(5)
  }
}

async function traffic(link: Link, options: DemoOptions): Promise<Traffic> {
  return options.pcap === undefined
    ? generatedTraffic(link.driver, options)
    : capturedTraffic(link.driver, link.pools[1]!, options)
}

/** Sends, shows rates, stops, and closes everything. */
async function run(link: Link, options: DemoOptions, signal: AbortSignal): Promise<Account> {
  const control = new Control()
  const start = performance.now()
  const flow = await traffic(link, options)
  const script = await startScript(link, control)
  const rates = new LiveRates(process.stdout)
  const look = (): Progress => progress(link, control, flow)
  const timer = setInterval(() => rates.print(look()), 1000)
  let final: Progress
  let milliseconds: number
  try {
    await Promise.race([flow.send(signal), script.ended])
    milliseconds = performance.now() - start
    final = await settle(look)
  } finally {
    clearInterval(timer)
    rates.end()
    control.stop()
    await flow.close()
    await script.ended
    await Promise.all([link.driver.close(), link.device.close()])
  }
  const missing = link.pools.map((pool): [string, number] => [pool.name, pool.count - pool.freeCount])
  return { ...final, milliseconds, missingBuffers: Object.fromEntries(missing) }
}

async function runIn(folder: string, options: DemoOptions, signal: AbortSignal): Promise<number> {
  const link = await connect(folder)
  const what = options.pcap ?? `${options.size}-byte packets`
  process.stdout.write(
    `net_virtio_user0 -> net_vhost0 -> TypeScript -> net_vhost0 -> net_virtio_user0: ${what}\n`,
  )
  const account = await run(link, options, signal)
  process.stdout.write(accountText(account))
  if (options.out !== undefined) process.stdout.write(`what came back is in ${options.out}\n`)
  for (const pool of link.pools) pool.close()
  return isComplete(account) ? 0 : 1
}

/**
 * Runs `vring demo` with the arguments behind the command's name; resolves with the exit status: 0 when every packet is accounted
 * for, 1 when not, 2 for a command line that cannot be understood. SIGINT and SIGTERM end it early, with its account. Rejects
 * when the ports cannot be opened or the link does not come up.
 */
export async function demo(argv: readonly string[]): Promise<number> {
  let options
  try {
    options = parseDemoOptions(argv)
  } catch (error) {
    if (!(error instanceof DemoUsageError)) throw error
    process.stderr.write(`vring demo: ${error.message}\n\n${USAGE}`)
    return 2
  }
  if (options === undefined) {
    process.stdout.write(USAGE)
    return 0
  }
  const stopping = new AbortController()
  const stop = (): void => stopping.abort()
  process.once('SIGINT', stop).once('SIGTERM', stop)
  const folder = mkdtempSync(join(tmpdir(), 'vring-demo-'))
  try {
    return await runIn(folder, options, stopping.signal)
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
    rmSync(folder, { recursive: true, force: true })
  }
}
