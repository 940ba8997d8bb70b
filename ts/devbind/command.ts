/** `vring devbind`, in the words of dpdk-devbind.py. */
import { type Command, Option } from 'commander'
import type { Host } from '../command.ts'
import { bind, BindError, driverNamed, hasPci, type Outcome, unbind } from './bind.ts'
import { belongs, GROUPS, type GroupName } from './groups.ts'
import { statusOf } from './print.ts'
import { find, loadedUserDrivers, type PciDevice, scan } from './scan.ts'

interface Given {
  readonly status?: boolean
  readonly statusDev?: GroupName
  readonly bind?: string
  readonly unbind?: boolean
  readonly force?: boolean
  readonly noiommuMode?: boolean
  readonly json?: boolean
}

/** The devices of all words, each once. */
function resolve(devices: readonly PciDevice[], words: readonly string[]): readonly PciDevice[] {
  const found = words.flatMap((word) => {
    const those = find(devices, word)
    if (those.length > 0) return those
    throw new BindError(`Unknown device: ${word}. Please specify device in "bus:slot.func" format`)
  })
  return [...new Set(found)]
}

/** Does `action` to each device; false when it was refused for one, or failed. */
function each(devices: readonly PciDevice[], action: (device: PciDevice) => Outcome, host: Host): boolean {
  let well = true
  for (const device of devices) {
    try {
      const outcome = action(device)
      if (outcome.done) continue
      host.err(`${outcome.notice}\n`)
      well &&= !outcome.refused
    } catch (error) {
      if (!(error instanceof BindError)) throw error
      host.err(`Error: ${error.message}\n`)
      well = false
    }
  }
  return well
}

function change(words: readonly string[], given: Given, host: Host): boolean {
  const options = { force: given.force === true, noIommu: given.noiommuMode === true }
  const devices = scan()
  const driver = given.unbind === true ? 'none' : given.bind!
  if (/^none$/i.test(driver)) {
    const user = loadedUserDrivers()
    const chosen =
      words[0] === 'dpdk'
        ? devices.filter((device) => device.driver !== undefined && user.includes(device.driver))
        : resolve(devices, words)
    return each(chosen, (device) => unbind(device, options), host)
  }
  if (find(devices, driver).length > 0) {
    const forgot = 'Did you forget to specify the driver to bind devices to?'
    throw new BindError(`Driver '${driver}' does not look like a valid driver. ${forgot}`)
  }
  const name = driverNamed(driver)
  return each(resolve(devices, words), (device) => bind(device, name, options), host)
}

function show({ statusDev, status, json }: Given): string {
  const devices = scan()
  const groups = GROUPS.filter(({ name }) => status === true || name === statusDev)
  if (json === true) {
    const shown = groups.flatMap((group) =>
      devices
        .filter((device) => belongs(group, device))
        .map((device) =>
          Object.assign({ group: group.name }, device, { active: device.route !== undefined }),
        ),
    )
    return `${JSON.stringify(shown, null, 2)}\n`
  }
  const user = loadedUserDrivers()
  return groups.map((group) => statusOf(group, devices, user)).join('')
}

function run(words: readonly string[], given: Given, host: Host): number {
  const changes = given.bind !== undefined || given.unbind === true
  const shows = given.status === true || given.statusDev !== undefined
  if (!changes && !shows) {
    const actions = 'Please give a --bind, --unbind or --status option'
    throw new BindError(`No action specified for devices. ${actions}`)
  }
  if (changes && words.length === 0) throw new BindError('No devices specified.')
  if (!hasPci()) throw new BindError('This machine has no PCI bus: there is no /sys/bus/pci/devices')
  const well = !changes || change(words, given, host)
  if (shows) host.out(show(given))
  return well ? 0 : 1
}

const EXAMPLES = `
Examples:
  vring devbind --status-dev net
  vring devbind --bind=vfio-pci eth1
  vring devbind -u 0000:01:00.0
  vring devbind -b virtio-pci 01:00.0 01:00.1
`

/** Adds the command to the program. */
export function addDevbind(program: Command, host: Host): void {
  const groups = GROUPS.map(({ name }) => name)
  program
    .command('devbind')
    .description('which driver PCI devices have, and giving them another, like dpdk-devbind.py')
    .argument(
      '[device...]',
      'PCI addresses, with or without domain, patterns of them, or names of network devices',
    )
    .option('-s, --status', 'print the current status of all known devices')
    .addOption(new Option('--status-dev <group>', 'print the status of a group of devices').choices(groups))
    .addOption(new Option('-b, --bind <driver>', 'the driver to use, or "none"').conflicts('unbind'))
    .option(
      '-u, --unbind',
      'unbind devices, the same as "-b none"; "dpdk" means all that are bound for programs',
    )
    .option('--force', 'also devices that carry a route of this machine, or that a program has')
    .option(
      '--noiommu-mode',
      'where there is no IOMMU, let vfio-pci do without: a device can write anywhere then',
    )
    .option('--json', 'the status as JSON')
    .addHelpText('after', EXAMPLES)
    .action((words: readonly string[], given: Given) => {
      try {
        host.exit(run(words, given, host))
      } catch (error) {
        if (!(error instanceof BindError)) throw error
        host.err(`Error: ${error.message}\n`)
        host.exit(1)
      }
    })
}
