/** What `start` and `show config` print about what will be forwarded. */
import type { CorePlan } from '../topology.ts'

/** The forwarding configuration: who moves what. */
export interface ForwardingConfig {
  readonly mode: string
  readonly ports: number
  readonly cores: readonly CorePlan[]
  /** What the queue does not take is offered again: how often, and after how many microseconds. */
  readonly retry?: { readonly times: number; readonly delay: number } | undefined
  /** Address of the peer of that port. */
  readonly peer: (port: number) => string
}

/** The queues of one port. Ring sizes are 0 where they were left to the driver. */
export interface PortQueues {
  readonly id: number
  readonly rxQueues: number
  readonly txQueues: number
  readonly rxDesc: number
  readonly txDesc: number
}

/** What goes over the queues. */
export interface TransferConfig {
  readonly mode: string
  readonly burst: number
  readonly txpkts: readonly number[]
  readonly cores: number
  readonly forwardingPorts: number
  readonly ports: readonly PortQueues[]
  readonly retry?: boolean
}

/** `show config fwd`, and the first part of what `start` prints. */
export function forwardingConfig({ mode, ports, cores, retry, peer }: ForwardingConfig): string {
  const streams = cores.reduce((sum, core) => sum + core.streams.length, 0)
  const lines = [
    `${mode} packet forwarding${retry === undefined ? '' : ' with retry'} - ports=${ports} - cores=${cores.length} - streams=${streams} - ` +
      'NUMA support enabled, MP allocation mode: native',
  ]
  if (retry !== undefined)
    lines.push(`TX retry num: ${retry.times}, delay between TX retries: ${retry.delay}us`)
  for (const core of cores) {
    lines.push(`Logical Core ${core.lcore} (socket 0) forwards packets on ${core.streams.length} streams:`)
    for (const { rxPort, rxQueue, txPort, txQueue } of core.streams) {
      const path = `RX P=${rxPort}/Q=${rxQueue} (socket 0) -> TX P=${txPort}/Q=${txQueue} (socket 0)`
      lines.push(`  ${path} peer=${peer(txPort).toUpperCase()}`)
    }
  }
  return `${lines.join('\n')}\n\n`
}

function portLines(port: PortQueues): string[] {
  const lines = [
    `  port ${port.id}: RX queue number: ${port.rxQueues} Tx queue number: ${port.txQueues}`,
    '    Rx offloads=0x0 Tx offloads=0x0',
  ]
  const thresholds = 'threshold registers: pthresh=0 hthresh=0  wthresh=0'
  if (port.rxQueues > 0) {
    lines.push('    RX queue: 0', `      RX desc=${port.rxDesc} - RX free threshold=0`)
    lines.push(`      RX ${thresholds}`, '      RX Offloads=0x0')
  }
  if (port.txQueues > 0) {
    lines.push('    TX queue: 0', `      TX desc=${port.txDesc} - TX free threshold=0`)
    lines.push(`      TX ${thresholds}`, '      TX offloads=0x0 - TX RS bit threshold=0')
  }
  return lines
}

/** `show config rxtx`, and the second part of what `start` prints. */
export function transferConfig(config: TransferConfig): string {
  const { mode, burst, txpkts, retry = false } = config
  const lines = [`  ${mode} packet forwarding${retry ? ' with retry' : ''} packets/burst=${burst}`]
  if (mode === 'txonly' || mode === 'flowgen') {
    const length = txpkts.reduce((sum, segment) => sum + segment, 0)
    lines.push(`  packet len=${length} - nb packet segments=${txpkts.length}`)
  }
  lines.push(`  nb forwarding cores=${config.cores} - nb forwarding ports=${config.forwardingPorts}`)
  lines.push(...config.ports.flatMap((port) => portLines(port)))
  return `${lines.join('\n')}\n`
}

/** What `start` prints of flowgen, between the two. */
export const flowgenLines = (ports: readonly number[], flows: number): string =>
  ports.map((id) => `  number of flows for port ${id}: ${flows}\n`).join('')

/** `show config cores`. */
export const coreList = (lcores: readonly number[]): string =>
  `List of forwarding lcores:  ${lcores.join('  ')}\n`

/** `show config txpkts`. */
export const txpktsConfig = (txpkts: readonly number[], split: string): string =>
  `Number of segments: ${txpkts.length}\nSegment sizes: ${txpkts.join(',')}\nSplit packet: ${split}\n`

/** What is printed before ports are configured when the last of an odd number of ports has no partner. */
export const ODD_PORTS_WARNING =
  '\nWarning! port-topology=paired and odd forward ports number, the last port will pair with itself.\n\n'
