/** `show port info` and `show port summary`. */
import type { LinkStatus } from '../../index.ts'

/** What is shown about a port. Numbers are what the port really offers. */
export interface PortFacts {
  readonly id: number
  readonly name: string
  readonly driver: string
  /** The devargs as they were given, without the device's name. */
  readonly devargs: string
  readonly mac: string
  readonly mtu: number
  readonly link: LinkStatus
  readonly promiscuous: boolean
  readonly allMulticast: boolean
  readonly vlan: { readonly strip: boolean; readonly filter: boolean }
  readonly macAddresses: number
  readonly minRxBuffer: number
  readonly maxRxLength: number
  readonly queues: {
    readonly rx: number
    readonly tx: number
    readonly maxRx: number
    readonly maxTx: number
  }
  readonly descriptors: { readonly min: number; readonly max: number }
}

const UNKNOWN_SPEED = 0xffff_ffff

/** A link speed in Mbit/s in words. */
export function speedText(mbps: number): string {
  if (mbps === 0) return 'None'
  if (mbps === UNKNOWN_SPEED || mbps < 0 || !Number.isFinite(mbps)) return 'Unknown'
  return mbps < 1000 ? `${mbps} Mbps` : `${mbps / 1000} Gbps`
}

/** MAC addresses are shown in capitals. */
export const macText = (mac: string): string => mac.toUpperCase()

const onOff = (on: boolean, yes: string, no: string): string => (on ? yes : no)

function linkLines({ up, speed, duplex, autoneg }: LinkStatus): string[] {
  return [
    `Link status: ${onOff(up, 'up', 'down')}`,
    `Link speed: ${speedText(speed)}`,
    `Link duplex: ${duplex}-duplex`,
    `Autoneg status: ${onOff(autoneg, 'On', 'Off')}`,
  ]
}

function queueLines(kind: 'RX' | 'TX', current: number, max: number, facts: PortFacts): string[] {
  return [
    `Current number of ${kind} queues: ${current}`,
    `Max possible ${kind} queues: ${max}`,
    `Max possible number of ${kind}Ds per queue: ${facts.descriptors.max}`,
    `Min possible number of ${kind}Ds per queue: ${facts.descriptors.min}`,
    `${kind}Ds number alignment: 1`,
  ]
}

/** `show port info N`: one port's block. */
export function portInfo(facts: PortFacts): string {
  const { queues } = facts
  return [
    '',
    `********************* Infos for port ${String(facts.id).padEnd(2)} *********************`,
    `MAC address: ${macText(facts.mac)}`,
    `Device name: ${facts.name}`,
    `Driver name: ${facts.driver}`,
    'Firmware-version: not available',
    `Devargs: ${facts.devargs}`,
    'Connect to socket: 0',
    'memory allocation on the socket: 0',
    ...linkLines(facts.link),
    `MTU: ${facts.mtu}`,
    `Promiscuous mode: ${onOff(facts.promiscuous, 'enabled', 'disabled')}`,
    `Allmulticast mode: ${onOff(facts.allMulticast, 'enabled', 'disabled')}`,
    `Maximum number of MAC addresses: ${facts.macAddresses}`,
    'Maximum number of MAC addresses of hash filtering: 0',
    'VLAN offload: ',
    `  strip ${onOff(facts.vlan.strip, 'on', 'off')}, filter ${onOff(facts.vlan.filter, 'on', 'off')}, extend off, qinq strip off`,
    'No RSS offload flow type is supported.',
    `Minimum size of RX buffer: ${facts.minRxBuffer}`,
    `Maximum configurable length of RX packet: ${facts.maxRxLength}`,
    'Maximum configurable size of LRO aggregated packet: 0',
    ...queueLines('RX', queues.rx, queues.maxRx, facts),
    ...queueLines('TX', queues.tx, queues.maxTx, facts),
    'Max segment number per packet: 65535',
    'Max segment number per MTU/TSO: 65535',
    'Device capabilities: 0x0( )',
    'Device error handling mode: none',
    '',
  ].join('\n')
}

/** The two lines above the rows of `show port summary`. */
export const summaryHeader = (ports: number): string =>
  `Number of available ports: ${ports}\nPort MAC Address       Name         Driver         Status   Link\n`

/** One row of `show port summary`. */
export function summaryRow({ id, mac, name, driver, link }: PortFacts): string {
  const cells = [String(id).padEnd(4), macText(mac).padEnd(17), name.padEnd(12), driver.padEnd(14)]
  return `${cells.join(' ')} ${(link.up ? 'up' : 'down').padEnd(8)} ${speedText(link.speed)}\n`
}

/** A port's line of the link check at start, where link changes are not reported as events. */
export function linkLine(id: number, { up, speed, duplex, autoneg }: LinkStatus): string {
  if (!up) return `Port ${id} Link down\n`
  return `Port ${id} Link up at ${speedText(speed)} ${duplex === 'full' ? 'FDX' : 'HDX'} ${autoneg ? 'Autoneg' : 'Fixed'}\n`
}
