/** Giving a device another driver. */
import { existsSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { NO_IOMMU, noIommuMode } from '../machine/iommu.ts'
import { moduleFix } from '../machine/modules.ts'
import { asRoot } from '../machine/process.ts'
import { list } from '../machine/sysfs.ts'
import { holdersOf } from './holders.ts'
import { devicePath, driverPath, lookAgain, type PciDevice, USER_DRIVERS } from './scan.ts'

/** What a person must know about why it was not done. */
export class BindError extends Error {
  override readonly name = 'BindError'
}

/** How careful to be. */
export interface BindOptions {
  /** Take devices that carry a route, or that a program has. */
  readonly force: boolean
  /** Where there is no IOMMU, switch VFIO's mode without on. */
  readonly noIommu: boolean
}

/** What was done: `bound`, `unbound`, or nothing, and why. */
export type Outcome =
  | { readonly done: true }
  | { readonly done: false; readonly notice: string; readonly refused: boolean }

const refused = (notice: string): Outcome => ({ done: false, notice, refused: true })
const idle = (notice: string): Outcome => ({ done: false, notice, refused: false })

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error)
    const help = code === 'EACCES' ? ': need to be root' : ''
    throw new BindError(`Cannot write ${path}: ${code}${help}`, { cause: error })
  }
}

/** Why this device may not be taken from who has it. */
function inUse(device: PciDevice, consequence: string): string | undefined {
  if (device.route !== undefined) {
    const carries = device.interfaces.includes(device.route) ? '' : ` (${device.route} lies upon it)`
    return `Warning: routing table indicates that interface ${device.address} is active${carries}. ${consequence}`
  }
  const [holder] = holdersOf(device)
  if (holder === undefined) return undefined
  const { name, pid, file } = holder
  return `Warning: ${device.address} is in use: ${name} (process ${pid}) has ${file} open. ${consequence}`
}

function detach({ address, driver }: PciDevice): void {
  if (driver !== undefined) write(driverPath(driver, 'unbind'), address)
}

/** The driver alone decides whether it takes the device, unless it takes whatever it is told to. */
function attach(address: string, driver: string): void {
  const override = devicePath(address, 'driver_override')
  const told = USER_DRIVERS.includes(driver)
  if (told) write(override, driver)
  try {
    write(driverPath(driver, 'bind'), address)
  } finally {
    // Or no other driver would get the device later.
    if (told) write(override, '\n')
  }
  if (lookAgain(address).driver !== driver)
    throw new BindError(`the driver ${driver} did not take ${address}`)
}

/** What the kernel's refusal means, where it can be known. */
function explain({ address, iommuGroup }: PciDevice, driver: string): string {
  if (driver !== 'vfio-pci') {
    return USER_DRIVERS.includes(driver) ? '' : `; does ${driver} know this device? (unused= in --status)`
  }
  if (iommuGroup !== undefined) return ''
  const boot =
    'switch the IOMMU on (VT-d or AMD-Vi in the firmware, intel_iommu=on on the command line of an Intel kernel)'
  return `; ${address} is behind no IOMMU: ${boot}, or give --noiommu-mode, or use uio_pci_generic`
}

/** Lets VFIO do without an IOMMU where there is none. Devices can write anywhere then. */
function allowNoIommu({ address, iommuGroup }: PciDevice): void {
  if (iommuGroup !== undefined || noIommuMode() === true) return
  if (noIommuMode() === undefined) {
    const kernel = `this kernel (${release()}) has no VFIO without IOMMU (CONFIG_VFIO_NOIOMMU)`
    throw new BindError(`${address} is behind no IOMMU, and ${kernel}; use uio_pci_generic`)
  }
  write(NO_IOMMU, '1')
}

/** The driver's name in sysfs, whichever of `-` and `_` was typed. Throws what to do when it is not there. */
export function driverNamed(word: string): string {
  const plain = (name: string): string => name.replaceAll('-', '_')
  const name = list(driverPath('')).find((one) => plain(one) === plain(word))
  if (name !== undefined) return name
  const fix = moduleFix(word)
  throw new BindError(`Driver '${word}' is not loaded.${fix === undefined ? '' : ` Try: ${fix}`}`)
}

/** Takes a device from its driver. */
export function unbind(device: PciDevice, { force }: BindOptions): Outcome {
  const { address, name, interfaces, driver } = device
  if (driver === undefined) {
    const words = [address, name, interfaces.join(',')].join(' ')
    return idle(`Notice: ${words} is not currently managed by any driver`)
  }
  const use = force ? undefined : inUse(device, 'Skipping unbind')
  if (use !== undefined) return refused(use)
  detach(device)
  return { done: true }
}

/** Gives a device to `driver`. When the driver does not take it, it gets back the one that it had. */
export function bind(device: PciDevice, driver: string, options: BindOptions): Outcome {
  const { address } = device
  if (device.driver === driver) return idle(`Notice: ${address} already bound to driver ${driver}, skipping`)
  const use = options.force ? undefined : inUse(device, 'Not modifying')
  if (use !== undefined) return refused(use)
  if (driver === 'vfio-pci' && options.noIommu) allowNoIommu(device)
  detach(device)
  try {
    attach(address, driver)
  } catch (error) {
    if (!(error instanceof BindError)) throw error
    const failed = `bind failed for ${address} - Cannot bind to driver ${driver}: ${error.message}${explain(device, driver)}`
    throw new BindError(`${failed}. ${restore(device)}`, { cause: error })
  }
  return { done: true }
}

function restore({ address, driver }: PciDevice): string {
  if (driver === undefined) return 'It had no driver before'
  try {
    attach(address, driver)
    return `It is bound to ${driver} again`
  } catch (error) {
    const command = asRoot(`sh -c 'echo ${address} > ${driverPath(driver, 'bind')}'`)
    return `${driver} did not take it back (${(error as Error).message}); try: ${command}`
  }
}

/** Whether the kernel has a PCI bus at all. */
export const hasPci = (): boolean => existsSync(devicePath(''))
