// `vring doctor` where the kernel's modules can be loaded: in one guest.
import test from 'ava'
import { declareInside } from './rig/index.ts'

const IOMMU = ['-device', 'intel-iommu,intremap=off,caching-mode=on,device-iotlb=on']

await declareInside(test, new URL('inside/tools.spec.ts', import.meta.url).pathname, 'guest', 'in a guest', {
  machine: 'q35,kernel-irqchip=off',
  append: 'intel_iommu=on iommu=pt isolcpus=1',
  args: IOMMU,
})
