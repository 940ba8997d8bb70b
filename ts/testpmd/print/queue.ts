/** `show rxq info` and `show txq info`, and what is shown of offloads and hashes. */
import type { Offloads, Port, QueueInfo, RssConfig } from '../../index.ts'

const STARS = '*********************'

/** `show rxq info P Q`, or of a transmit queue. */
export function queueInfo(port: Port, kind: 'rxq' | 'txq', index: number, info: QueueInfo): string {
  const [upper, name] = kind === 'rxq' ? ['RX', 'Rx'] : ['TX', 'Tx']
  const title = `Infos for port ${String(port.id).padEnd(2)}, ${upper} queue ${String(index).padEnd(2)}`
  const thresholds = ['prefetch', 'host', 'writeback'].map((what) => `${upper} ${what} threshold: 0`)
  const state = `${name} queue state: ${info.still ? 'stopped' : 'started'}`
  const size = `Number of ${upper}Ds: ${info.size}`
  const mode = info.mode === undefined ? [] : [`Burst mode: ${info.mode.name} (${info.mode.why})`]
  const rest =
    kind === 'rxq'
      ? ['RX free threshold: 0', 'RX drop packets: off', 'RX deferred start: off', 'RX scattered packets: on']
      : ['TX RS threshold: 0', 'TX free threshold: 0', 'TX deferred start: off']
  const mempool = kind === 'rxq' ? [`Mempool: ${port.mempool.name}`] : []
  const tail = kind === 'rxq' ? [state, size] : [size, state]
  return `\n${[`${STARS} ${title} ${STARS}`, ...mempool, ...thresholds, ...rest, ...tail, ...mode].join('\n')}\n`
}

const NAMES: Readonly<Record<string, string>> = {
  'rx checksum': 'UDP_CKSUM TCP_CKSUM',
  'tx checksum': 'UDP_CKSUM TCP_CKSUM',
  'rx lro': 'TCP_LRO',
  'tx tcp-tso': 'TCP_TSO',
  'tx udp-tso': 'UDP_TSO',
}

/** Offloads by the names that testpmd prints, each with a space before it. */
const words = (direction: 'rx' | 'tx', names: readonly string[]): string =>
  names.map((name) => ` ${NAMES[`${direction} ${name}`] ?? name.replaceAll('-', '_').toUpperCase()}`).join('')

/** `show port P rx_offload capabilities`: what the device or software does. */
export function offloadCapabilities(port: Port, direction: 'rx' | 'tx'): string {
  const { device, software } = port.offloads
  const both = [...new Set<string>([...software[direction], ...device[direction]])]
  const title = `${direction === 'rx' ? 'Rx' : 'Tx'} Offloading Capabilities of port ${port.id} :`
  return `${title}\n  Per Queue :\n  Per Port  :${words(direction, both)}\n\n`
}

/** `show port P rx_offload configuration`: what was asked for. */
export function offloadConfiguration(port: Port, direction: 'rx' | 'tx', asked: Offloads): string {
  const queues = direction === 'rx' ? port.queues.rx : port.queues.tx
  const title = `${direction === 'rx' ? 'Rx' : 'Tx'} Offloading Configuration of port ${port.id} :`
  const rows = Array.from({ length: queues }, (_, i) => `  Queue[${String(i).padStart(2)}] :\n`)
  return `${title}\n  Port :${words(direction, asked[direction])}\n${rows.join('')}\n`
}

/** `show port P rss-hash`, with the key or without. */
export function rssHash(rss: RssConfig | null, withKey: boolean): string {
  if (rss === null) return 'RSS disabled\n'
  const functions = `RSS functions:\n  ${rss.types.join('  ')}\n`
  if (!withKey) return functions
  const key = Array.from(rss.key, (byte) => byte.toString(16).padStart(2, '0').toUpperCase())
  return `${functions}RSS key:\n${key.join('')}\n`
}
