/** What a port receives: promiscuous modes, addresses, VLANs; its link. */
import { type Port, type RxMode, VringError } from '../../index.ts'
import { macText } from '../print/info.ts'
import type { Command, Scene } from './grammar.ts'
import { macOf, onPort } from './which.ts'

const MAX_VLAN = 4095

function setMode(what: string, ports: readonly Port[], on: boolean): void {
  for (const port of ports) port.setRxMode(what === 'promisc' ? { promiscuous: on } : { allMulticast: on })
}

function setModeOf(scene: Scene, what: string, id: number, on: boolean): void {
  const port = scene.session.ports.find((one) => one.id === id)
  if (port !== undefined) {
    setMode(what, [port], on)
    return
  }
  const mode = what === 'promisc' ? 'promiscuous' : 'all-multicast'
  scene.output.err(`Invalid port_id=${id}\n`)
  scene.output.err(
    `Error during ${on ? 'enabling' : 'disabling'} ${mode} mode for port ${id}: No such device\n`,
  )
}

function setLink({ session, output }: Scene, id: number, up: boolean): void {
  const port = session.ports.find((one) => one.id === id)
  if (port !== undefined) {
    port.setLink(up)
    return
  }
  output.err(`Invalid port_id=${id}\n\nSet link ${up ? 'up' : 'down'} fail.\n`)
}

function setVlan(port: Port, what: string, on: boolean): void {
  if (what === 'strip') port.setRxMode({ vlanStrip: on })
  else port.setRxMode({ vlans: on ? (port.rxMode.vlans ?? []) : null })
}

function changeVlan({ output }: Scene, port: Port, add: boolean, ids: readonly number[]): void {
  const { vlans } = port.rxMode
  const bad = ids.find((id) => id > MAX_VLAN)
  if (bad !== undefined) {
    output.err(`Invalid vlan_id ${bad} (must be < ${MAX_VLAN + 1})\n`)
  } else if (vlans === null) {
    output.err(`Port ${port.id}: VLAN-filtering disabled\n`)
    const [first = 0] = ids
    output.err(
      `rte_eth_dev_vlan_filter(port_pi=${port.id}, vlan_id=${first}, on=${Number(add)}) failed diag=-38\n`,
    )
  } else {
    const kept = new Set(vlans)
    for (const id of ids)
      if (add) kept.add(id)
      else kept.delete(id)
    port.setRxMode({ vlans: [...kept] })
  }
}

const ALL_VLANS = Array.from({ length: MAX_VLAN + 1 }, (_, id) => id)

/** Why an address was refused, as testpmd says it. */
function macError(error: unknown): string {
  if (!(error instanceof VringError)) throw error
  return error.code === 'ERR_VRING_OUT_OF_RANGE' ? 'Invalid argument' : 'Operation not supported'
}

function changeMac({ output }: Scene, port: Port, what: string, mac: string): void {
  const { macs } = port.rxMode
  try {
    if (what === 'set') port.setMac(mac)
    else if (what === 'add') {
      if (mac !== port.mac && !macs.includes(mac)) port.setRxMode({ macs: [...macs, mac] })
    } else if (mac === port.mac) output.err('mac_addr_cmd error: (Cannot assign requested address)\n')
    else port.setRxMode({ macs: macs.filter((other) => other !== mac) })
  } catch (error) {
    output.err(`mac_addr_cmd error: (${macError(error)})\n`)
  }
}

function changeGroup({ output }: Scene, port: Port, add: boolean, mac: string): void {
  const { multicast } = port.rxMode
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 0) {
    output.err(`Invalid multicast addr ${macText(mac)}\n`)
  } else if (add && multicast.includes(mac)) {
    output.err('multicast address already filtered by port\n')
  } else if (!add && !multicast.includes(mac)) {
    output.err(`multicast address not filtered by port ${port.id}\n`)
  } else {
    port.setRxMode({ multicast: add ? [...multicast, mac] : multicast.filter((other) => other !== mac) })
  }
}

function withMac(scene: Scene, id: number, word: string, then: (port: Port, mac: string) => void): void {
  const mac = macOf(word)
  if (mac === undefined) scene.output.out('Bad arguments\n')
  else onPort(scene, id, (port) => then(port, mac))
}

function list(title: string, macs: readonly string[]): string {
  const rows = macs.map((mac) => `  ${macText(mac)}\n`)
  return `Number of ${title} added: ${macs.length}\n${rows.join('')}`
}

const macList = (port: Port, what: string, { macs, multicast }: RxMode): string =>
  what === 'macs' ? list('MAC address', [port.mac, ...macs]) : list('Multicast MAC address', multicast)

export const RECEIVE_COMMANDS: readonly Command[] = [
  {
    pattern: 'set promisc|allmulti all on|off',
    section: 'config',
    help: 'Receive packets to any address, or to any group, on every port.',
    run: (scene, [what, on]) => setMode(String(what), scene.session.ports, on === 'on'),
  },
  {
    pattern: 'set promisc|allmulti <port:16> on|off',
    section: 'config',
    help: 'The same on one port.',
    run: (scene, [what, id, on]) => setModeOf(scene, String(what), Number(id), on === 'on'),
  },
  {
    pattern: 'set link-up|link-down port <port:16>',
    section: 'config',
    help: 'Set the link of a port up or down, whatever its peer does.',
    run: (scene, [what, id]) => setLink(scene, Number(id), what === 'link-up'),
  },
  {
    pattern: 'vlan set filter|strip on|off <port:16>',
    section: 'config',
    help: 'Receive packets of chosen VLANs only; take tags out of packets.',
    run: (scene, [what, on, id]) =>
      onPort(scene, Number(id), (port) => setVlan(port, String(what), on === 'on')),
  },
  {
    pattern: 'rx_vlan add|rm all <port:16>',
    section: 'config',
    help: 'Choose all VLANs, or none.',
    run: (scene, [what, id]) =>
      onPort(scene, Number(id), (port) => changeVlan(scene, port, what === 'add', ALL_VLANS)),
  },
  {
    pattern: 'rx_vlan add|rm <vlan:16> <port:16>',
    section: 'config',
    help: 'Choose a VLAN, or no longer.',
    run: (scene, [what, vlan, id]) =>
      onPort(scene, Number(id), (port) => changeVlan(scene, port, what === 'add', [Number(vlan)])),
  },
  {
    pattern: 'mac_addr add|remove|set <port:16> <mac>',
    section: 'config',
    help: 'Receive packets to one more address, or no longer; change the own address.',
    run: (scene, [what, id, word]) =>
      withMac(scene, Number(id), String(word), (port, mac) => changeMac(scene, port, String(what), mac)),
  },
  {
    pattern: 'mcast_addr add|remove <port:16> <mac>',
    section: 'config',
    help: 'Receive packets to a group, or no longer.',
    run: (scene, [what, id, word]) =>
      withMac(scene, Number(id), String(word), (port, mac) => changeGroup(scene, port, what === 'add', mac)),
  },
  {
    pattern: 'show port <port:16> macs|mcast_macs',
    section: 'display',
    help: 'The addresses, or the groups, of a port.',
    run: (scene, [id, what]) =>
      onPort(scene, Number(id), (port) => scene.output.out(macList(port, String(what), port.rxMode))),
  },
]
