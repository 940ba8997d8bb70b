/** `vring doctor`: what this machine can do, what is missing for which port, and what would give it. */
import { arch, release } from 'node:os'
import type { Command } from 'commander'
import { version } from '../binding.ts'
import type { Host } from '../command.ts'
import { VringError } from '../errors.ts'
import { allowedCpus, bootCpus } from '../machine/cpus.ts'
import { hugepagePools } from '../machine/hugepages.ts'
import { iommuGroups, noIommuMode } from '../machine/iommu.ts'
import { type ModuleState, moduleState } from '../machine/modules.ts'
import { capabilities, inContainer, inUserNamespace, memlockLimit, userName } from '../machine/process.ts'
import { type Check, runChecks } from './checks.ts'
import { type Judged, judge } from './ways.ts'

const MODULES = ['tun', 'macvtap', 'vhost_net', 'vfio-pci', 'uio_pci_generic', 'igb_uio'] as const

/** What `vring doctor --json` prints. */
interface Report {
  readonly machine: ReturnType<typeof machine>
  readonly checks: readonly Check[]
  readonly ports: readonly Judged[]
}

function machine() {
  const limit = memlockLimit()
  const modules = MODULES.map((name) => [name, moduleState(name)] as const)
  return {
    vring: version,
    node: process.version,
    kernel: release(),
    architecture: arch(),
    user: { id: process.getuid?.() ?? null, name: userName() },
    container: inContainer(),
    userNamespace: inUserNamespace(),
    capabilities: capabilities(),
    cpus: { allowed: allowedCpus(), isolated: bootCpus('isolated'), nohzFull: bootCpus('nohz_full') },
    memlock: Number.isFinite(limit) ? limit : null,
    hugepages: hugepagePools().map(({ node, size, total, free }) => ({
      node: node ?? null,
      size,
      total,
      free,
    })),
    iommuGroups: iommuGroups(),
    noIommu: noIommuMode() ?? null,
    modules: Object.fromEntries(modules) as Readonly<Record<(typeof MODULES)[number], ModuleState>>,
  }
}

const line = (word: string, title: string, width: number, detail: string): string =>
  `  ${word.padEnd(5)} ${title.padEnd(width)}  ${detail}`.trimEnd()
const fixes = (fix: readonly string[]): string[] => fix.map((one) => `          -> ${one}`)

function checkLines(checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ title }) => title.length))
  return checks.map(({ title, ok, detail }) => line(ok ? 'ok' : 'no', title, width, detail))
}

function portLines(ports: readonly Judged[], checks: readonly Check[]): string[] {
  const titles = new Map(checks.map(({ name, title }) => [name, title]))
  const name = ({ id, driver }: Judged): string => (id === driver ? driver : `${driver} (${id})`)
  const width = Math.max(...ports.map((port) => name(port).length))
  return ports.flatMap((port) => {
    const without = port.missing.map((check) => titles.get(check) ?? check).join(', ')
    const detail = without === '' ? port.title : `${port.title}; missing: ${without}`
    return [line(port.state, name(port), width, detail)].concat(fixes(port.fix))
  })
}

function advice(checks: readonly Check[]): string[] {
  const faster = new Set<string>(['hugepages-2M', 'membarrier', 'cpus', 'isolation'])
  const open = checks.filter(({ name, ok }) => !ok && faster.has(name))
  return open.flatMap(({ title, fix }) => [`  ${title}`].concat(fixes(fix)))
}

function print({ machine, checks, ports }: Report): string {
  const { user, kernel, architecture } = machine
  const where = machine.container ? ', in a container' : ''
  const caps = Object.entries(machine.capabilities).map(([name, has]) => `${has ? '+' : '-'}${name}`)
  const known = Object.entries(machine.modules).filter(([, state]) => state !== 'unknown')
  const modules = known.map(([name, state]) => `${name} ${state}`)
  const faster = advice(checks)
  return [
    `vring ${version}, node ${process.version}, Linux ${kernel} ${architecture}, user ${user.name} (${user.id})${where}`,
    `capabilities: ${caps.join(' ')}`,
    `modules: ${modules.length === 0 ? 'cannot be seen from here' : modules.join(', ')}`,
    '\nThis machine',
    ...checkLines(checks),
    '\nPorts',
    ...portLines(ports, checks),
    ...(faster.length === 0 ? [] : ['\nWhat would make ports faster', ...faster]),
    '',
  ].join('\n')
}

/** The ports that were asked for: by driver, or by way. */
function select(ports: readonly Judged[], names: readonly string[]): readonly Judged[] {
  if (names.length === 0) return ports
  return names.flatMap((name) => {
    const found = ports.filter(({ id, driver }) => id === name || driver === name)
    if (found.length > 0) return found
    const known = [...new Set(ports.flatMap(({ id, driver }) => [driver, id]))].join(', ')
    throw new VringError('ERR_VRING_UNKNOWN_DRIVER', `expected any of ${known}, got '${name}'`)
  })
}

/** Exit status: of each that was asked for one way must be there; asked for nothing, one port at all. */
function status(ports: readonly Judged[], names: readonly string[]): number {
  const works = (name: string): boolean =>
    ports.some(({ id, driver, state }) => (id === name || driver === name) && state !== 'no')
  if (names.length === 0) return ports.some(({ state }) => state !== 'no') ? 0 : 1
  return names.every(works) ? 0 : 1
}

/** Adds the command to the program. */
export function addDoctor(program: Command, host: Host): void {
  program
    .command('doctor')
    .description('what this machine can do, what is missing for which port, and what would give it')
    .argument(
      '[port...]',
      'drivers, or ways as in the list: the exit status is 1 if one of them cannot be opened',
    )
    .option('--json', 'the same as JSON')
    .action((names: readonly string[], { json }: { readonly json?: boolean }) => {
      const checks = runChecks()
      const all = judge(checks)
      const ports = select(all, names)
      const report = { machine: machine(), checks, ports }
      host.out(json === true ? `${JSON.stringify(report, null, 2)}\n` : print(report))
      host.exit(status(ports, names))
    })
}
