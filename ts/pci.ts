/** The PCI bus: which devices there are for `net_virtio_pci`. */
import { native } from './binding.ts'

/** A virtio network device on the PCI bus. */
export interface PciDevice {
  /** Its address, as `0000:00:03.0`. */
  readonly address: string
  /** How a process can have it: by VFIO, by UIO, or directly, since no driver has it. Undefined while a driver of the kernel's has it. */
  readonly access: 'vfio' | 'uio' | 'none' | undefined
  /** The driver of the kernel's that has it. */
  readonly driver: string | undefined
}

/** The virtio network devices of this machine, by address. */
export function pciDevices(): readonly PciDevice[] {
  return native.pciDevices().map(({ address, access, driver }) => ({
    address,
    access: driver === undefined ? ((access ?? 'none') as 'vfio' | 'uio' | 'none') : undefined,
    driver,
  }))
}
