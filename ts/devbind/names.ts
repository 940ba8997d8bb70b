/** The names of devices, from the list of PCI identifiers that lspci reads too. */
import { readText } from '../machine/sysfs.ts'

const FILES = [
  '/usr/share/misc/pci.ids',
  '/usr/share/hwdata/pci.ids',
  '/usr/share/pci.ids',
  '/usr/local/share/pci.ids',
]

/** Looks names up; the list is read once. */
export class DeviceNames {
  readonly #lines: readonly string[]

  constructor(files: readonly string[] = FILES) {
    this.#lines = (files.map(readText).find((text) => text !== undefined) ?? '').split('\n')
  }

  /** The name of a device by two numbers of four hexadecimal digits; `Device` where it has none. */
  of(vendor: string, device: string): string {
    const start = this.#lines.findIndex((line) => line.startsWith(`${vendor}  `))
    if (start < 0) return 'Device'
    for (const line of this.#lines.slice(start + 1)) {
      if (line.startsWith(`\t${device}  `)) return line.slice(device.length + 3).trim()
      // The next vendor begins. Comments and subsystems are passed over.
      if (/^[0-9a-fC]/.test(line)) break
    }
    return 'Device'
  }
}
