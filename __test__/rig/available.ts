// What this machine can run: which peers are installed and which privileges we have, each with a reason when not.
import { execFileSync } from 'node:child_process'
import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import type { ExecutionContext, TestFn } from 'ava'
import { kernelFolder } from '../../scripts/kernels.mjs'

export type Need =
  | 'guest'
  | 'guest-6.12'
  | 'terminal'
  | 'dpdk'
  | 'devbind'
  | 'telemetry'
  | 'qemu'
  | 'tcpdump'
  | 'tshark'
  | 'root'
  | 'hugepages'
  | 'tun'
  | 'netns'
  | 'unprivileged'

const HUGEPAGES = '/proc/sys/vm/nr_hugepages'

function installed(command: string, packageName: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']
  if (folders.some((folder) => existsSync(`${folder}/${command}`))) return undefined
  return `${command} is not installed (Debian: ${packageName})`
}

function isRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'needs root'
}

function canWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

const freeHugepages = (): number =>
  Number(/HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0)

function hugepages(): string | undefined {
  if (!existsSync(HUGEPAGES)) return 'this kernel has no hugepages'
  if (freeHugepages() > 0 || canWrite(HUGEPAGES)) return undefined
  return `no hugepage is free and ${HUGEPAGES} is not writable`
}

function tun(): string | undefined {
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun'
  if (!statSync('/dev/net/tun').isCharacterDevice()) return '/dev/net/tun is no device'
  return isRoot()
}

function netns(): string | undefined {
  const reason = isRoot() ?? installed('ip', 'iproute2') ?? installed('unshare', 'util-linux')
  if (reason !== undefined) return reason
  try {
    execFileSync('unshare', ['--net', 'true'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'network namespaces cannot be made here'
  }
}

/** A guest with Debian's kernel of this series. */
function guest(series: string): string | undefined {
  const programs =
    installed('qemu-system-x86_64', 'qemu-system-x86 ipxe-qemu seabios') ??
    installed('busybox', 'busybox-static') ??
    installed('cpio', 'cpio')
  if (programs !== undefined || kernelFolder(series) !== undefined) return programs
  return `Debian's kernel ${series} is not in the cache (npm run guest -- --kernel ${series} true)`
}

const checks: Readonly<Record<Need, () => string | undefined>> = {
  terminal: () => installed('script', 'bsdutils'),
  dpdk: () => installed('dpdk-testpmd', 'dpdk-dev') ?? installed('script', 'bsdutils'),
  devbind: () => installed('dpdk-devbind.py', 'dpdk') ?? installed('lspci', 'pciutils'),
  telemetry: () => installed('dpdk-telemetry.py', 'dpdk-dev') ?? installed('python3', 'python3'),
  qemu: () => installed('qemu-system-x86_64', 'qemu-system-x86 ipxe-qemu seabios'),
  guest: () => guest('6.1'),
  'guest-6.12': () => guest('6.12'),
  tcpdump: () => installed('tcpdump', 'tcpdump'),
  tshark: () => installed('tshark', 'tshark'),
  root: isRoot,
  hugepages,
  tun,
  netns,
  unprivileged: () => isRoot() ?? installed('setpriv', 'util-linux'),
}

const known = new Map<Need, string | undefined>()

/** Why `need` cannot be met on this machine, or undefined when it can. */
export function missing(need: Need): string | undefined {
  if (!known.has(need)) known.set(need, checks[need]())
  return known.get(need)
}

export type Declare<Context> = (
  title: string,
  run: (t: ExecutionContext<Context>) => Promise<void> | void,
) => void

/**
 * `test` when everything in `needs` is there. Otherwise a declaration that skips visibly: the reason becomes part of
 * the title. Usage: `needs(test, 'dpdk', 'root')('title', async (t) => { … })`.
 */
export function needs<Context>(test: TestFn<Context>, ...wanted: readonly Need[]): Declare<Context> {
  const reasons = wanted.map((need) => missing(need)).filter((reason) => reason !== undefined)
  if (reasons.length === 0) return (title, run) => test(title, run)
  return (title, run) => test.skip(`${title} [skipped: ${reasons.join('; ')}]`, run)
}

/** The CPUs this process may run on, smallest first. */
export function allowedCpus(): readonly number[] {
  const list = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}

/**
 * Makes sure that `count` 2 MiB hugepages are free, raising the system's number when it must.
 * Call the returned function at the end: it restores the number.
 */
export function reserveHugepages(count: number): () => void {
  const before = Number(readFileSync(HUGEPAGES, 'utf8'))
  if (freeHugepages() >= count) return () => {}
  writeFileSync(HUGEPAGES, String(before + count - freeHugepages()))
  const restore = (): void => writeFileSync(HUGEPAGES, String(before))
  const got = freeHugepages()
  if (got >= count) return restore
  restore()
  throw new Error(`wanted ${count} free hugepages of 2 MiB, the kernel could give ${got}`)
}
