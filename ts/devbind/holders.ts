/** Programs that have a device now. Taking it away from one waits in the kernel until the program lets go of it. */
import { list, linkName, readText } from '../machine/sysfs.ts'
import { readlinkSync } from 'node:fs'
import { devicePath, type PciDevice } from './scan.ts'

/** A program. */
export interface Holder {
  readonly pid: number
  readonly name: string
  readonly file: string
}

/** The files through which programs reach a device. */
export function filesOf({ address, iommuGroup }: PciDevice): readonly string[] {
  const uio = list(devicePath(address, 'uio')).map((name) => `/dev/${name}`)
  const vfio = iommuGroup === undefined ? [] : [`/dev/vfio/${iommuGroup}`, `/dev/vfio/noiommu-${iommuGroup}`]
  return [...uio, ...vfio]
}

function opened(pid: string): readonly string[] {
  return list(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)]
    } catch {
      return [] // closed meanwhile, or not ours to see
    }
  })
}

/** Who has the device, as far as this process may see. */
export function holdersOf(device: PciDevice): readonly Holder[] {
  if (linkName(devicePath(device.address, 'driver')) === undefined) return []
  const files = new Set(filesOf(device))
  if (files.size === 0) return []
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const file = opened(pid).find((path) => files.has(path))
      return file === undefined
        ? []
        : [{ pid: Number(pid), name: readText(`/proc/${pid}/comm`) ?? '?', file }]
    })
}
