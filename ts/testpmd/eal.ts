/** The half of the command line before `--`: EAL's options, as far as they have a meaning here. */
import { type LcoreConfig, parseCoreList, parseCoreMask, parseLcores } from './corelist.ts'
import { DEFAULT_PREFIX } from '../telemetry/runtime.ts'
import { getopt, type GivenOption, type OptionSpec, UsageError } from './getopt.ts'

/** What EAL's options say. */
export interface EalConfig {
  /** Device strings: devices on the PCI bus first, then those of `--vdev`, in the order given. Port 0 is the first. */
  readonly devices: readonly string[]
  /** All lcores by id; the first is not necessarily the main one. */
  readonly lcores: readonly LcoreConfig[]
  readonly mainLcore: number
  /** `-m`: the most that packet buffers may take, in MiB. */
  readonly memory: number | undefined
  /** The page size to ask for: `--no-huge` means ordinary pages. */
  readonly pages: 'auto' | '4K'
  /** `--file-prefix`: where run-time files are, which is the telemetry socket. */
  readonly filePrefix: string
  readonly telemetry: boolean
  readonly help: boolean
  readonly version: boolean
  /** One line for each option that was accepted but does nothing here. */
  readonly notes: readonly string[]
}

interface EalOption extends OptionSpec {
  /** Why the option does nothing here; such an option is accepted and this is said once. */
  readonly idle?: string
  /** Why the option cannot be given here. */
  readonly refused?: string
}

const ONE_PROCESS = 'a vring process shares its memory with vhost-user peers only'
const MEMFD = 'memory is an unnamed memfd, no file is made'

const OPTIONS: readonly EalOption[] = [
  { name: 'vdev', value: 'required' },
  { name: 'l', value: 'required' },
  { name: 'c', value: 'required' },
  { name: 'lcores', value: 'required' },
  { name: 'main-lcore', value: 'required' },
  { name: 'm', value: 'required' },
  { name: 'no-huge', value: 'none' },
  { name: 'no-pci', value: 'none' },
  { name: 'allow', short: 'a', value: 'required' },
  { name: 'block', short: 'b', value: 'required' },
  { name: 'in-memory', value: 'none' },
  { name: 'help', short: 'h', value: 'none' },
  { name: 'v', value: 'none' },
  { name: 'file-prefix', value: 'required' },
  { name: 'huge-dir', value: 'required', idle: 'hugepages come from memfd, no hugetlbfs mount is used' },
  { name: 'single-file-segments', value: 'none', idle: 'a mempool always is one region of one memfd' },
  { name: 'huge-unlink', value: 'optional', idle: MEMFD },
  { name: 'n', value: 'required', idle: 'memory channels are not modelled' },
  { name: 'r', value: 'required', idle: 'memory ranks are not modelled' },
  { name: 'socket-mem', value: 'required', idle: 'memory is taken when the mempool is made; -m bounds it' },
  { name: 'socket-limit', value: 'required', idle: 'memory is taken when the mempool is made; -m bounds it' },
  { name: 'legacy-mem', value: 'none', idle: 'memory is taken when the mempool is made' },
  { name: 'match-allocations', value: 'none', idle: 'memory is given back when the mempool is closed' },
  { name: 'iova-mode', value: 'required', idle: 'each device gets the addresses that it needs' },
  { name: 'base-virtaddr', value: 'required', idle: ONE_PROCESS },
  { name: 'proc-type', value: 'required' },
  { name: 'no-shconf', value: 'none', idle: ONE_PROCESS },
  { name: 'no-hpet', value: 'none', idle: 'no timer hardware is used' },
  { name: 'no-telemetry', value: 'none' },
  { name: 'telemetry', value: 'none' },
  { name: 'log-level', value: 'required', idle: 'there are no log types' },
  { name: 'syslog', value: 'required', idle: 'messages go to standard error' },
  { name: 'force-max-simd-bitwidth', value: 'required', idle: 'no code path is chosen by vector width' },
  { name: 'mbuf-pool-ops-name', value: 'required', idle: 'there is one kind of mempool' },
  { name: 'huge-worker-stack', value: 'optional', idle: 'lcores have ordinary stacks' },
  { name: 'vmware-tsc-map', value: 'none', idle: 'the system clock is used' },
  { name: 's', value: 'required', idle: 'there are no service cores' },
  { name: 'S', value: 'required', idle: 'there are no service cores' },
  { name: 'd', value: 'required', refused: 'every driver is built in' },
]

const CORE_OPTIONS: ReadonlySet<string> = new Set(['l', 'c', 'lcores'])
const dashed = (name: string): string => (name.length === 1 ? `-${name}` : `--${name}`)

function parseNumber(option: string, text: string, low: number, high: number): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN
  if (!(value >= low && value <= high)) {
    throw new UsageError(
      `EAL: ${dashed(option)}: expected a number from ${low} to ${high}, but '${text}' was given`,
    )
  }
  return value
}

