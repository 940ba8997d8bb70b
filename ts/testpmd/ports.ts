/** Opens, checks and closes a session's ports, saying so as testpmd does. */
import { Mempool, Port, type QueueConfig } from '../index.ts'
import type { EalConfig } from './eal.ts'
import { rememberDevargs } from './facts.ts'
import type { AppOptions } from './options.ts'
import { FatalError, messageOf, type Output } from './output.ts'
import { linkLine, macText } from './print/info.ts'

/** How long the ports' links may take to come up where link changes are not reported as events. */
const LINK_CHECK_MILLISECONDS = 9000
/** How long a port that connects to its peer may take before the prompt comes without it. */
const CONNECT_MILLISECONDS = 2000
const MIB = 1 << 20

/** Ring sizes, burst and per-thread cache that the default number of buffers allows for, a port's queue each. */
const RING_BUFFERS = 2048
const CACHE_BUFFERS = 250
const BURST_BUFFERS = 512

/** How many buffers a session's mempool has when the user did not say. */
export function defaultMbufs(
  ports: number,
  options: Pick<AppOptions, 'rxq' | 'txq' | 'rxd' | 'txd'>,
  cores: number,
): number {
  const ring = (queues: number, size = RING_BUFFERS): number => queues * Math.max(size, RING_BUFFERS)
  const perPort = ring(options.rxq, options.rxd) + ring(options.txq, options.txd) + BURST_BUFFERS
  return perPort * Math.max(ports, 1) + CACHE_BUFFERS * (cores + 1)
}

/** Makes the session's mempool. Throws {@link FatalError} when it does not fit within `-m` or the machine's memory. */
export function createMempool(eal: EalConfig, options: AppOptions, output: Output): Mempool {
  const cores = eal.lcores.length - 1
  const count = options.totalNumMbufs ?? defaultMbufs(eal.devices.length, options, cores)
  const bufferSize = options.mbufSize
  output.err(`testpmd: create a new mbuf pool <mb_pool_0>: n=${count}, size=${bufferSize}, socket=0\n`)
  const failed = 'Creation of mbuf pool for socket 0 failed'
  const needed = Math.ceil((count * bufferSize) / MIB)
  if (eal.memory !== undefined && needed > eal.memory) {
    const advice = `give -m ${needed} or more, or fewer buffers with --total-num-mbufs`
    throw new FatalError(
      `${failed}: ${count} buffers of ${bufferSize} bytes need ${needed} MiB, -m allows ${eal.memory}; ${advice}`,
    )
  }
  try {
    return new Mempool({ name: 'mb_pool_0', count, bufferSize, pages: eal.pages })
  } catch (error) {
    throw new FatalError(`${failed}: ${messageOf(error)}`, { cause: error })
  }
}

function queueConfig(mempool: Mempool, options: AppOptions): QueueConfig {
  const { rxq, txq, rxd, txd, maxPktLen } = options
  return {
    mempool,
    rxQueues: rxq,
    txQueues: txq,
    ...(rxd === undefined ? {} : { rxDesc: rxd }),
    ...(txd === undefined ? {} : { txDesc: txd }),
    // What --max-pkt-len counts and the MTU does not: Ethernet header and check sequence.
    ...(maxPktLen === undefined ? {} : { mtu: maxPktLen - 18 }),
  }
}

/** Opens every device. When one cannot be opened, those before it are closed again and {@link FatalError} is thrown. */
export async function openPorts(
  vdevs: readonly string[],
  mempool: Mempool,
  options: AppOptions,
  output: Output,
): Promise<readonly Port[]> {
  const ports: Port[] = []
  for (const vdev of vdevs) {
    output.out(`Configuring Port ${ports.length} (socket 0)\n`)
    try {
      const port = await Port.open(vdev, queueConfig(mempool, options))
      ports.push(port)
      port.countKinds(options.xstatsSizes)
      rememberDevargs(port, vdev)
      await connect(port, output)
      watch(port, options, output)
      output.out(`Port ${port.id}: ${macText(port.mac)}\n`)
    } catch (error) {
      for (const port of ports) await closePort(port, output)
      const option = /^[0-9a-f]+:/.test(vdev) ? '-a' : '--vdev'
      throw new FatalError(`${option} ${vdev}: ${messageOf(error)}`, { cause: error })
    }
  }
  return ports
}

/**
 * A virtio-user port that connects is given a moment to find its peer, so that its link is up when the prompt comes, as it
 * is in testpmd. Other ports wait for whoever connects to them.
 */
async function connect(port: Port, output: Output): Promise<void> {
  if (port.driver !== 'net_virtio_user' || port.info.details['role'] === 'server') return
  try {
    await port.waitForLink(true, { timeout: CONNECT_MILLISECONDS })
  } catch {
    output.err(`Port ${port.id}: nobody answers at the other end yet; it goes on trying\n`)
  }
}

/** Prints what happens to a port, as testpmd prints events. */
function watch(port: Port, options: AppOptions, output: Output): void {
  let { up } = port.link
  port.on('link', (status) => {
    if (status.up === up) return
    ;({ up } = status)
    if (options.linkEvents) output.out(`\nPort ${port.id}: link state change event\n`)
  })
  port.on('error', (error) => output.err(`\nPort ${port.id}: ${messageOf(error)}\n`))
}

/** The link check at start. Only where changes are not reported as events is it waited for and printed. */
export async function checkLinks(ports: readonly Port[], options: AppOptions, output: Output): Promise<void> {
  if (options.linkCheck && ports.length > 0) {
    output.out('Checking link statuses...\n')
    if (!options.linkEvents) {
      const signal = AbortSignal.timeout(LINK_CHECK_MILLISECONDS)
      // A link that is still down when the time is over is no error: its line says so.
      await Promise.allSettled(ports.map((port) => port.waitForLink(true, { signal })))
      for (const port of ports) output.out(linkLine(port.id, port.link))
    }
  }
  output.out('Done\n')
}

/** Closes a port, saying so. */
export async function closePort(port: Port, output: Output): Promise<void> {
  port.removeAllListeners('link')
  try {
    await port.close()
    output.out(`Port ${port.id} is closed\n`)
  } catch (error) {
    output.err(`Port ${port.id} did not close: ${messageOf(error)}\n`)
  }
}

/** Stops and closes all ports, with the words for both. */
export async function shutDown(ports: readonly Port[], output: Output): Promise<void> {
  for (const { id } of ports) output.out(`\nStopping port ${id}...\nStopping ports...\nDone\n`)
  for (const port of ports) {
    output.out(`\nShutting down port ${port.id}...\nClosing ports...\n`)
    await closePort(port, output)
    output.out('Done\n')
  }
}
