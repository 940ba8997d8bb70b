/** What queues are and do; hashes and offloads. */
import type { Port, RssConfig, RxQueue, TxQueue } from '../../index.ts'
import { VringError } from '../../index.ts'
import { offloadCapabilities, offloadConfiguration, queueInfo, rssHash } from '../print/queue.ts'
import type { Command, Scene } from './grammar.ts'
import { onPort } from './which.ts'

const TABLE = 128
const KEY_BYTES = 40

function queueOf(port: Port, kind: string, index: number): RxQueue | TxQueue | undefined {
  return (kind === 'rxq' ? port.rxQueues : port.txQueues)[index]
}

function showQueue({ session, output }: Scene, kind: 'rxq' | 'txq', id: number, index: number): void {
  const port = session.ports.find((one) => one.id === id)
  const queue = port === undefined ? undefined : queueOf(port, kind, index)
  const [upper, name] = kind === 'rxq' ? ['RX', 'Rx'] : ['TX', 'Tx']
  if (port !== undefined && queue !== undefined) {
    output.out(queueInfo(port, kind, index, queue.info))
    return
  }
  output.err(port === undefined ? `Invalid port_id=${id}\n` : `Invalid ${name} queue_id=${index}\n`)
  output.err(`Failed to retrieve information for port: ${id}, ${upper} queue: ${index}\n`)
  output.err(`error desc: ${port === undefined ? 'No such device(-19)' : 'Invalid argument(-22)'}\n`)
}

/** Undefined where the ring, the queue or the descriptor is not there. */
function attempted<T>(call: () => T): T | undefined {
  try {
    return call()
  } catch (error) {
    if (error instanceof VringError) return undefined
    throw error
  }
}

function showDescriptor(scene: Scene, port: Port, kind: string, index: number, offset: number): void {
  const status = attempted(() => queueOf(port, kind, index)?.descriptorStatus(offset))
  const busy = kind === 'rxq' ? 'AVAILABLE' : 'FULL'
  const words = { available: busy, done: 'DONE', unavail: 'UNAVAILABLE' } as const
  if (status !== undefined) scene.output.out(`Desc status = ${words[status]}\n`)
  else scene.output.err(`Invalid input: queue id = ${index}, desc id = ${offset}\n`)
}

function showUsed(scene: Scene, port: Port, index: number): void {
  const count = attempted(() => port.rxQueues[index]?.usedCount)
  if (count !== undefined) scene.output.out(`Used desc count = ${count}\n`)
  else scene.output.err(`Invalid queueid = ${index}\n`)
}

/** The entries that the masks choose: 64 each. */
function chosen(masks: string): readonly number[] | undefined {
  const words = /^\((.*)\)$/.exec(masks)?.[1]?.split(',') ?? []
  if (words.length === 0 || !words.every((word) => /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(word)))
    return undefined
  const bits = words.map(BigInt)
  return Array.from({ length: words.length * 64 }, (_, i) => i).filter(
    (i) => ((bits[i >> 6]! >> BigInt(i & 63)) & 1n) === 1n,
  )
}

function showTable({ output }: Scene, port: Port, size: number, masks: string): void {
  const entries = chosen(masks)
  const table = port.rxMode.rss?.table
  if (entries === undefined) output.out('Bad arguments\n')
  else if (size !== TABLE) output.err('Failed to get RSS RETA info, return code = -22\n')
  else if (table === undefined) output.err('Failed to get RSS RETA info, return code = -95\n')
  else {
    const shown = entries.filter((entry) => entry < TABLE)
    const row = (entry: number): string =>
      `RSS RETA configuration: hash index=${entry}, queue=${table[entry]!}\n`
    output.out(shown.map(row).join(''))
  }
}

function setTable({ output }: Scene, port: Port, text: string): void {
  if (!/^\(\d+,\d+\)(,\(\d+,\d+\))*$/.test(text)) {
    output.out('Bad arguments\n')
    return
  }
  output.out(`The reta size of port ${port.id} is ${TABLE}\n`)
  const pairs = [...text.matchAll(/(\d+),(\d+)/g)].map(
    ([, entry, queue]) => [Number(entry), Number(queue)] as const,
  )
  const bad = pairs.find(([entry]) => entry >= TABLE)
  if (bad !== undefined) {
    output.err(`Invalid RETA hash index=${bad[0]}\nInvalid RSS Redirection Table config entered\n`)
    return
  }
  const { rss } = port.rxMode
  const table = [...(rss?.table ?? Array.from({ length: TABLE }, (_, i) => i % port.queues.rx))]
  for (const [entry, queue] of pairs) table[entry] = queue
  try {
    if (rss?.table === undefined) throw new VringError('ERR_VRING_NOT_SUPPORTED', 'nobody spreads packets')
    port.setRxMode({ rss: { ...rss, table } })
  } catch (error) {
    if (!(error instanceof VringError)) throw error
    const code = error.code === 'ERR_VRING_NOT_SUPPORTED' ? -95 : -22
    output.err(`Bad redirection table parameter, return code = ${code} \n`)
  }
}

