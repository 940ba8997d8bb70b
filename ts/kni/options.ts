/** The command line of `vring kni`: EAL's options, `--`, and those of DPDK's `kni`, the old and the newer ones. */
import { allowedCpus } from '../machine/cpus.ts'
import { type EalConfig, parseEal } from '../testpmd/eal.ts'
import { getopt, type OptionSpec, UsageError } from '../testpmd/getopt.ts'

/** One port with its two lcores. */
export interface KniPort {
  /** Its number: the place of its `--vdev`. */
  readonly port: number
  /** Lcore of the loop from the port to the interface. */
  readonly rx: number
  /** Lcore of the loop from the interface to the port. */
  readonly tx: number
}

/** What the half behind `--` says. */
export interface KniConfig {
  readonly ports: readonly KniPort[]
  readonly promiscuous: boolean
  readonly monitor: boolean
  readonly loopback: boolean
  readonly vmm: boolean
  /** Undefined: as the machine can. */
  readonly vhost: boolean | undefined
  readonly netns: string | undefined
  /** Seconds between two tables of statistics, 0 for none. */
  readonly statsPeriod: number
  readonly help: boolean
  readonly notes: readonly string[]
}

const OPTIONS: readonly OptionSpec[] = [
  { name: 'p', value: 'required' },
  { name: 'i', value: 'required' },
  { name: 'o', value: 'required' },
  { name: 'config', value: 'required' },
  { name: 'P', value: 'none' },
  { name: 'm', value: 'none' },
  { name: 'lo-mode', value: 'required' },
  { name: 'vmm', value: 'none' },
  { name: 'vhost', value: 'none' },
  { name: 'no-vhost', value: 'none' },
  { name: 'netns', value: 'required' },
  { name: 'stats-period', value: 'required' },
  { name: 'help', short: 'h', value: 'none' },
]

const MAX_PORTS = 32

/** The numbers of the bits that are set. */
function parseMask(option: string, text: string): readonly number[] {
  const digits = text.replace(/^0x/i, '')
  const mask = /^[0-9a-f]{1,32}$/i.test(digits) ? BigInt(`0x${digits}`) : 0n
  if (mask === 0n)
    throw new UsageError(`-${option}: expected a hexadecimal mask with a bit set, got '${text}'`)
  return Array.from({ length: 128 }, (_, bit) => bit).filter((bit) => (mask >> BigInt(bit)) & 1n)
}

/** `(port,lcore_rx,lcore_tx[,lcore_kthread])[,…]`. */
function parseConfig(text: string, notes: string[]): readonly KniPort[] {
  if (!/^\s*\([^()]*\)(\s*,\s*\([^()]*\))*\s*$/.test(text))
    throw new UsageError(`--config: expected (port,lcore_rx,lcore_tx)[,(…)], got '${text}'`)
  return [...text.matchAll(/\(([^()]*)\)/g)].map(([whole, inner = '']) => {
    const fields = inner.split(',').map((field) => (/^\s*\d+\s*$/.test(field) ? Number(field) : Number.NaN))
    const [port = Number.NaN, rx = Number.NaN, tx = Number.NaN, ...threads] = fields
    if (fields.length < 3 || fields.some(Number.isNaN))
      throw new UsageError(
        `--config: expected three or four numbers, (port,lcore_rx,lcore_tx), got '${whole}'`,
      )
    if (threads.length > 1)
      throw new UsageError(
        `--config: ${whole} asks for ${threads.length} interfaces of one port; here it has one`,
      )
    if (threads.length === 1)
      notes.push(
        `--config: the kernel thread's lcore of ${whole} has no effect here: vhost's threads are the kernel's`,
      )
    return { port, rx, tx }
  })
}

/** `-p`, with `-i` and `-o`: the ports take the lcores of the masks in order. */
function fromMasks(ports: readonly number[], inputs: string, outputs: string): readonly KniPort[] {
  const [rx, tx] = [parseMask('i', inputs), parseMask('o', outputs)]
  for (const [option, lcores] of [
    ['i', rx],
    ['o', tx],
  ] as const) {
    if (lcores.length !== ports.length) {
      const expected = `-${option}: expected as many lcores as there are ports in -p`
      throw new UsageError(`${expected} (${ports.length}), got ${lcores.length}`)
    }
  }
  return ports.map((port, i) => ({ port, rx: rx[i]!, tx: tx[i]! }))
}

