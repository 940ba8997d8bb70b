/** What the kernel's side does to an interface, as requests to the application. */
import type { DeviceState } from '../../index.js'

/** What somebody did to the interface: `ip link set vEth0 up`, `… mtu 9000`, `… address …`, `tcpdump -i vEth0`, … */
export type KniRequest =
  /** It was switched on or off. */
  | { readonly kind: 'link'; readonly up: boolean }
  /** Bytes of the largest payload of a frame. */
  | { readonly kind: 'mtu'; readonly mtu: number }
  /** An Ethernet address, as `02:00:00:00:00:01`. */
  | { readonly kind: 'mac'; readonly mac: string }
  /** Packets to all addresses, or to all groups, are wanted, or not any more. */
  | { readonly kind: 'promiscuous' | 'allMulticast'; readonly on: boolean }

/** The settings of an interface that requests are about. */
export type Settings = Pick<DeviceState, 'up' | 'mtu' | 'mac' | 'promiscuous' | 'allMulticast'>

/** What lies between two looks at an interface, in the order in which it is to be applied. */
export function requestsBetween(before: Settings, now: Settings): readonly KniRequest[] {
  const requests: KniRequest[] = []
  if (now.mac !== before.mac) requests.push({ kind: 'mac', mac: now.mac })
  if (now.mtu !== before.mtu) requests.push({ kind: 'mtu', mtu: now.mtu })
  for (const kind of ['promiscuous', 'allMulticast'] as const)
    if (now[kind] !== before[kind]) requests.push({ kind, on: now[kind] })
  if (now.up !== before.up) requests.push({ kind: 'link', up: now.up })
  return requests
}

/** `settings` with what a request is about as it is in `now`. */
export function withSetting(settings: Settings, { kind }: KniRequest, now: Settings): Settings {
  const key = kind === 'link' ? 'up' : kind
  return { ...settings, [key]: now[key] }
}

/** A request in words. */
export function requestText(request: KniRequest): string {
  if (request.kind === 'link') return request.up ? 'up' : 'down'
  if (request.kind === 'mtu') return `mtu ${request.mtu}`
  if (request.kind === 'mac') return `address ${request.mac}`
  return `${request.kind === 'promiscuous' ? 'promisc' : 'allmulticast'} ${request.on ? 'on' : 'off'}`
}
