// `vring doctor`, `vring devbind` and `vring hugepages` where modules can be loaded and devices be taken: in one guest, and one
// without an IOMMU.
import test from 'ava'
import { needs } from '../rig/index.ts'
import { declareInside, Guest } from './rig/index.ts'

const CLI = `node ${new URL('../../dist/cli.js', import.meta.url).pathname}`
const IOMMU = ['-device', 'intel-iommu,intremap=off,caching-mode=on,device-iotlb=on']
const nic = (id: string, properties = ''): string[] => [
  ...['-netdev', `hubport,id=${id},hubid=0`],
  ...['-device', `virtio-net-pci,netdev=${id},disable-legacy=on${properties}`],
]
const behindIommu = ',iommu_platform=on,ats=on'

await declareInside(test, new URL('inside/tools.spec.ts', import.meta.url).pathname, 'guest', 'in a guest', {
  machine: 'q35,kernel-irqchip=off',
  memory: 2048,
  append: 'intel_iommu=on iommu=pt isolcpus=1',
  args: [...IOMMU, ...['a', 'b', 'c'].flatMap((id) => nic(id, behindIommu))],
})

needs(test, 'guest')(
  'vfio-pci without an IOMMU: the refusal says why, and the device is not lost',
  async (t) => {
    await using guest = await Guest.start({ args: nic('a') })
    await guest.run('modprobe virtio_net; modprobe vfio-pci')
    const address = await guest.run('cd /sys/class/net/eth0/device/..; basename $(pwd -P)')
    const { status, output } = await guest.attempt(`${CLI} devbind -b vfio-pci ${address}`)
    t.is(status, 1)
    t.regex(
      output,
      /EINVAL; \S+ is behind no IOMMU: .*--noiommu-mode, or use uio_pci_generic\. It is bound to virtio-pci again/,
    )
    // Debian's kernels cannot do without.
    const unsafe = await guest.attempt(`${CLI} devbind --noiommu-mode -b vfio-pci ${address}`)
    t.regex(
      unsafe.output,
      /behind no IOMMU, and this kernel .* has no VFIO without IOMMU.*use uio_pci_generic/,
    )
    t.regex(await guest.run('ls /sys/class/net'), /eth0/)
    const doctor = await guest.attempt(`${CLI} doctor vfio-pci`)
    t.is(doctor.status, 1)
    t.regex(doctor.output, /no IOMMU groups[^]*-> switch VT-d or AMD-Vi on/)
  },
)
