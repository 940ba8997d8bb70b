/** What an interface is made of, opened and closed in order. */
import { accessSync, constants } from 'node:fs'
import type { DeviceHandle, MacvtapHandle } from '../../index.js'
import { native } from '../binding.ts'
import type { PortOptions } from '../devargs.ts'
import { attempt, VringError } from '../errors.ts'
import type { KniOptions } from '../kni.ts'
import { Lcore } from '../lcore.ts'
import { Port } from '../port.ts'

const VHOST_NET = '/dev/vhost-net'

/** See the file. */
export interface KniParts {
  readonly name: string
  /** The port at the interface's other end. */
  readonly user: Port
  /** With loopback: what the loops have in its place. */
  readonly ring: Port | undefined
  /** The interface, for what is done to it. */
  readonly device: DeviceHandle
  /** A macvtap on top, for a virtual machine. It goes with the interface. */
  readonly macvtap: MacvtapHandle | undefined
  readonly ingress: Lcore
  readonly egress: Lcore
}

/** Whether this process may use vhost in the kernel. */
function hasVhost(): boolean {
  try {
    accessSync(VHOST_NET, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

function userDevice(port: Port, name: string, options: KniOptions): PortOptions {
  const { netns, ip, vhost = hasVhost(), queueSize = 1024 } = options
  const kernel = {
    ...{ iface: name, mac: port.mac, queues: port.rxQueues.length },
    ...(netns === undefined ? {} : { netns }),
    ...(ip === undefined ? {} : { ip }),
  }
  return vhost
    ? { driver: 'net_virtio_user', name: `net_virtio_user_${name}`, path: VHOST_NET, queueSize, ...kernel }
    : { driver: 'net_tap', name: `net_tap_${name}`, ...kernel }
}

/** Vhost would take any device of that name; an interface of ours is a tap. */
function checkKind(user: Port, name: string): void {
  const kind = user.info.details['device kind']
  if (kind === 'tap') return
  const message = `expected ${name} to be a tap, or not to be there yet, it is used as a ${kind}; give another name`
  throw new VringError('ERR_VRING_DEVICE_KIND', message)
}

const lcore = (name: string, cpu: number | undefined): Lcore =>
  new Lcore({ name, ...(cpu === undefined ? {} : { cpu }) })

/** Opens all parts. When one cannot be had, those before it are given back. */
export async function openParts(port: Port, options: KniOptions): Promise<KniParts> {
  const { name = `vEth${port.id}`, netns, vmm = false, loopback = false } = options
  const { mempool, mtu } = port
  const queues = { mempool, rxQueues: port.rxQueues.length, txQueues: port.txQueues.length }
  const opened: Port[] = []
  const lcores: Lcore[] = []
  let device: DeviceHandle | undefined
  try {
    const user = await Port.open(userDevice(port, name, options), { ...queues, mtu })
    opened.push(user)
    checkKind(user, name)
    if (loopback) opened.push(await Port.open({ driver: 'net_ring', name: `net_ring_${name}` }, queues))
    lcores.push(lcore(`${name}-in`, options.ingressCpu))
    lcores.push(lcore(`${name}-out`, options.egressCpu))
    device = attempt(() => native.openDevice(name, netns))
    const macvtap = vmm ? attempt(() => device!.handOff(`${name}-vm`)) : undefined
    return { name, user, ring: opened[1], device, macvtap, ingress: lcores[0]!, egress: lcores[1]! }
  } catch (error) {
    device?.close()
    await Promise.all([...lcores, ...opened].map((part) => part.close()))
    throw error
  }
}

/** Stops both loops. */
export async function stopLoops({ ingress, egress }: KniParts): Promise<void> {
  await Promise.all([ingress.close(), egress.close()])
}

/** Stops the loops, then gives all back: the interface is deleted, and what is on top of it. */
export async function closeParts(parts: KniParts): Promise<void> {
  const { user, ring, device, macvtap } = parts
  await stopLoops(parts)
  macvtap?.close()
  device.close()
  await Promise.all([ring?.close(), user.close()])
}
