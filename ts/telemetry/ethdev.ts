/** Commands about ports, by the names of DPDK's ethdev. */
import type { Port } from '../port.ts'
import type { RxQueue, TxQueue } from '../queue.ts'
import type { RssType } from '../rxmode.ts'
import { errorsAmong, type QueueStats } from '../stats.ts'
import type { TelemetryValue } from './json.ts'
import { hex, hides, leadingNumber, onOff } from './parameters.ts'
import type { TelemetryCommand } from './server.ts'

/** Queues for which ethdev's common statistics always have a place. */
const STAT_QUEUES = 16

/** ethdev's bits (`RTE_ETH_RSS_…`) of what packets are hashed by. */
const RSS_BITS: Readonly<Record<RssType, number>> = {
  ipv4: 2,
  'ipv4-tcp': 4,
  'ipv4-udp': 5,
  ipv6: 8,
  'ipv6-tcp': 10,
  'ipv6-udp': 11,
  'ipv6-ex': 15,
  'ipv6-tcp-ex': 16,
  'ipv6-udp-ex': 17,
}

/** `DEV_FLAGS`: the link's changes are reported. */
const FLAG_INTR_LSC = 0x2

function perQueue(queues: readonly QueueStats[], what: (queue: QueueStats) => number): readonly number[] {
  const length = Math.max(queues.length, STAT_QUEUES)
  return Array.from({ length }, (_, i) => (i < queues.length ? what(queues[i]!) : 0))
}

function stats(port: Port): TelemetryValue {
  const now = port.stats()
  return {
    ipackets: now.rxPackets,
    opackets: now.txPackets,
    ibytes: now.rxBytes,
    obytes: now.txBytes,
    imissed: now.rxMissed,
    ierrors: now.rxErrors,
    oerrors: now.txErrors,
    rx_nombuf: now.rxNombuf,
    q_ipackets: perQueue(now.rx, ({ packets }) => packets),
    q_opackets: perQueue(now.tx, ({ packets }) => packets),
    q_ibytes: perQueue(now.rx, ({ bytes }) => bytes),
    q_obytes: perQueue(now.tx, ({ bytes }) => bytes),
    q_errors: perQueue(now.rx, (queue) => errorsAmong([queue])),
  }
}

function xstats(port: Port, rest: string | undefined): TelemetryValue {
  const all = [...port.xstats()]
  return Object.fromEntries(hides(rest) ? all.filter(([, value]) => value !== 0) : all)
}

const queueState = (queue: RxQueue | TxQueue): number => (queue.info.stopped ? 0 : 1)

function info(port: Port): TelemetryValue {
  const { rxMode, offloads } = port
  const { rss } = rxMode
  const hashed = (rss?.types ?? []).reduce((bits, type) => bits | (1 << RSS_BITS[type]), 0)
  return {
    name: port.name,
    state: 1,
    nb_rx_queues: port.rxQueues.length,
    nb_tx_queues: port.txQueues.length,
    port_id: port.id,
    mtu: port.mtu,
    rx_mbuf_size_min: port.mempool.bufferSize,
    mac_addr: port.mac.toUpperCase(),
    promiscuous: Number(rxMode.promiscuous),
    scattered_rx: Number(offloads.asked.rx.includes('scatter')),
    all_multicast: Number(rxMode.promiscuous || rxMode.allMulticast),
    dev_started: Number(port.started),
    lro: Number(offloads.device.rx.includes('lro')),
    dev_configured: 1,
    rxq_state: port.rxQueues.map(queueState),
    txq_state: port.txQueues.map(queueState),
    numa_node: 0,
    dev_flags: hex(FLAG_INTR_LSC),
    rx_offloads: offloads.asked.rx,
    tx_offloads: offloads.asked.tx,
    ethdev_rss_hf: hex(hashed),
  }
}

function linkStatus({ link }: Port): TelemetryValue {
  if (!link.up) return { status: 'DOWN' }
  return { status: 'UP', speed: link.speed, duplex: `${link.duplex}-duplex` }
}

function queueOf<T>(queues: readonly T[], rest: string | undefined): T | undefined {
  // The number may be left out where there is one only.
  if (rest === undefined) return queues.length === 1 ? queues[0] : undefined
  const id = leadingNumber(rest)?.[0]
  return id === undefined ? undefined : queues[id]
}

