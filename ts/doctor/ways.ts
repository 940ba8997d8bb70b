/** The ways in which ports can be opened, and what each needs of the machine. */
import { asRoot, userName } from '../machine/process.ts'
import type { Check, CheckName } from './checks.ts'

/** `part`: only what somebody else has prepared, or only slower. */
export type State = 'ok' | 'part' | 'no'

interface Way {
  /** What it is called, here and on the command line. */
  readonly id: string
  readonly driver: string
  readonly title: string
  readonly needs: readonly CheckName[]
  /** One of these has to be. */
  readonly oneOf?: readonly CheckName[]
  /** It works without, but only with help. */
  readonly wants?: readonly CheckName[]
  /** What to do in the place of the fix of a `wants`. */
  readonly instead?: readonly string[]
}

/** What became of a {@link Way}. */
export interface Judged {
  readonly id: string
  readonly driver: string
  readonly title: string
  readonly state: State
  /** The checks that stand in its way. */
  readonly missing: readonly CheckName[]
  readonly fix: readonly string[]
}

const HUGE: readonly CheckName[] = ['hugepages-2M', 'hugepages-1G']

const ways = (): readonly Way[] => {
  const own = [asRoot(`ip tuntap add tap0 mode tap user ${userName()}`)]
  const memory: readonly CheckName[] = ['memory']
  const simple = (driver: string, title: string): Way => ({ id: driver, driver, title, needs: memory })
  const taps = { wants: ['new-tap'] as const, instead: own }
  return [
    simple('net_vhost', 'vhost-user device, for a VM or virtio-user'),
    { ...simple('net_virtio_user', 'vhost-user driver, of a back end'), id: 'vhost-user' },
    {
      id: 'vhost-net',
      driver: 'net_virtio_user',
      title: 'path=/dev/vhost-net, on a tap',
      needs: ['memory', 'vhost-net', 'tun'],
      ...taps,
    },
    {
      id: 'vhost-net-packet',
      driver: 'net_virtio_user',
      title: 'path=/dev/vhost-net, on any other device',
      needs: ['memory', 'vhost-net', 'packet-socket'],
    },
    { id: 'net_tap', driver: 'net_tap', title: 'tap or macvtap', needs: ['memory', 'tun'], ...taps },
    {
      id: 'net_af_packet',
      driver: 'net_af_packet',
      title: 'beside the kernel on its device',
      needs: ['memory', 'packet-socket'],
    },
    simple('net_pcap', 'captures'),
    simple('net_null', 'nothing and everything'),
    simple('net_ring', 'rings in this process'),
    {
      id: 'vfio-pci',
      driver: 'net_virtio_pci',
      title: 'PCI device by vfio-pci',
      needs: ['memory', 'vfio', 'iommu', 'lock'],
    },
    {
      id: 'uio_pci_generic',
      driver: 'net_virtio_pci',
      title: 'PCI device by uio_pci_generic',
      needs: ['uio', 'physical-address'],
      oneOf: HUGE,
    },
    {
      id: 'port-io',
      driver: 'net_virtio_pci',
      title: 'legacy PCI device by its I/O ports',
      needs: ['port-io', 'physical-address'],
      oneOf: HUGE,
    },
  ]
}

/** What each way comes to on a machine with these checks. */
export function judge(checks: readonly Check[]): readonly Judged[] {
  const of = new Map(checks.map((check) => [check.name, check]))
  const fails = (name: CheckName): boolean => of.get(name)?.ok !== true
  return ways().map(({ id, driver, title, needs, oneOf = [], wants = [], instead = [] }) => {
    const without = oneOf.length > 0 && oneOf.every(fails) ? oneOf.slice(0, 1) : []
    const missing = [...needs.filter(fails), ...without]
    const wanted = wants.filter(fails)
    const fix = [...missing, ...wanted].flatMap((name) => of.get(name)?.fix ?? [])
    const state = missing.length > 0 ? 'no' : wanted.length > 0 ? 'part' : 'ok'
    const more = wanted.length > 0 ? instead : []
    return {
      id,
      driver,
      title,
      state,
      missing: [...missing, ...wanted],
      fix: [...new Set([...fix, ...more])],
    }
  })
}
