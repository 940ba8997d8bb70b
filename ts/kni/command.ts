/** The program `vring kni`. */
import { Kni, type KniOptions } from '../kni.ts'
import { Mempool } from '../mempool.ts'
import { Port } from '../port.ts'
import type { EalConfig } from '../testpmd/eal.ts'
import { EndRequest } from '../testpmd/end.ts'
import { UsageError } from '../testpmd/getopt.ts'
import { FatalError, fatalText, messageOf, type Output, processOutput } from '../testpmd/output.ts'
import { type KniConfig, type KniPort, parseArguments, USAGE } from './options.ts'
import { requestText } from './request.ts'
import { type KniStats, lost } from './stats.ts'

/** Buffers for a port's rings and those of its interface, and for what is between them. */
const BUFFERS = 8192
const MIB = 1 << 20

/** An interface with what the command line says of it. */
export interface Served extends KniPort {
  readonly kni: Kni
}

const RULE = `======  ==============  ${'============  '.repeat(4).trimEnd()}`
const HEADER = ` Port    Lcore(RX/TX)    rx_packets    rx_dropped    tx_packets    tx_dropped`

/** The table of DPDK's example, and below it each drop by its name. */
export function statsText(served: readonly (KniPort & { readonly stats: KniStats })[]): string {
  const rows = served.map(({ port, rx, tx, stats: { ingress, egress } }) => {
    const numbers = [ingress.sent, lost(ingress), egress.sent, lost(egress)]
    const cells = numbers.map((n) => String(n).padStart(13)).join(' ')
    return `${String(port).padStart(7)} ${String(rx).padStart(10)}/${String(tx).padStart(2)} ${cells}`
  })
  const drops = served.flatMap(({ port, stats: { ingress, egress } }) => [
    ...Object.entries(ingress.drops).map(([name, n]) => `  Port ${port} rx_dropped ${name}: ${n}`),
    ...Object.entries(egress.drops).map(([name, n]) => `  Port ${port} tx_dropped ${name}: ${n}`),
  ])
  const lines = ['**KNI statistics**', RULE, HEADER, RULE.replaceAll('=', '-'), ...rows, RULE, ...drops]
  return `\n${lines.join('\n')}\n`
}

/** Makes the mempool that all ports share. */
function createMempool({ memory, pages }: EalConfig, { ports }: KniConfig): Mempool {
  const count = BUFFERS * ports.length
  const mempool = new Mempool({ name: 'kni', count, pages })
  const needed = Math.ceil(mempool.bytes.length / MIB)
  if (memory === undefined || needed <= memory) return mempool
  mempool.close()
  throw new FatalError(
    `${count} packet buffers need ${needed} MiB, -m allows ${memory}; give -m ${needed} or more`,
  )
}

/** The processor that an lcore is bound to, if it is one. */
function cpuOf(eal: EalConfig, lcore: number): number | undefined {
  const cpus = eal.lcores.find(({ id }) => id === lcore)?.cpus ?? []
  return cpus.length === 1 ? cpus[0] : undefined
}

function kniOptions({ port, rx, tx }: KniPort, eal: EalConfig, config: KniConfig): KniOptions {
  const [ingressCpu, egressCpu] = [cpuOf(eal, rx), cpuOf(eal, tx)]
  const { promiscuous, monitor, loopback, vmm, vhost, netns } = config
  return {
    ...{ name: `vEth${port}`, promiscuous, loopback, vmm, carrier: monitor },
    ...(vhost === undefined ? {} : { vhost }),
    ...(netns === undefined ? {} : { netns }),
    ...(ingressCpu === undefined ? {} : { ingressCpu }),
    ...(egressCpu === undefined ? {} : { egressCpu }),
  }
}

/** Says what happens to an interface. */
function tell({ kni, port }: Served, output: Output): void {
  const said = (what: string): void => output.out(`APP: port ${port}: ${kni.name}: ${what}\n`)
  kni.on('request', (request) => said(requestText(request)))
  kni.on('refused', (request, reason) => said(`${requestText(request)} refused: ${messageOf(reason)}`))
  kni.on('error', (error) => output.err(`APP: port ${port}: ${kni.name}: ${messageOf(error)}\n`))
}

async function serve(
  mempool: Mempool,
  { eal, config }: { readonly eal: EalConfig; readonly config: KniConfig },
  served: Served[],
  output: Output,
): Promise<void> {
  for (const which of config.ports) {
    const vdev = eal.devices[which.port]!
    output.out(`APP: Initialising port ${which.port} ...\n`)
    try {
      const port = await Port.open(vdev, { mempool })
      port.on('error', (error) => output.err(`APP: port ${which.port}: ${messageOf(error)}\n`))
      const kni = await Kni.open(port, kniOptions(which, eal, config)).catch(async (error: unknown) => {
        await port.close()
        throw error
      })
      const one = { ...which, kni }
      served.push(one)
      tell(one, output)
    } catch (error) {
      throw new FatalError(`port ${which.port} (--vdev ${vdev}): ${messageOf(error)}`, { cause: error })
    }
  }
  for (const { port, rx, tx, kni } of served) {
    output.out(`APP: Lcore ${rx} is reading from port ${port}\nAPP: Lcore ${tx} is writing to port ${port}\n`)
    const vhost = kni.backend === 'vhost-net' ? 'on' : 'off'
    output.out(`APP: port ${port}: ${kni.name} is there, by ${kni.user.driver}, address ${kni.port.mac}\n`)
    if (kni.path !== undefined)
      output.out(`APP: port ${port}: qemu … -netdev tap,id=n${port},fd=3,vhost=${vhost} … 3<>${kni.path}\n`)
  }
}

/** Serves until the end is asked for. */
async function run(
  served: readonly Served[],
  config: KniConfig,
  output: Output,
  end: EndRequest,
): Promise<void> {
  const show = (): void =>
    output.out(statsText(served.map(({ kni, ...which }) => ({ ...which, stats: kni.stats() }))))
  const reset = (): void => {
    for (const { kni } of served) kni.resetStats()
    output.out('\n** Statistics have been reset **\n')
  }
  process.on('SIGUSR1', show).on('SIGUSR2', reset)
  // Also what keeps the process alive.
  const timer = setInterval(config.statsPeriod > 0 ? show : () => {}, (config.statsPeriod || 3600) * 1000)
  try {
    await end.promise
    output.out('\nKNI processing stopping.\n')
    show()
  } finally {
    clearInterval(timer)
    process.off('SIGUSR1', show).off('SIGUSR2', reset)
  }
}

/**
 * Runs `vring kni` with the arguments behind these two words; resolves with the exit status: 0 after SIGINT or SIGTERM, 1 when it could
 * not start.
 */
export async function kni(argv: readonly string[], output: Output = processOutput): Promise<number> {
  const end = new EndRequest()
  const served: Served[] = []
  let mempool: Mempool | undefined
  try {
    const { eal, config } = parseArguments(argv)
    if (config.help) return (output.out(USAGE), 0)
    for (const note of [...eal.notes, ...config.notes]) output.err(`${note}\n`)
    mempool = createMempool(eal, config)
    await serve(mempool, { eal, config }, served, output)
    await run(served, config, output, end)
    return 0
  } catch (error) {
    if (error instanceof UsageError) output.err(`vring kni: ${error.message}\nTry: vring kni --help\n`)
    else if (error instanceof FatalError) output.err(fatalText(error.message))
    else throw error
    return 1
  } finally {
    for (const { kni: one } of served) {
      await one.close()
      await one.port.close()
    }
    mempool?.close()
    end.dispose()
  }
}
