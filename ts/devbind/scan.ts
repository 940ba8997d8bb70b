/** The devices of the PCI bus, as sysfs shows them. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { matchesGlob } from '../machine/glob.ts'
import { moduleIsIn, modulesFor } from '../machine/modules.ts'
import { linkName, list, readText } from '../machine/sysfs.ts'
import { belongs, GROUPS, type Identity } from './groups.ts'
import { DeviceNames } from './names.ts'
import { routedDevices, uppers } from './routes.ts'

const PCI = '/sys/bus/pci'
const DEVICES = `${PCI}/devices`

/** Drivers that give a device to a program, in the order in which they are shown. */
export const USER_DRIVERS: readonly string[] = ['igb_uio', 'vfio-pci', 'uio_pci_generic']

/** A device. */
export interface PciDevice extends Identity {
  /** `0000:00:03.0`. */
  readonly address: string
  readonly name: string
  readonly driver: string | undefined
  /** The kernel's network devices on it. */
  readonly interfaces: readonly string[]
  /** The device of the kernel's that carries a route: one of `interfaces`, or what lies upon one. */
  readonly route: string | undefined
  /** Modules and drivers that it could have. */
  readonly unused: readonly string[]
  readonly iommuGroup: number | undefined
  readonly numaNode: number | undefined
}

/** Where a device is in sysfs. */
export const devicePath = (address: string, file = ''): string => join(DEVICES, address, file)
/** Where a driver is in sysfs. */
export const driverPath = (driver: string, file = ''): string => join(PCI, 'drivers', driver, file)

/** The drivers for programs that the kernel has now. */
export const loadedUserDrivers = (): readonly string[] => USER_DRIVERS.filter((name) => moduleIsIn(name))

/** Network devices on the device itself, or on the virtio device on it. */
function interfacesOf(address: string): readonly string[] {
  const path = devicePath(address)
  const folders = [path, ...list(path).map((name) => join(path, name))]
  const folder = folders.find((name) => existsSync(join(name, 'net', '.')))
  return folder === undefined ? [] : list(join(folder, 'net'))
}

const hex = (address: string, file: string): string =>
  (readText(devicePath(address, file)) ?? '').replace(/^0x/, '')

function numberAt(text: string | undefined): number | undefined {
  const value = Number(text)
  return text === undefined || Number.isNaN(value) || value < 0 ? undefined : value
}

interface Around {
  readonly names: DeviceNames
  readonly routed: ReadonlySet<string>
  readonly user: readonly string[]
}

function look(address: string, { names, routed, user }: Around): PciDevice {
  const [vendor, device] = [hex(address, 'vendor'), hex(address, 'device')]
  const driver = linkName(devicePath(address, 'driver'))
  const interfaces = interfacesOf(address)
  const above = interfaces.flatMap((name) => [name].concat(uppers(name)))
  const modules = modulesFor(readText(devicePath(address, 'modalias')) ?? '')
  return {
    address,
    class: hex(address, 'class'),
    vendor,
    device,
    name: names.of(vendor, device),
    driver,
    interfaces,
    route: above.find((name) => routed.has(name)),
    unused: [...new Set([...modules, ...user])].filter((name) => name !== driver),
    iommuGroup: numberAt(linkName(devicePath(address, 'iommu_group'))),
    numaNode: numberAt(readText(devicePath(address, 'numa_node'))),
  }
}

/** The device as it is now. */
export const lookAgain = (address: string): PciDevice =>
  look(address, { names: new DeviceNames(), routed: routedDevices(), user: loadedUserDrivers() })

/** Every device that is in one of the groups. */
export function scan(): readonly PciDevice[] {
  const around = { names: new DeviceNames(), routed: routedDevices(), user: loadedUserDrivers() }
  const shown = list(DEVICES).filter((address) => {
    const identity = {
      class: hex(address, 'class'),
      vendor: hex(address, 'vendor'),
      device: hex(address, 'device'),
    }
    return GROUPS.some((group) => belongs(group, identity))
  })
  return shown.map((address) => look(address, around))
}

/** The devices that a person's word means: an address with or without domain, a pattern of one, or a network device's name. */
export function find(devices: readonly PciDevice[], word: string): readonly PciDevice[] {
  const by = [word, `0000:${word}`]
  for (const pattern of by) {
    const found = devices.filter(({ address }) => address === pattern || matchesGlob(pattern, address))
    if (found.length > 0) return found
  }
  return devices.filter(({ interfaces }) => interfaces.includes(word))
}
