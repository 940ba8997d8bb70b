/** The half of the command line after `--`: testpmd's own options. */
import { existsSync } from 'node:fs'
import { getopt, type OptionSpec, UsageError } from './getopt.ts'
import { MEASURE_FLAGS, MEASURE_VALUES, type MeasureOptions, readMeasure } from './options/measure.ts'
import { type Machine, PLACEMENT_VALUES, type PlacementOptions, readPlacement } from './options/placement.ts'
import { Reader } from './options/reader.ts'
import {
  HEADROOM,
  readMode,
  readPackets,
  PACKET_FLAGS,
  PACKET_VALUES,
  type PacketOptions,
} from './options/packets.ts'

export type { Machine } from './options/placement.ts'
export { HEADROOM } from './options/packets.ts'

/** What testpmd's options say. */
export interface AppOptions extends PacketOptions, MeasureOptions, PlacementOptions {
  readonly interactive: boolean
  /** Commands that are run before the prompt comes. */
  readonly cmdlineFile: { readonly path: string; readonly echo: boolean } | undefined
  readonly autoStart: boolean
  readonly txFirst: boolean
  readonly retry: boolean
  readonly rxq: number
  readonly txq: number
  /** Ring sizes; undefined leaves them to the driver. */
  readonly rxd: number | undefined
  readonly txd: number | undefined
  /** Buffers in the mempool; undefined computes it from ports and queues. */
  readonly totalNumMbufs: number | undefined
  /** Bytes of a buffer, headroom included. */
  readonly mbufSize: number
  readonly flushRx: boolean
  readonly maxPktLen: number | undefined
  /** Whether a link change is printed. */
  readonly linkEvents: boolean
  readonly linkCheck: boolean
  readonly help: boolean
  /** What testpmd prints about its options, in their order, on standard output. */
  readonly selected: readonly string[]
  /** The same on standard error. */
  readonly warnings: readonly string[]
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
  ...['tx-first', 'no-flush-rx', 'no-lsc-interrupt', 'disable-link-check'],
  ...[...IDLE.keys(), ...PACKET_FLAGS, ...MEASURE_FLAGS],
]
const VALUES = [
  ...['rxq', 'txq', 'rxd', 'txd', 'total-num-mbufs', 'mbuf-size', 'max-pkt-len'],
  ...['cmdline-file', 'cmdline-file-noecho'],
  ...[...PACKET_VALUES, ...MEASURE_VALUES, ...PLACEMENT_VALUES],
]

/** Every option of testpmd that is known here. */
export const APP_OPTIONS: readonly OptionSpec[] = [
  flag('interactive', 'i'),
  flag('auto-start', 'a'),
  flag('help', 'h'),
  ...FLAGS.map((name) => flag(name)),
  ...VALUES.map((name) => valued(name)),
]

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

function readSizes(reader: Reader): Pick<AppOptions, 'mbufSize' | 'totalNumMbufs' | 'maxPktLen'> {
  const mbuf = `mbuf-size should be > ${HEADROOM} and < 65536`
  const mbufs = 'total-num-mbufs should be > 1024'
  return {
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

function readCmdlineFile(reader: Reader): AppOptions['cmdlineFile'] {
  const quiet = reader.last('cmdline-file-noecho')
  const path = quiet ?? reader.last('cmdline-file')
  if (path === undefined) return undefined
  if (!existsSync(path)) throw new UsageError(`cmdline-file: there is no file ${path}`)
  return { path, echo: quiet === undefined }
}

function selectedLines(reader: Reader): string[] {
  const lines: string[] = []
  if (reader.has('interactive')) lines.push('Interactive-mode selected')
  const commands = reader.last('cmdline-file') ?? reader.last('cmdline-file-noecho')
  if (commands !== undefined) lines.push(`CLI commands to be read from ${commands}`)
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
  if (txFirst && !reader.has('no-lsc-interrupt')) {
    warnings.push('Warning: lsc_interrupt needs to be off when using tx_first. Disabling.')
  }
  for (const [name, why] of IDLE) {
    if (reader.has(name)) warnings.push(`testpmd: --${name} has no effect here: ${why}`)
  }
  const lcores = [machine.mainLcore, ...machine.forwarding]
  return {
    ...readQueues(reader),
    ...readPlacement(reader, machine),
    ...readPackets(reader, sizes.mbufSize),
    ...readMeasure(reader, lcores),
    ...sizes,
    interactive,
    cmdlineFile: readCmdlineFile(reader),
    txFirst,
    retry: false,
    autoStart: reader.has('auto-start'),
    flushRx: !reader.has('no-flush-rx'),
    linkEvents: !reader.has('no-lsc-interrupt') && !txFirst,
    linkCheck: !reader.has('disable-link-check'),
    help: reader.has('help'),
    selected: selectedLines(reader),
    warnings,
  }
}
