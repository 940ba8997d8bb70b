/** What testpmd shows of a port, put together. */
import type { Port } from '../index.ts'
import type { PortFacts } from './print/info.ts'

const devargs = new WeakMap<Port, string>()

/** Keeps the devargs that a port was opened with, for `show port info`. `vdev` begins with the device's name. */
export function rememberDevargs(port: Port, vdev: string): void {
  const comma = vdev.indexOf(',')
  devargs.set(port, comma < 0 ? '' : vdev.slice(comma + 1))
}

/** What `show port info` and `show port summary` show of a port. */
export function factsOf(port: Port): PortFacts {
  const virtio = port.driver === 'net_virtio_user'
  const { info, rxMode } = port
  return {
    id: port.id,
    name: port.name,
    driver: port.driver,
    devargs: devargs.get(port) ?? '',
    mac: port.mac,
    mtu: port.mtu,
    link: port.link,
    promiscuous: rxMode.promiscuous,
    // Who receives everything receives what is sent to groups.
    allMulticast: rxMode.promiscuous || rxMode.allMulticast,
    vlan: { strip: rxMode.vlanStrip, filter: rxMode.vlans !== null },
    macAddresses: 64,
    minRxBuffer: virtio ? 64 : 0,
    maxRxLength: virtio ? 9728 : 0xffff_ffff,
    queues: {
      rx: port.queues.rx,
      tx: port.queues.tx,
      maxRx: info.maxRxQueues,
      maxTx: info.maxTxQueues,
    },
    descriptors: virtio ? { min: 32, max: 32768 } : { min: 0, max: 65535 },
  }
}
