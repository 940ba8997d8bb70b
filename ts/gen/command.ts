/** `vring gen`: generates traffic, and names what did not come back. */
import type { Command } from 'commander'
import type { Host } from '../command.ts'
import { VringError } from '../errors.ts'
import { Mempool } from '../mempool.ts'
import { Port } from '../port.ts'
import type { FrameOptions, TrafficOptions, TrafficSize } from '../traffic.ts'
import { describe, type Given } from './options.ts'
import { liveRates, scaled, trialText, troubles } from './print.ts'
import { search, type Step } from './search.ts'
import { type Progress, type Rig, runTrial, type Trial } from './trial.ts'

/** An option that does not go with the others, or with the machine. */
function invalidOption(what: string): never {
  throw new VringError('ERR_VRING_INVALID_ARGUMENT', what)
}

/** Some of the ports, by number. */
function pick(
  ports: readonly Port[],
  numbers: readonly number[] | undefined,
  option: string,
): readonly Port[] {
  return (numbers ?? ports.map((_, i) => i)).map((number) => {
    const port = ports[number]
    if (port !== undefined) return port
    return invalidOption(`${option}: there is no port ${number}: each --vdev is one, counted from 0`)
  })
}

function frameOf({ protocol, vary, ...given }: Given): FrameOptions {
  const optional = ['vlan', 'srcMac', 'dstMac', 'srcIp', 'dstIp', 'srcPort', 'dstPort'] as const
  const some = optional.filter((name) => given[name] !== undefined).map((name) => [name, given[name]])
  return { protocol, vary, ...(Object.fromEntries(some) as Partial<FrameOptions>) }
}

/** The rate of each port as the generator takes it. */
function rateOf(
  { rate, speed, replay, speedup }: Given,
  rig: Rig,
): Pick<TrafficOptions, 'pps' | 'bps' | 'speed'> {
  if (rate === undefined) return replay === undefined ? {} : { speed: speedup }
  if ('max' in rate) return {}
  if (!('percent' in rate)) return rate
  const megabits = speed ?? rig.senders[0]!.link.speed
  if (!(megabits > 0)) invalidOption('--rate in percent: the link has no speed, so give one with --speed')
  return { bps: (megabits * 1e6 * rate.percent) / 100 }
}

function trafficOf(given: Given): TrafficOptions {
  const { size: sizes, flows, burst, packets, replay, loops, seconds } = given
  const ends = packets === undefined && replay === undefined
  return {
    burst,
    ...(replay === undefined ? { sizes, flows } : { recording: replay, loops }),
    ...(packets === undefined ? {} : { limit: packets }),
    ...(seconds !== undefined ? { seconds } : ends ? { seconds: 10 } : {}),
  }
}

/** Bits of the mean packet on the wire. */
function meanBits(sizes: readonly TrafficSize[]): number {
  const sum = (what: (size: TrafficSize) => number): number =>
    sizes.reduce((all, size) => all + what(size), 0)
  return sum(({ bytes, weight }) => (bytes + 24) * 8 * weight) / sum(({ weight }) => weight)
}

/** Where a search begins: the rate asked for, or what a trial without one reaches. */
async function firstRate(given: Given, rig: Rig, signal: AbortSignal): Promise<number> {
  const { pps, bps } = rateOf(given, rig)
  if (pps !== undefined) return pps
  if (bps !== undefined) return bps / meanBits(given.size)
  const trial = await runTrial(rig, { ...trafficOf(given), seconds: 1 }, signal)
  return trial.pps / rig.senders.length
}

/** What cannot be asked for together. */
function refuse({ search: searches, replay }: Given): void {
  if (searches && replay !== undefined) invalidOption('--search sends packets of its own: leave out --replay')
}

async function runSearch(
  given: Given,
  rig: Rig,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<number> {
  const traffic = trafficOf(given)
  const attempt = (pps: number): Promise<Trial> => runTrial(rig, { ...traffic, pps }, signal)
  const options = {
    from: await firstRate(given, rig, signal),
    loss: given.loss,
    resolution: given.resolution,
  }
  const steps: Step[] = []
  for await (const step of search(options, attempt)) {
    steps.push(step)
    const { trial, good } = step
    const reached = trial.pps < step.pps * 0.99 ? `, sent only ${scaled(trial.pps, 'pps')}` : ''
    say(`${scaled(step.pps, 'pps').padStart(12)}   lost ${trial.lost}${reached}   ${good ? 'good' : 'bad'}\n`)
    if (signal.aborted) break
  }
  const best = steps.findLast(({ good }) => good)
  if (given.json) process.stdout.write(`${JSON.stringify({ best: best ?? null, steps }, null, 2)}\n`)
  else if (best === undefined) say('no rate was found at which nothing is lost\n')
  else
    say(
      `\nhighest rate with at most ${given.loss} % lost: ${scaled(best.pps, 'pps')} a port\n${trialText(best.trial)}`,
    )
  return best === undefined ? 1 : 0
}

async function runOnce(
  given: Given,
  rig: Rig,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<number> {
  const watch = (look: () => Progress): Disposable => liveRates(process.stderr, look)
  const trial = await runTrial(
    rig,
    { ...trafficOf(given), ...rateOf(given, rig) },
    signal,
    given.json ? undefined : watch,
  )
  if (given.json) process.stdout.write(`${JSON.stringify(trial, null, 2)}\n`)
  else say(trialText(trial))
  return given.check && (troubles(trial).length > 0 || trial.received === undefined) ? 1 : 0
}

async function run(given: Given, signal: AbortSignal): Promise<number> {
  refuse(given)
  const say = (text: string): void => void (given.json ? process.stderr : process.stdout).write(text)
  using mempool = new Mempool({ name: 'gen', count: given.mbufs, bufferSize: given.mbufSize })
  const ports: Port[] = []
  try {
    const mtu = Math.max(1500, ...given.size.map(({ bytes }) => bytes - 14))
    for (const vdev of given.vdev) {
      const port = await Port.open(vdev, { mempool, rxQueues: given.rxq, mtu: Math.min(mtu, 9728) })
      ports.push(port)
      port.on('error', (error) => process.stderr.write(`\n${port.name}: ${error.message}\n`))
    }
    const rig: Rig = {
      senders: pick(ports, given.tx, '--tx'),
      receivers: pick(ports, given.rx, '--rx'),
      cpus: given.lcores ?? [],
      frame: frameOf(given),
    }
    const timeout = given.linkTimeout * 1000
    await Promise.all(ports.map((port) => port.waitForLink(true, { timeout, signal })))
    return await (given.search ? runSearch : runOnce)(given, rig, signal, say)
  } finally {
    await Promise.all(ports.map((port) => port.close()))
  }
}

/** Adds `gen` to the program. */
export function addGen(program: Command, host: Pick<Host, 'exit'>): void {
  const command = program
    .command('gen')
    .description('generate traffic, and name each packet that did not come back as it was sent')
  describe(command).action(async (given: Given) => {
    const stopping = new AbortController()
    const stop = (): void => stopping.abort(new Error('ended by a signal'))
    process.once('SIGINT', stop).once('SIGTERM', stop)
    try {
      host.exit(await run(given, stopping.signal))
    } finally {
      process.off('SIGINT', stop).off('SIGTERM', stop)
    }
  })
}
