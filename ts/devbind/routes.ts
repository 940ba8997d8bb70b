/** Network devices of the kernel's that carry a route of this machine. */
import { list, readText } from '../machine/sysfs.ts'

const LINK_LOCAL = '169.254.'

/** The address of /proc/net/route: hexadecimal, the first byte last. */
const ipv4 = (hex: string): string =>
  [6, 4, 2, 0].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join('.')

function ipv4Devices(): string[] {
  const lines = (readText('/proc/net/route') ?? '').split('\n').slice(1)
  const routes = lines.map((line) => line.split(/\s+/))
  return routes.flatMap(([device, destination]) =>
    device === undefined || destination === undefined || ipv4(destination).startsWith(LINK_LOCAL)
      ? []
      : [device],
  )
}

/** Those of IPv6 that lead somewhere: neither to this machine itself, nor to the link, nor to groups. */
function ipv6Devices(): string[] {
  const RTF_UP = 0x1
  const RTF_LOCAL = 0x80000000
  return (readText('/proc/net/ipv6_route') ?? '').split('\n').flatMap((line) => {
    const fields = line.trim().split(/\s+/)
    const [destination = '', flags = '0', device] = [fields[0], fields[8], fields[9]]
    const bits = Number.parseInt(flags, 16)
    const counts = (bits & RTF_UP) !== 0 && (bits & RTF_LOCAL) === 0 && !/^f[ef]/.test(destination)
    return device !== undefined && device !== 'lo' && counts ? [device] : []
  })
}

/** The devices that carry a route. */
export const routedDevices = (): ReadonlySet<string> => new Set([...ipv4Devices(), ...ipv6Devices()])

/** What lies upon a device: bridges, bonds, VLANs, and what lies upon those. */
export function uppers(device: string): readonly string[] {
  const direct = list(`/sys/class/net/${device}`).flatMap((name) =>
    name.startsWith('upper_') ? [name.slice('upper_'.length)] : [],
  )
  return direct.flatMap((name) => [name].concat(uppers(name)))
}
