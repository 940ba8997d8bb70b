/** IOMMU groups, and VFIO's way without. */
import { list, readText } from './sysfs.ts'

const GROUPS = '/sys/kernel/iommu_groups'
/** The parameter of the module `vfio` that lets devices be used without an IOMMU. */
export const NO_IOMMU = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode'

/** Devices that the IOMMU cannot keep apart. */
export interface IommuGroup {
  readonly id: number
  /** PCI addresses. */
  readonly devices: readonly string[]
}

/** All groups; none: there is no IOMMU, or it is switched off. */
export const iommuGroups = (): readonly IommuGroup[] =>
  list(GROUPS)
    .map((id) => ({ id: Number(id), devices: list(`${GROUPS}/${id}/devices`) }))
    .toSorted((a, b) => a.id - b.id)

/** Whether VFIO goes without an IOMMU; undefined: it cannot, or the module is not loaded. */
export function noIommuMode(): boolean | undefined {
  const value = readText(NO_IOMMU)
  return value === undefined ? undefined : value === 'Y' || value === '1'
}
