/** The half of the command line after `--`: testpmd's own options. */
import { getopt, type GivenOption, type OptionSpec, UsageError } from './getopt.ts'
import { ENGINES, MAX_BURST, type Mode, parseTxpkts } from './modes.ts'
import { TOPOLOGIES, type Topology } from './topology.ts'

/** The bytes before a packet in its buffer: part of `--mbuf-size`. */
export const HEADROOM = 128

/** What testpmd's options say. */
export interface AppOptions {
  readonly interactive: boolean
  readonly autoStart: boolean
  readonly txFirst: boolean
  readonly mode: Mode
  readonly script: string | undefined
  readonly nbCores: number
  /** How many ports forward: the first ones. */
  readonly nbPorts: number
  readonly rxq: number
  readonly txq: number
  /** Ring sizes; undefined leaves them to the driver. */
  readonly rxd: number | undefined
  readonly txd: number | undefined
  readonly burst: number
  readonly txpkts: readonly number[]
  /** Buffers in the mempool; undefined computes it from ports and queues. */
  readonly totalNumMbufs: number | undefined
  /** Bytes of a buffer, headroom included. */
  readonly mbufSize: number
  /** Seconds between statistics without a prompt; 0: none. */
  readonly statsPeriod: number
  readonly topology: Topology
  readonly flushRx: boolean
  readonly maxPktLen: number | undefined
  /** Whether a link change is printed. */
  readonly linkEvents: boolean
  readonly linkCheck: boolean
  /** Extended statistics that `show port stats` shows too. */
  readonly displayXstats: readonly string[]
  /** Packets are counted by size and by kind of address. */
  readonly xstatsSizes: boolean
  readonly help: boolean
  /** What testpmd prints about its options, in their order, on standard output. */
  readonly selected: readonly string[]
  /** The same on standard error. */
  readonly warnings: readonly string[]
}

/** What the options are checked against. */
export interface Machine {
  /** Lcores that can forward: all but the main one. */
  readonly forwardingCores: number
  readonly ports: number
}

const flag = (name: string, short?: string): OptionSpec => ({
  name,
  value: 'none',
  ...(short === undefined ? {} : { short }),
})
const valued = (name: string): OptionSpec => ({ name, value: 'required' })

/** Options that are accepted because it is so anyway, and why. */
const IDLE: ReadonlyMap<string, string> = new Map([
  ['numa', 'there is one mempool, on the node whose CPU touches it first'],
  ['no-numa', 'there is one mempool, on the node whose CPU touches it first'],
  ['enable-scatter', 'a packet may always span several buffers'],
  ['disable-rss', 'no driver here spreads packets by a hash'],
  ['mlockall', 'packet buffers are not locked'],
  ['no-mlockall', 'packet buffers are not locked'],
  ['no-rmv-interrupt', 'virtual devices are not unplugged'],
])
const FLAGS = [
  'tx-first',
  'no-flush-rx',
  'no-lsc-interrupt',
  'disable-link-check',
  'xstats-sizes',
  ...IDLE.keys(),
]
const VALUES = [
  ...[
    'forward-mode',
    'nb-cores',
    'nb-ports',
    'rxq',
    'txq',
    'rxd',
    'txd',
    'burst',
    'txpkts',
    'total-num-mbufs',
  ],
  ...['mbuf-size', 'stats-period', 'port-topology', 'max-pkt-len', 'script', 'display-xstats'],
]

/** Every option of testpmd that is known here. */
export const APP_OPTIONS: readonly OptionSpec[] = [
  flag('interactive', 'i'),
  flag('auto-start', 'a'),
  flag('help', 'h'),
  ...FLAGS.map((name) => flag(name)),
  ...VALUES.map((name) => valued(name)),
]

function whole(text: string | undefined, low: number, high: number, wrong: (text: string) => string): number {
  const value = text !== undefined && /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN
  if (!(value >= low && value <= high)) throw new UsageError(wrong(text ?? ''))
  return value
}

class Reader {
  private readonly given: readonly GivenOption[]
  constructor(given: readonly GivenOption[]) {
    this.given = given
  }
  has(name: string): boolean {
    return this.given.some((option) => option.name === name)
  }
  last(name: string): string | undefined {
    return this.given.findLast((option) => option.name === name)?.value
  }
  /** The last value of `name` as a number within the range; `wrong` says what testpmd says when it is not. */
  number<T>(
    name: string,
    low: number,
    high: number,
    otherwise: T,
    wrong: (text: string) => string,
  ): number | T {
    return this.has(name) ? whole(this.last(name), low, high, wrong) : otherwise
  }
}

