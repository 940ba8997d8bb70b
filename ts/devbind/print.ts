/** The tables of dpdk-devbind. */
import { belongs, type Group } from './groups.ts'
import type { PciDevice } from './scan.ts'

const headed = (title: string, line: string): string => `\n${title}\n${line.repeat(title.length)}\n`

function table(title: string, devices: readonly PciDevice[], more: (device: PciDevice) => string): string {
  if (devices.length === 0) return ''
  const lines = devices.map((device) => `${device.address} '${device.name} ${device.device}' ${more(device)}`)
  return `${headed(title, '=')}${lines.toSorted().join('\n')}\n`
}

/** One group: devices for programs, devices of the kernel's, and those without a driver. `user` are the drivers for programs. */
export function statusOf(group: Group, all: readonly PciDevice[], user: readonly string[]): string {
  const devices = all.filter((device) => belongs(group, device))
  const { title } = group
  if (devices.length === 0) return headed(`No '${title}' devices detected`, '=')
  const forPrograms = ({ driver }: PciDevice): boolean => driver !== undefined && user.includes(driver)
  const interfaces = ({ interfaces: names }: PciDevice): string =>
    group.name === 'net' ? `if=${names.join(',')} ` : ''
  const unused = (device: PciDevice): string => `unused=${device.unused.join(',')}`
  const active = ({ route }: PciDevice): string =>
    route === undefined || group.name !== 'net' ? '' : '*Active*'
  return [
    table(
      `${title} devices using DPDK-compatible driver`,
      devices.filter(forPrograms),
      (device) => `drv=${device.driver} ${unused(device)}`,
    ),
    table(
      `${title} devices using kernel driver`,
      devices.filter((device) => device.driver !== undefined && !forPrograms(device)),
      (device) => `${interfaces(device)}drv=${device.driver} ${unused(device)} ${active(device)}`,
    ),
    table(
      `Other ${title} devices`,
      devices.filter(({ driver }) => driver === undefined),
      unused,
    ),
  ].join('')
}