function setKey({ output }: Scene, port: Port, hex: string): void {
  const at = hex.search(/[^0-9a-f]/i)
  if (hex.length !== 2 * KEY_BYTES) {
    const wanted = `key must be a string of ${2 * KEY_BYTES} hexa-decimal numbers`
    output.err(`key length: ${hex.length} invalid - ${wanted}\n`)
  } else if (at >= 0) {
    output.err(`invalid key: character ${hex[at]!} at position ${at} is not a valid hexa digit\n`)
  } else {
    const types: RssConfig['types'] = ['ipv4', 'ipv4-tcp', 'ipv4-udp', 'ipv6', 'ipv6-tcp', 'ipv6-udp']
    port.setRxMode({ rss: { types, ...port.rxMode.rss, key: Buffer.from(hex, 'hex') } })
  }
}

function showOffloads(scene: Scene, id: number, what: string, direction: 'rx' | 'tx'): void {
  const port = scene.session.ports.find((one) => one.id === id)
  if (port === undefined) {
    scene.output.err(`Invalid port_id=${id}\n`)
    scene.output.err(`Error during getting device (port ${id}) info: No such device\n`)
  } else if (what === 'capabilities') scene.output.out(offloadCapabilities(port, direction))
  else scene.output.out(offloadConfiguration(port, direction, port.offloads.asked))
}

export const QUEUE_COMMANDS: readonly Command[] = [
  {
    pattern: 'show rxq|txq info <port:16> <queue:16>',
    section: 'display',
    help: 'Size, state and data path of a queue.',
    run: (scene, [kind, id, queue]) => showQueue(scene, kind as 'rxq' | 'txq', Number(id), Number(queue)),
  },
  {
    pattern: 'show port <port:16> rxq|txq <queue:16> desc <offset:16> status',
    section: 'display',
    help: 'What a descriptor is doing, counted from the next in turn.',
    run: (scene, [id, kind, queue, offset]) =>
      onPort(scene, Number(id), (port) =>
        showDescriptor(scene, port, String(kind), Number(queue), Number(offset)),
      ),
  },
  {
    pattern: 'show port <port:16> rxq <queue:16> desc used count',
    section: 'display',
    help: 'Packets that wait in a receive queue.',
    run: (scene, [id, queue]) => onPort(scene, Number(id), (port) => showUsed(scene, port, Number(queue))),
  },
  {
    pattern: 'show port <port:16> rx_offload|tx_offload capabilities|configuration',
    section: 'display',
    help: 'Offloads that the device or software does, or that were asked for.',
    run: (scene, [id, kind, what]) =>
      showOffloads(scene, Number(id), String(what), kind === 'rx_offload' ? 'rx' : 'tx'),
  },
  {
    pattern: 'show port <port:16> rss-hash',
    section: 'display',
    help: 'What packets are hashed by.',
    run: (scene, [id]) =>
      onPort(scene, Number(id), (port) => scene.output.out(rssHash(port.rxMode.rss, false))),
  },
  {
    pattern: 'show port <port:16> rss-hash key',
    section: 'display',
    help: 'The same with the key.',
    run: (scene, [id]) =>
      onPort(scene, Number(id), (port) => scene.output.out(rssHash(port.rxMode.rss, true))),
  },
  {
    pattern: 'show port <port:16> rss reta <size:16> <masks>',
    section: 'display',
    help: 'Entries of the redirection table, chosen by masks: (mask0,mask1).',
    run: (scene, [id, size, masks]) =>
      onPort(scene, Number(id), (port) => showTable(scene, port, Number(size), String(masks))),
  },
  {
    pattern: 'port config <port:16> rss reta <entries>',
    section: 'config',
    help: 'Change the redirection table: (hash,queue)[,(hash,queue)]...',
    run: (scene, [id, entries]) =>
      onPort(scene, Number(id), (port) => setTable(scene, port, String(entries))),
  },
  {
    pattern: 'port config <port:16> rss-hash-key <type> <key>',
    section: 'config',
    help: `Change the key that packets are hashed with: ${2 * KEY_BYTES} hexadecimal digits.`,
    run: (scene, [id, , key]) => onPort(scene, Number(id), (port) => setKey(scene, port, String(key))),
  },
]
