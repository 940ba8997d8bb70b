/** What can be changed at the prompt. Changes count from the next start. */
import type { CsumOptions, EngineOptions, NoiseOptions } from '../index.ts'
import type { Mode } from './modes.ts'
import type { AppOptions } from './options.ts'

/** How txonly splits its packets; without `rand`, all of `set txpkts` are used. */
export type Split = 'off' | 'on' | 'rand'

/** What the csum engine does for packets that leave by a port. */
export interface CsumSettings {
  /** Checksums that the device makes, or software behind the engine. */
  readonly hw: ReadonlySet<string>
  /** Bytes of payload of the segments that TCP is cut into; 0: none. */
  readonly tso: number
  readonly gso: boolean
}

export const PLAIN_CSUM: CsumSettings = { hw: new Set(), tso: 0, gso: false }

/** See the file's first line. */
export interface Settings {
  mode: Mode
  retry: boolean
  burst: number
  /** Microseconds before each retry. */
  txDelay: number
  txRetries: number
  txpkts: readonly number[]
  split: Split
  txtimes: readonly [inter: number, intra: number]
  nbCores: number
  /** The lcores that forward, in the order in which they are used. */
  corelist: readonly number[]
  /** How many ports forward, of those in `portlist`. */
  nbPorts: number
  /** Numbers of the ports that may forward, in the order in which they are paired. */
  portlist: readonly number[]
  verbose: number
  recordCycles: boolean
  recordBursts: boolean
  flushRx: boolean
  hideZeroXstats: boolean
  /** Addresses of the ports' peers that were set, by the number of the port. */
  readonly peers: Map<number, string>
  readonly csum: Map<number, CsumSettings>
  /** Longest packet that `set port gso on` lets through whole. */
  gsoSegment: number
  readonly noise: NoiseOptions
}

/** Longest that DPDK's segmentation lets through at first: a full Ethernet frame. */
const GSO_SEGMENT = 1514

/** What the command line says, and the defaults. */
export function initialSettings(
  options: AppOptions,
  ports: readonly number[],
  lcores: readonly number[],
): Settings {
  const { mode, retry, burst, txpkts, nbCores, nbPorts } = options
  const forwarding = options.portlist ?? ports
  return {
    ...{ mode, retry, burst, txpkts, nbCores, split: 'off', txtimes: [0, 0], txDelay: 1, txRetries: 64 },
    corelist: options.corelist ?? lcores,
    nbPorts: Math.min(nbPorts, forwarding.length),
    portlist: forwarding,
    verbose: 0,
    recordCycles: options.recordCycles,
    recordBursts: options.recordBursts,
    flushRx: options.flushRx,
    hideZeroXstats: false,
    peers: new Map(options.peers),
    csum: new Map(),
    gsoSegment: GSO_SEGMENT,
    noise: options.noise,
  }
}

/** The MAC address that testpmd gives the peer of port `id` where none was configured. */
const defaultPeer = (id: number): string => `02:00:00:00:00:${id.toString(16).padStart(2, '0').toUpperCase()}`

/** The MAC address of the peer of port `id`. */
export const peerOfPort = ({ peers }: Pick<Settings, 'peers'>, id: number): string =>
  peers.get(id) ?? defaultPeer(id)

/** What the engine csum is told about packets that leave by port `id`. */
export function csumOptions({ csum, gsoSegment }: Settings, id: number): CsumOptions {
  const { hw, tso, gso } = csum.get(id) ?? PLAIN_CSUM
  const later = (['udp', 'tcp'] as const).filter((name) => hw.has(name))
  return { later, segment: tso, frame: gso ? gsoSegment : 0 }
}

/** What an engine is started with. */
export function engineOptions(settings: Settings, options: AppOptions, firstBursts: number): EngineOptions {
  const { burst, txpkts, split, retry, txDelay, txRetries, noise } = settings
  const measure = [
    ...(settings.recordBursts ? (['bursts'] as const) : []),
    ...(settings.recordCycles ? (['cycles'] as const) : []),
    ...(options.latencyStats === undefined ? [] : (['latency'] as const)),
  ]
  return {
    ...{ burst, txpkts, firstBursts, noise, measure },
    randomSplit: split === 'rand',
    ip: options.txIp,
    udp: options.txUdp,
    flows: options.txFlows,
    flowgenFlows: options.flowgenFlows,
    flowgenClones: options.flowgenClones,
    ...(retry ? { retry: { delayMicroseconds: txDelay, times: txRetries } } : {}),
  }
}
