/** `vring hugepages`, in the words of dpdk-hugepages.py. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { Host } from '../command.ts'
import { defaultHugepage, type HugepagePool, hugepagePools, sizeText } from '../machine/hugepages.ts'
import { asRoot } from '../machine/process.ts'
import { readText } from '../machine/sysfs.ts'

const MOUNT = '/dev/hugepages'

interface Given {
  readonly show?: boolean
  readonly clear?: boolean
  readonly mount?: boolean
  readonly unmount?: boolean
  readonly directory: string
  readonly user?: string
  readonly group?: string
  readonly node?: string
  readonly pagesize?: string
  readonly reserve?: string
  readonly setup?: string
  readonly json?: boolean
}

/** What a person did or has to do. */
class HugepageError extends Error {
  override readonly name = 'HugepageError'
}

/** `2G` in KiB; without a letter, bytes. */
function kibOf(text: string): number {
  const [, digits, unit = ''] = /^(\d+)([KMG]?)$/i.exec(text) ?? []
  if (digits === undefined) throw new HugepageError(`${text} is not a valid size`)
  if (unit === '') return Math.floor(Number(digits) / 1024)
  return Number(digits) * 1024 ** 'KMG'.indexOf(unit.toUpperCase())
}

function setPages(pool: HugepagePool, pages: number): void {
  const file = `${pool.path}/nr_hugepages`
  try {
    writeFileSync(file, `${pages}\n`)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
      throw new HugepageError(`Permission denied: need to be root! (${file}: ${code})`, { cause: error })
    }
    throw error
  }
  const got = Number(readText(file) ?? 0)
  if (got === pages) return
  const why =
    got < pages
      ? `the memory is in use or in pieces: ${asRoot("sh -c 'echo 3 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory'")} and try again, or reserve them at boot`
      : 'programs use the others'
  throw new HugepageError(`Unable to set pages (${got} instead of ${pages} in ${file}): ${why}`)
}

function poolsOf(size: number, node: string | undefined): readonly HugepagePool[] {
  const all = hugepagePools()
  const sized = all.filter((pool) => pool.size === size)
  if (sized.length === 0) {
    const valid = [...new Set(all.map((pool) => `${pool.size}kB`))].join(' ')
    throw new HugepageError(`Invalid page size. Valid page sizes: ${valid === '' ? 'none' : valid}`)
  }
  if (node === undefined) return sized
  const chosen = sized.filter((pool) => String(pool.node) === node)
  if (chosen.length > 0) return chosen
  throw new HugepageError(`expected a node of ${sized.map((pool) => pool.node).join(', ')}, got ${node}`)
}

/** What to reserve: pages for each pool. */
function plan(text: string, size: number, node: string | undefined) {
  const kib = kibOf(text)
  if (kib % size !== 0) {
    throw new HugepageError(`Huge reservation ${kib}kB is not a multiple of page size ${size}kB`)
  }
  return { pools: poolsOf(size, node), pages: kib / size }
}

const mountPoints = (): readonly string[] =>
  (readText('/proc/mounts') ?? '')
    .split('\n')
    .map((line) => line.split(' '))
    .flatMap(([, point, kind]) => (kind === 'hugetlbfs' ? [point!] : []))

function runProgram(program: string, args: readonly string[]): void {
  try {
    execFileSync(program, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  } catch (error) {
    throw new HugepageError(`${program} ${args.join(' ')} failed`, { cause: error })
  }
}

function mount({ directory, user, group }: Given, size: number, host: Host): void {
  if (mountPoints().includes(directory)) {
    host.out(`${directory} already mounted\n`)
    return
  }
  mkdirSync(directory, { recursive: true })
  const options = [`pagesize=${size * 1024}`]
  if (user !== undefined) options.push(`uid=${user}`)
  if (group !== undefined) options.push(`gid=${group}`)
  runProgram('mount', ['-t', 'hugetlbfs', '-o', options.join(','), 'nodev', directory])
}

function unmount(directory: string): void {
  if (mountPoints().includes(directory)) runProgram('umount', [directory])
}

function show(): string {
  const pools = hugepagePools()
  const shown = pools.filter((pool) => pool.total > 0)
  const numa = pools.some((pool) => pool.node !== undefined)
  const lines = shown.map(({ node, total, size }) => {
    const columns = [String(total).padEnd(5), sizeText(size).padEnd(6), sizeText(total * size)]
    return (numa ? [String(node).padEnd(4), ...columns] : columns).join(' ')
  })
  const points = mountPoints()
  const mounts = points.length === 0 ? 'Hugepages not mounted' : `Hugepages mounted on ${points.join(' ')}`
  return [numa ? 'Node Pages Size Total' : 'Pages Size Total', ...lines, '', mounts, ''].join('\n')
}

const asJson = (): string => {
  const pages = hugepagePools().map(({ node, size, total, free }) => ({
    node: node ?? null,
    size,
    total,
    free,
  }))
  return `${JSON.stringify({ pages, mounts: mountPoints(), defaultSize: defaultHugepage() ?? null }, null, 2)}\n`
}

function run(given: Given, host: Host): void {
  const whole = given.setup !== undefined
  const wanted = given.setup ?? given.reserve
  const acts = [given.show, given.json, given.clear, given.mount, given.unmount, wanted]
  if (acts.every((one) => one === undefined)) throw new HugepageError('no action specified')
  const size = given.pagesize === undefined ? defaultHugepage() : kibOf(given.pagesize)
  if (size === undefined) throw new HugepageError('this kernel has no hugepages (CONFIG_HUGETLBFS)')
  // Before anything is taken away.
  const planned = wanted === undefined ? undefined : plan(wanted, size, given.node)
  if (whole || given.clear === true) for (const pool of hugepagePools()) setPages(pool, 0)
  if (whole || given.unmount === true) unmount(given.directory)
  for (const pool of planned?.pools ?? []) setPages(pool, planned!.pages)
  if (whole || given.mount === true) mount(given, size, host)
  if (given.json === true) host.out(asJson())
  else if (given.show === true) host.out(show())
}

/** Adds the command to the program. */
export function addHugepages(program: Command, host: Host): void {
  program
    .command('hugepages')
    .description('which hugepages there are, and reserving them, like dpdk-hugepages.py')
    .option('-s, --show', 'print the current huge page configuration')
    .option('-c, --clear', 'give all huge pages back')
    .option('-m, --mount', 'mount the huge page filesystem; vring needs none, DPDK does')
    .option('-u, --unmount', 'unmount it')
    .option('-d, --directory <dir>', 'mount point', MOUNT)
    .option('-U, --user <uid>', 'owner of the mounted directory')
    .option('-G, --group <gid>', 'group of the mounted directory')
    .option('-n, --node <node>', 'reserve on this NUMA node only; without, as much on each')
    .option('-p, --pagesize <size>', 'size of the pages, as 2M or 1G; default the kernel’s')
    .option('-r, --reserve <size>', 'reserve pages: bytes, with K, M or G')
    .option('--setup <size>', 'clear, unmount, reserve and mount')
    .option('--json', 'print the configuration as JSON')
    .action((given: Given) => {
      try {
        run(given, host)
        host.exit(0)
      } catch (error) {
        if (!(error instanceof HugepageError)) throw error
        host.err(`vring hugepages: ${error.message}\n`)
        host.exit(1)
      }
    })
}
