/** What packets are made of, and what is done to them. */
import { existsSync, readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import type { NoiseOptions } from '../../index.ts'
import { UsageError } from '../getopt.ts'
import { ENGINES, MAX_BURST, type Mode, parseTxpkts } from '../modes.ts'
import { type Reader, whole } from './reader.ts'

/** The bytes before a packet in its buffer: part of `--mbuf-size`. */
export const HEADROOM = 128
const MAX_PORTS = 32
/** Flows of `--txonly-multi-flow`: the values of a byte. */
const ALL_FLOWS = 256

/** What the options about packets say. */
export interface PacketOptions {
  readonly mode: Mode
  readonly script: string | undefined
  /** The script is loaded again whenever its file changes. */
  readonly watch: boolean
  readonly burst: number
  readonly txpkts: readonly number[]
  readonly txIp: readonly [src: string, dst: string]
  readonly txUdp: readonly [src: number, dst: number]
  /** Flows of txonly. */
  readonly txFlows: number
  readonly flowgenFlows: number
  readonly flowgenClones: number
  readonly noise: NoiseOptions
  /** Addresses of the ports' peers, by the number of the port. */
  readonly peers: ReadonlyMap<number, string>
}

export const PACKET_FLAGS = ['txonly-multi-flow', 'watch']
export const PACKET_VALUES = [
  ...['forward-mode', 'script', 'burst', 'txpkts', 'tx-ip', 'tx-udp', 'txonly-flows', 'flowgen-flows'],
  ...['flowgen-clones', 'eth-peer', 'eth-peers-configfile', 'noisy-tx-sw-buffer-size'],
  ...['noisy-tx-sw-buffer-flushtime', 'noisy-lkup-memory', 'noisy-lkup-num-writes'],
  ...['noisy-lkup-num-reads', 'noisy-lkup-num-reads-writes'],
]

export function readMode(reader: Reader): Mode {
  const script = reader.has('script')
  const text = reader.last('forward-mode')
  if (text === undefined) return script ? 'script' : 'io'
  const mode = ENGINES.find((engine) => engine === text)
  if (mode !== undefined) return mode
  throw new UsageError(`Invalid ${text} packet forwarding mode - must be: ${ENGINES.join(', ')}`)
}

function readTxpkts(text: string | undefined, mbufSize: number): readonly number[] {
  if (text === undefined) return [64]
  const lengths = parseTxpkts(text, mbufSize - HEADROOM)
  if (typeof lengths === 'string') throw new UsageError(`bad txpkts: ${lengths}`)
  return lengths
}

function readScript(reader: Reader): Pick<PacketOptions, 'script' | 'watch'> {
  const script = reader.last('script')
  if (script !== undefined && reader.has('forward-mode')) {
    throw new UsageError(
      '--script takes the place of --forward-mode: give one of them (the prompt can change it)',
    )
  }
  const watch = reader.has('watch')
  if (watch && script === undefined) throw new UsageError('--watch: expected --script FILE, which it watches')
  return { script, watch }
}

function readIp(text: string | undefined): PacketOptions['txIp'] {
  if (text === undefined) return ['198.18.0.1', '198.18.0.2']
  const comma = text.indexOf(',')
  if (comma < 1) throw new UsageError(`Invalid tx-ip: ${text}, expected source,destination`)
  const [src, dst] = [text.slice(0, comma), text.slice(comma + 1)]
  if (!isIPv4(src)) throw new UsageError(`Invalid source IP address: ${src}`)
  if (!isIPv4(dst)) throw new UsageError(`Invalid destination IP address: ${dst}`)
  return [src, dst]
}

function readUdp(text: string | undefined): PacketOptions['txUdp'] {
  if (text === undefined) return [9, 9]
  const [src, dst = src, extra] = text.split(',')
  const port = (one: string | undefined): number =>
    whole(
      extra === undefined ? one : undefined,
      0,
      65535,
      () => `Invalid tx-udp: ${text}, expected src[,dst], 0 to 65535`,
    )
  return [port(src), port(dst)]
}

const isMac = (text: string): boolean => /^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(text)

function readPeers(reader: Reader): PacketOptions['peers'] {
  const peers = new Map<number, string>()
  const file = reader.last('eth-peers-configfile')
  if (file !== undefined) {
    if (!existsSync(file)) throw new UsageError(`eth-peers-configfile: there is no file ${file}`)
    const lines = readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line.trim() !== '')
    for (const [port, line] of lines.slice(0, MAX_PORTS).entries()) {
      if (!isMac(line.trim()))
        throw new UsageError(`eth-peers-configfile: line ${port + 1}: no address: ${line}`)
      peers.set(port, line.trim())
    }
  }
  for (const text of reader.all('eth-peer')) {
    const comma = text.indexOf(',')
    const most = MAX_PORTS - 1
    const port = whole(
      text.slice(0, Math.max(comma, 0)),
      0,
      most,
      () => `Invalid eth-peer: ${text}, expected port,address with a port from 0 to ${most}`,
    )
    const mac = text.slice(comma + 1)
    if (!isMac(mac)) throw new UsageError(`Invalid ethernet address: ${mac}`)
    peers.set(port, mac)
  }
  return peers
}

function readNoise(reader: Reader): NoiseOptions {
  const number = (name: string, high: number): number =>
    reader.number(
      `noisy-${name}`,
      0,
      high,
      0,
      (text) => `noisy-${name} must be >= 0 and <= ${high}, not ${text}`,
    )
  return {
    bufferPackets: number('tx-sw-buffer-size', 1 << 20),
    flushMilliseconds: number('tx-sw-buffer-flushtime', 3_600_000),
    memoryMib: number('lkup-memory', 4096),
    writes: number('lkup-num-writes', 65535),
    reads: number('lkup-num-reads', 65535),
    readsWrites: number('lkup-num-reads-writes', 65535),
  }
}

/** Reads them. `mbufSize` bounds what a segment holds. */
export function readPackets(reader: Reader, mbufSize: number): PacketOptions {
  const burst = reader.number('burst', 1, MAX_BURST, 32, () => `burst must be between 1 and ${MAX_BURST}`)
  const flows = reader.number(
    'txonly-flows',
    1,
    ALL_FLOWS,
    undefined,
    () => `txonly-flows must be >= 1 and <= ${ALL_FLOWS}`,
  )
  return {
    ...readScript(reader),
    mode: readMode(reader),
    burst,
    txpkts: readTxpkts(reader.last('txpkts'), mbufSize),
    txIp: readIp(reader.last('tx-ip')),
    txUdp: readUdp(reader.last('tx-udp')),
    txFlows: flows ?? (reader.has('txonly-multi-flow') ? ALL_FLOWS : 1),
    flowgenFlows: reader.number(
      'flowgen-flows',
      1,
      2 ** 31 - 1,
      1024,
      () => 'flows must be >= 1 and <= 2147483647',
    ),
    flowgenClones: reader.number(
      'flowgen-clones',
      0,
      burst,
      0,
      () => `clones must be >= 0 and <= current burst (${burst})`,
    ),
    noise: readNoise(reader),
    peers: readPeers(reader),
  }
}