function readMode(reader: Reader): Mode {
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

function readTopology(text: string | undefined): Topology {
  if (text === undefined) return 'paired'
  const topology = TOPOLOGIES.find((one) => one === text)
  if (topology !== undefined) return topology
  throw new UsageError(`port-topology ${text} invalid - must be: paired, chained or loop`)
}

function readScript(reader: Reader): string | undefined {
  const script = reader.last('script')
  if (script !== undefined && reader.has('forward-mode')) {
    throw new UsageError(
      '--script takes the place of --forward-mode: give one of them (the prompt can change it)',
    )
  }
  return script
}

function readQueues(reader: Reader): Pick<AppOptions, 'rxq' | 'txq' | 'rxd' | 'txd'> {
  const queues = (name: string) => (text: string) => `${name} ${text} invalid - must be >= 1 && <= 1024`
  const rxd = (text: string): string => `rxd(${text}) invalid - must be > 0 and <= 32768`
  const txd = (text: string): string => `txd(${text}) invalid - must be > 0 and <= 32768`
  return {
    rxq: reader.number('rxq', 1, 1024, 1, queues('rxq')),
    txq: reader.number('txq', 1, 1024, 1, queues('txq')),
    rxd: reader.number('rxd', 1, 32768, undefined, rxd),
    txd: reader.number('txd', 1, 32768, undefined, txd),
  }
}

function readSizes(reader: Reader): Pick<AppOptions, 'burst' | 'mbufSize' | 'totalNumMbufs' | 'maxPktLen'> {
  const mbuf = `mbuf-size should be > ${HEADROOM} and < 65536`
  const mbufs = 'total-num-mbufs should be > 1024'
  return {
    burst: reader.number('burst', 1, MAX_BURST, 32, () => `burst must be between 1 and ${MAX_BURST}`),
    mbufSize: reader.number(
      'mbuf-size',
      HEADROOM + 1,
      65535,
      2048 + HEADROOM,
      (text) => `${mbuf}, not ${text}`,
    ),
    totalNumMbufs: reader.number(
      'total-num-mbufs',
      1025,
      1 << 24,
      undefined,
      (text) => `${mbufs}, not ${text}`,
    ),
    maxPktLen: reader.number(
      'max-pkt-len',
      64,
      65535,
      undefined,
      (text) => `Invalid max-pkt-len=${text} - should be >= 64`,
    ),
  }
}

function readCounts(
  reader: Reader,
  machine: Machine,
): Pick<AppOptions, 'nbCores' | 'nbPorts' | 'statsPeriod'> {
  const { forwardingCores, ports } = machine
  const cores = `nb-cores should be > 0 and <= ${forwardingCores}`
  const seconds = 'Invalid stats-period value: expected seconds'
  return {
    nbCores: reader.number('nb-cores', 1, forwardingCores, 1, (text) => `${cores}, not ${text}`),
    nbPorts: reader.number(
      'nb-ports',
      1,
      ports,
      ports,
      (text) => `Invalid port ${text}: there are ${ports} ports`,
    ),
    statsPeriod: reader.number(
      'stats-period',
      0,
      86400,
      0,
      (text) => `${seconds} (0..86400), '${text}' came`,
    ),
  }
}

function readDisplayXstats(text: string | undefined): readonly string[] {
  if (text === undefined) return []
  const names = text.split(',').filter((name) => name !== '')
  if (names.length === 0)
    throw new UsageError('display-xstats: expected names of counters, with commas between')
  return names
}

/** Whether the counter is one of those that cost a look at each packet. */
const isKind = (name: string): boolean => /_(size_\w+|undersize|multicast|broadcast)_packets$/.test(name)

function selectedLines(reader: Reader): string[] {
  const lines: string[] = []
  if (reader.has('interactive')) lines.push('Interactive-mode selected')
  if (reader.has('auto-start')) lines.push('Auto-start selected')
  if (reader.has('tx-first')) lines.push('Ports to start sending a burst of packets first')
  if (reader.has('forward-mode')) lines.push(`Set ${readMode(reader)} packet forwarding mode`)
  if (reader.has('script')) lines.push('Set script packet forwarding mode')
  return lines
}

/** Reads testpmd's options. Throws {@link UsageError}: what was given and what is valid. */
export function parseApp(argv: readonly string[], machine: Machine): AppOptions {
  const reader = new Reader(getopt(APP_OPTIONS, argv))
  const [interactive, txFirst] = [reader.has('interactive'), reader.has('tx-first')]
  if (interactive && txFirst) throw new UsageError('--tx-first cannot be used on interactive mode.')
  const sizes = readSizes(reader)
  const warnings: string[] = []
  const displayXstats = readDisplayXstats(reader.last('display-xstats'))
  if (txFirst && !reader.has('no-lsc-interrupt')) {
    warnings.push('Warning: lsc_interrupt needs to be off when using tx_first. Disabling.')
  }
  for (const [name, why] of IDLE) {
    if (reader.has(name)) warnings.push(`testpmd: --${name} has no effect here: ${why}`)
  }
  return {
    ...readQueues(reader),
    ...readCounts(reader, machine),
    ...sizes,
    interactive,
    txFirst,
    autoStart: reader.has('auto-start'),
    mode: readMode(reader),
    script: readScript(reader),
    txpkts: readTxpkts(reader.last('txpkts'), sizes.mbufSize),
    topology: readTopology(reader.last('port-topology')),
    flushRx: !reader.has('no-flush-rx'),
    linkEvents: !reader.has('no-lsc-interrupt') && !txFirst,
    linkCheck: !reader.has('disable-link-check'),
    displayXstats,
    xstatsSizes: reader.has('xstats-sizes') || displayXstats.some(isKind),
    help: reader.has('help'),
    selected: selectedLines(reader),
    warnings,
  }
}
