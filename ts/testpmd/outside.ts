/** What can be seen of a session from outside: DPDK's telemetry, metrics for Prometheus, captures of its packets. */
import { join } from 'node:path'
import { SOCKET } from '../dumpcap/protocol.ts'
import { DumpcapServer } from '../dumpcap/server.ts'
import { Metrics, type Port, Telemetry } from '../index.ts'
import { makeRuntimeDirectory } from '../telemetry/runtime.ts'
import type { EalConfig } from './eal.ts'
import type { AppOptions } from './options.ts'
import { messageOf, type Output } from './output.ts'

/** What is read. */
export interface Inside {
  readonly eal: EalConfig
  readonly options: AppOptions
  readonly argv: readonly string[]
  /** The ports that are open now. */
  readonly ports: () => readonly Port[]
}

function openTelemetry({ eal, argv, ports }: Inside, output: Output): Telemetry | undefined {
  if (!eal.telemetry) return undefined
  const dashes = argv.indexOf('--')
  const [params, appParams] = dashes < 0 ? [argv, []] : [argv.slice(0, dashes), argv.slice(dashes + 1)]
  const lcores = new Map(eal.lcores.map(({ id, cpus }) => [id, cpus]))
  try {
    return Telemetry.listen({
      ports,
      filePrefix: eal.filePrefix,
      params: ['vring testpmd', ...params],
      appParams,
      lcores,
    })
  } catch (error) {
    // Nobody asked for it: forwarding is what people are here for.
    output.err(`TELEMETRY: there is no telemetry socket: ${messageOf(error)}\n`)
    return undefined
  }
}

/** Lets `vring dumpcap` in. As with telemetry, the first program of a file prefix is the one that is found. */
async function openDumpcap({ eal, ports }: Inside, output: Output): Promise<DumpcapServer | undefined> {
  try {
    return await DumpcapServer.listen(join(makeRuntimeDirectory(eal.filePrefix), SOCKET), ports)
  } catch (error) {
    output.err(`vring dumpcap cannot capture here: ${messageOf(error)}\n`)
    return undefined
  }
}

/** Opens all, as far as they are wanted; closing the result ends them. Rejects when metrics were asked for and cannot be served. */
export async function openOutside(inside: Inside, output: Output): Promise<AsyncDisposable> {
  const { metrics: address } = inside.options
  const metrics =
    address === undefined ? undefined : await Metrics.listen({ ...address, ports: inside.ports })
  if (metrics !== undefined) output.out(`Metrics at ${metrics.url}\n`)
  const telemetry = openTelemetry(inside, output)
  const dumpcap = await openDumpcap(inside, output)
  return {
    [Symbol.asyncDispose]: async () => {
      telemetry?.close()
      await dumpcap?.[Symbol.asyncDispose]()
      await metrics?.close()
    },
  }
}