/** The lcores of `-l`, `-c` or `--lcores`, else one on every CPU. */
function chooseLcores(given: readonly GivenOption[], cpus: readonly number[]): readonly LcoreConfig[] {
  const core = given.filter((option) => CORE_OPTIONS.has(option.name))
  const other = core.find((option) => option.name !== core[0]!.name)
  if (other !== undefined) {
    throw new UsageError(
      `EAL: ${dashed(other.name)} cannot stand beside ${dashed(core[0]!.name)}: give one of them`,
    )
  }
  const last = core.at(-1)
  if (last?.value === undefined) return cpus.map((id) => ({ id, cpus: [id] }))
  if (last.name === 'l') return parseCoreList(last.value, cpus)
  return last.name === 'c' ? parseCoreMask(last.value, cpus) : parseLcores(last.value, cpus)
}

function chooseMain(text: string | undefined, lcores: readonly LcoreConfig[]): number {
  if (text === undefined) return lcores[0]!.id
  const id = parseNumber('main-lcore', text, 0, 127)
  if (lcores.some((lcore) => lcore.id === id)) return id
  const have = lcores.map((lcore) => lcore.id).join(',')
  throw new UsageError(`EAL: --main-lcore ${id} is not one of the lcores ${have}`)
}

function noteIdle(given: readonly GivenOption[]): string[] {
  const notes = new Set<string>()
  for (const { name } of given) {
    const { idle, refused } = OPTIONS.find((option) => option.name === name)!
    if (refused !== undefined) throw new UsageError(`EAL: ${dashed(name)} cannot be used here: ${refused}`)
    if (idle !== undefined) notes.add(`EAL: ${dashed(name)} has no effect here: ${idle}`)
  }
  return [...notes]
}

function checkProcType(type: string | undefined): void {
  if (type === undefined || type === 'primary' || type === 'auto') return
  if (type === 'secondary')
    throw new UsageError(`EAL: --proc-type=secondary cannot be used here: ${ONE_PROCESS}`)
  throw new UsageError(`EAL: --proc-type: expected primary or auto, but '${type}' was given`)
}

/** `3:0.0` and `0000:03:00.0` are the same. */
function pciAddress(text: string): string {
  const match = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(text)
  if (match === null)
    throw new UsageError(`EAL: expected a PCI address like 0000:00:03.0, but '${text}' was given`)
  const [, domain = '0', bus = '', device = '', slot = ''] = match
  return `${domain.padStart(4, '0')}:${bus.padStart(2, '0')}:${device.padStart(2, '0')}.${slot}`.toLowerCase()
}

/** The devices of `--allow`, else what was found on the bus and is not of `--block`. A device of both options is a mistake. */
function chooseDevices(given: readonly GivenOption[], found: readonly string[]): readonly string[] {
  const of = (name: string): string[] =>
    given.filter((option) => option.name === name).map(({ value }) => value!)
  const [allowed, blocked] = [of('allow'), of('block').map((text) => pciAddress(text))]
  if (allowed.length > 0 && blocked.length > 0)
    throw new UsageError('EAL: -a and -b cannot stand beside each other: give one of them')
  if (allowed.length === 0) {
    const probes = !given.some(({ name }) => name === 'no-pci')
    return probes ? found.filter((address) => !blocked.includes(address)) : []
  }
  return allowed.map((text) => {
    const [address = '', ...args] = text.split(',')
    return [pciAddress(address), ...args].join(',')
  })
}

/**
 * Reads EAL's options. `cpus` are the CPUs of this machine, `found` the devices of the PCI bus that a process can have.
 * Throws {@link UsageError} with the nearest known option or
 * the valid range in its message.
 */
export function parseEal(
  argv: readonly string[],
  cpus: readonly number[],
  found: readonly string[] = [],
): EalConfig {
  const given = getopt(OPTIONS, argv)
  const last = (name: string): string | undefined => given.findLast((option) => option.name === name)?.value
  const has = (name: string): boolean => given.some((option) => option.name === name)
  const notes = noteIdle(given)
  checkProcType(last('proc-type'))
  const lcores = chooseLcores(given, cpus)
  const memory = last('m')
  return {
    devices: [
      ...chooseDevices(given, found),
      ...given.filter((option) => option.name === 'vdev').map((option) => option.value!),
    ],
    lcores,
    mainLcore: chooseMain(last('main-lcore'), lcores),
    memory: memory === undefined ? undefined : parseNumber('m', memory, 1, 1 << 20),
    pages: has('no-huge') ? '4K' : 'auto',
    filePrefix: last('file-prefix') ?? DEFAULT_PREFIX,
    telemetry: !has('no-telemetry'),
    help: has('help'),
    version: has('v'),
    notes,
  }
}
