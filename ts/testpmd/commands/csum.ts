/** csum, tso, gso: what the csum engine does to packets that leave by a port. */
import type { Port } from '../../index.ts'
import { type CsumSettings, PLAIN_CSUM } from '../settings.ts'
import type { Command, Scene } from './grammar.ts'

/** How testpmd names them, in the order in which it shows them. */
const CHECKSUMS = {
  ip: 'IP',
  udp: 'UDP',
  tcp: 'TCP',
  sctp: 'SCTP',
  'outer-ip': 'Outer-Ip',
  'outer-udp': 'Outer-Udp',
} as const
/** Those that a packet can ask for: of IPv4 the engine makes the checksum itself, and the others it does not know. */
const ON_REQUEST: ReadonlySet<string> = new Set(['udp', 'tcp'])
/** The least that `set gso segsz` takes: Ethernet, IPv4 and TCP headers, and a byte. */
const MIN_GSO = 14 + 20 + 20 + 1

const settingsOf = ({ session }: Scene, id: number): CsumSettings =>
  session.settings.csum.get(id) ?? PLAIN_CSUM

function change(scene: Scene, id: number, changes: Partial<CsumSettings>): void {
  scene.session.settings.csum.set(id, { ...settingsOf(scene, id), ...changes })
}

/** Runs `then` on a port that is stopped, or says what is wrong. */
function onStopped(scene: Scene, id: number, then: (port: Port) => void, unknown = ''): void {
  const { session, output } = scene
  const port = session.ports.find((one) => one.id === id)
  if (port === undefined) output.err(`Invalid port ${id}\n${unknown}`)
  else if (port.started) output.err(`Please stop port ${id} first\n`)
  else then(port)
}

function show(scene: Scene, id: number): void {
  const { hw } = settingsOf(scene, id)
  const rows = Object.entries(CHECKSUMS).map(
    ([name, text]) => `${text} checksum offload is ${hw.has(name) ? 'hw' : 'sw'}\n`,
  )
  scene.output.out(`Parse tunnel is off\n${rows.join('')}`)
}

function setChecksum(scene: Scene, name: keyof typeof CHECKSUMS, hw: boolean, id: number): void {
  const names = new Set(settingsOf(scene, id).hw)
  if (!hw) names.delete(name)
  else if (ON_REQUEST.has(name)) names.add(name)
  else {
    const text = CHECKSUMS[name].replace('-Ip', ' IP').replace('-Udp', ' UDP')
    scene.output.err(`${text} checksum offload is not supported by port ${id}\n`)
  }
  change(scene, id, { hw: names })
  show(scene, id)
}

function showTso(scene: Scene, id: number): void {
  const { tso } = settingsOf(scene, id)
  scene.output.out(
    tso === 0
      ? 'TSO for non-tunneled packets is disabled\n'
      : `TSO segment size for non-tunneled packets is ${tso}\n`,
  )
}

function setGso(scene: Scene, id: number, on: boolean): void {
  const { session, output } = scene
  if (!session.ports.some((port) => port.id === id)) output.err(`invalid port id ${id}\n`)
  else if (session.forwarding)
    output.err(`before ${on ? 'enabling' : 'disabling'} GSO, please stop forwarding first\n`)
  else change(scene, id, { gso: on })
}

function setGsoSize({ session, output }: Scene, size: number): void {
  if (session.forwarding) output.err('Before setting GSO segsz, please first stop forwarding\n')
  else if (size < MIN_GSO)
    output.err(`gso_size should be larger than ${MIN_GSO}. Please input a legal value\n`)
  else session.settings.gsoSegment = size
}

function showGso(scene: Scene, id: number): void {
  const { session, output } = scene
  if (!session.ports.some((port) => port.id === id)) output.err(`invalid port id ${id}\n`)
  else if (settingsOf(scene, id).gso) {
    output.out(`Max GSO'd packet size: ${session.settings.gsoSegment}B\n`)
    output.out('Supported GSO types: TCP/IPv4, TCP/IPv6, UDP/IPv4, UDP/IPv6\n')
  } else output.out(`GSO is not enabled on Port ${id}\n`)
}

export const CSUM_COMMANDS: readonly Command[] = [
  {
    pattern: `csum set ${Object.keys(CHECKSUMS).join('|')} hw|sw <port:16>`,
    section: 'config',
    help: 'Who makes a checksum: the engine csum (sw), or the peer or software behind the engine (hw). The port must be stopped.',
    run: (scene, [name, how, id]) =>
      onStopped(
        scene,
        Number(id),
        () => setChecksum(scene, name as keyof typeof CHECKSUMS, how === 'hw', Number(id)),
        `invalid port ${id}\n`,
      ),
  },
  {
    pattern: 'csum show <port:16>',
    section: 'config',
    help: 'What was set of that. The port must be stopped.',
    run: (scene, [id]) => onStopped(scene, Number(id), () => show(scene, Number(id)), `invalid port ${id}\n`),
  },
  {
    pattern: 'tso set <size:16> <port:16>',
    section: 'config',
    help: 'Bytes of payload of the segments that csum has TCP cut into; 0: none. The port must be stopped.',
    run: (scene, [size, id]) =>
      onStopped(scene, Number(id), () => {
        change(scene, Number(id), { tso: Number(size) })
        showTso(scene, Number(id))
      }),
  },
  {
    pattern: 'tso show <port:16>',
    section: 'config',
    help: 'What was set of that. The port must be stopped.',
    run: (scene, [id]) => onStopped(scene, Number(id), () => showTso(scene, Number(id))),
  },
  {
    pattern: 'set port <port:16> gso on|off',
    section: 'config',
    help: 'Have csum cut packets that are longer than `set gso segsz` says.',
    run: (scene, [id, on]) => setGso(scene, Number(id), on === 'on'),
  },
  {
    pattern: 'set gso segsz <bytes:16>',
    section: 'config',
    help: 'Longest packet then, headers included.',
    run: (scene, [size]) => setGsoSize(scene, Number(size)),
  },
  {
    pattern: 'show port <port:16> gso',
    section: 'display',
    help: 'What was set of that.',
    run: (scene, [id]) => showGso(scene, Number(id)),
  },
]