function queueInfo(queue: RxQueue | TxQueue, descriptors: number): Readonly<Record<string, TelemetryValue>> {
  const { info } = queue
  return {
    queue_state: queueState(queue),
    nb_desc: info.size === 0 ? descriptors : info.size,
    burst_mode: info.mode?.name ?? 'none, there is no peer',
  }
}

function rxQueue(port: Port, rest: string | undefined): TelemetryValue {
  const queue = queueOf(port.rxQueues, rest)
  if (queue === undefined) return null
  const { mempool, info, offloads } = port
  return {
    mempool_name: mempool.name,
    socket_id: 0,
    offloads: offloads.asked.rx,
    scattered_rx: onOff(offloads.asked.rx.includes('scatter')),
    ...queueInfo(queue, info.rxDesc),
    rx_buf_size: mempool.bufferSize - mempool.headroom,
  }
}

function txQueue(port: Port, rest: string | undefined): TelemetryValue {
  const queue = queueOf(port.txQueues, rest)
  if (queue === undefined) return null
  return { offloads: port.offloads.asked.tx, ...queueInfo(queue, port.info.txDesc) }
}

function rssInfo({ rxMode: { rss } }: Port): TelemetryValue {
  if (rss === null) return null
  return {
    rss_hf: hex(rss.types.reduce((bits, type) => bits | (1 << RSS_BITS[type]), 0)),
    rss_key_len: rss.key.length,
    rss_key: `0x${Buffer.from(rss.key).toString('hex')}`,
    algorithm: 'toeplitz',
  }
}

/** VLANs in blocks of 64, of which those with one are told. */
function vlan({ rxMode: { vlans, vlanStrip } }: Port): TelemetryValue {
  const ids = vlans ?? []
  const blocks = new Map<string, number[]>()
  for (const id of ids.toSorted((a, b) => a - b)) {
    const first = id - (id % 64)
    const name = `vlan_${first}_to_${first + 63}`
    const block = blocks.get(name)
    if (block === undefined) blocks.set(name, [id])
    else block.push(id)
  }
  return {
    VLAN_STRIP: onOff(vlanStrip),
    VLAN_FILTER: onOff(vlans !== null),
    vlan_num: ids.length,
    vlan_ids: Object.fromEntries(blocks),
  }
}

const macs = ({ mac, rxMode }: Port): TelemetryValue => [mac, ...rxMode.macs].map((one) => one.toUpperCase())

type Tell = (port: Port, rest: string | undefined) => TelemetryValue

const COMMANDS: readonly (readonly [name: string, what: string, tell: Tell])[] = [
  ['stats', 'the common stats', stats],
  ['xstats', 'the extended stats', xstats],
  ['link_status', 'the link status', linkStatus],
  ['info', 'the device info', info],
  ['macs', 'the MAC addresses', macs],
  ['rx_queue', 'Rx queue info', rxQueue],
  ['tx_queue', 'Tx queue info', txQueue],
  ['rss_info', 'RSS info', rssInfo],
  ['vlan', 'VLAN info', vlan],
]

const MORE: Readonly<Record<string, string>> = {
  xstats: ',hide_zero=true|false (Optional)',
  rx_queue: ', int queue_id (Optional if only one queue)',
  tx_queue: ', int queue_id (Optional if only one queue)',
}

/** See above. */
export function ethdevCommands(ports: () => Iterable<Port>): readonly TelemetryCommand[] {
  const all = (): Port[] => [...ports()].toSorted((a, b) => a.id - b.id)
  const list: TelemetryCommand = {
    name: '/ethdev/list',
    help: 'Returns list of available ethdev ports. Takes no parameters',
    handler: () => all().map(({ id }) => id),
  }
  const byPort = COMMANDS.map(([name, what, tell]): TelemetryCommand => ({
    name: `/ethdev/${name}`,
    help: `Returns ${what} for a port. Parameters: int port_id${MORE[name] ?? ''}`,
    handler: (parameters) => {
      const [id, rest] = leadingNumber(parameters) ?? []
      const port = all().find((one) => one.id === id)
      return port === undefined ? null : tell(port, rest)
    },
  }))
  return [list, ...byPort]
}