function check(ports: readonly KniPort[], mask: readonly number[], eal: EalConfig): void {
  const numbers = ports.map(({ port }) => port)
  const same = mask.length === ports.length && mask.every((port) => numbers.includes(port))
  if (!same)
    throw new UsageError(`--config: expected the ports of -p (${mask.join(',')}), got ${numbers.join(',')}`)
  const missing = mask.find((port) => port >= Math.min(eal.devices.length, MAX_PORTS))
  if (missing !== undefined)
    throw new UsageError(`-p: there is no port ${missing}: ${eal.devices.length} were given by --vdev`)
  const seen = new Set<number>()
  for (const lcore of ports.flatMap(({ rx, tx }) => [rx, tx])) {
    if (!eal.lcores.some(({ id }) => id === lcore)) {
      const have = eal.lcores.map(({ id }) => id).join(',')
      throw new UsageError(
        `lcore ${lcore} is not enabled: expected one of ${have}; -c, -l and --lcores enable them`,
      )
    }
    if (seen.has(lcore))
      throw new UsageError(`lcore ${lcore} is given twice: each loop has an lcore of its own`)
    seen.add(lcore)
  }
}

function parseLoMode(text: string | undefined): boolean {
  if (text === undefined || text === 'lo_mode_none') return false
  if (text === 'lo_mode_fifo') return true
  throw new UsageError(`--lo-mode: expected lo_mode_none or lo_mode_fifo, got '${text}'`)
}

function parsePeriod(text: string | undefined): number {
  const seconds = text === undefined ? 0 : /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN
  if (Number.isNaN(seconds)) throw new UsageError(`--stats-period: expected seconds, got '${text}'`)
  return seconds
}

/** Both halves of the command line, checked. Throws {@link UsageError}. */
export function parseArguments(
  argv: readonly string[],
  cpus = allowedCpus(),
): { readonly eal: EalConfig; readonly config: KniConfig } {
  const dashes = argv.indexOf('--')
  const eal = parseEal(dashes < 0 ? argv : argv.slice(0, dashes), cpus)
  const given = getopt(OPTIONS, dashes < 0 ? [] : argv.slice(dashes + 1))
  const last = (name: string): string | undefined => given.findLast((option) => option.name === name)?.value
  const has = (name: string): boolean => given.some((option) => option.name === name)
  const help = eal.help || has('help')
  const notes: string[] = []
  const config = {
    promiscuous: has('P'),
    monitor: has('m'),
    loopback: parseLoMode(last('lo-mode')),
    vmm: has('vmm'),
    vhost: has('no-vhost') ? false : has('vhost') ? true : undefined,
    netns: last('netns'),
    statsPeriod: parsePeriod(last('stats-period')),
  }
  const ports = help || eal.version ? [] : parsePorts(last, eal, notes)
  return { eal, config: { ...config, ports, help, notes } }
}

function parsePorts(
  last: (name: string) => string | undefined,
  eal: EalConfig,
  notes: string[],
): readonly KniPort[] {
  const [portMask, inputs, outputs, text] = [last('p'), last('i'), last('o'), last('config')]
  if (portMask === undefined) throw new UsageError('-p: expected the mask of the ports to use, such as 0x1')
  if (text !== undefined && (inputs ?? outputs) !== undefined)
    throw new UsageError('--config cannot stand beside -i and -o: give one of them')
  const mask = parseMask('p', portMask)
  if (text === undefined && (inputs === undefined || outputs === undefined))
    throw new UsageError(
      'expected the lcores of the loops: -i and -o, or --config "(port,lcore_rx,lcore_tx)"',
    )
  const ports = text === undefined ? fromMasks(mask, inputs!, outputs!) : parseConfig(text, notes)
  check(ports, mask, eal)
  return ports.toSorted((a, b) => a.port - b.port)
}

/** `vring kni --help`. */
export const USAGE = `Usage: vring kni [EAL options] -- -p PORTMASK (-i IN -o OUT | --config CONFIG) [options]

Makes a network interface vEth0, vEth1, … of the kernel's for each port and carries packets both ways.

EAL options (vring testpmd --help explains them):
  --vdev DRIVERn[,key=value...]  a port; repeat for more: net_af_packet0,iface=eth1
  -c MASK, -l LIST, --lcores MAP lcores that may be used
  -m MIB, --no-huge, -n N, …     as testpmd's

Options:
  -p PORTMASK                    ports to use, a hexadecimal mask
  -i MASK, -o MASK               lcores of the loops from the ports and to them, in the ports' order
  --config "(port,lcore_rx,lcore_tx)[,...]"
                                 the same, port by port
  -P                             the ports receive packets to all addresses
  -m                             the interfaces have a carrier while their port's link is up (default: always)
  --vmm                          the interfaces are for virtual machines: prints how QEMU gets each
  --netns NAME                   network namespace of the interfaces
  --vhost, --no-vhost            packets by the kernel's vhost, or by system calls (default: vhost where there is one)
  --lo-mode MODE                 lo_mode_fifo: what a port receives goes back to it; lo_mode_none (default)
  --stats-period SECONDS         show statistics regularly
  -h, --help                     this text

SIGUSR1 shows statistics, SIGUSR2 resets them, SIGINT and SIGTERM end it.
`
