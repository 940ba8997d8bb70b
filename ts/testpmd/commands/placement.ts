/** set: which lcores and ports forward. */
import {
  coreListProblem,
  type Machine,
  parseMask,
  parseNumberList,
  portListProblem,
} from '../options/placement.ts'
import { ODD_PORTS_WARNING } from '../print/config.ts'
import type { Command, Scene } from './grammar.ts'
import { macOf } from './which.ts'

function setCores({ session, output }: Scene, cores: number): void {
  const max = session.settings.corelist.length
  if (cores > max) {
    output.err(`nb fwd cores ${cores} > ${max} (max. number of configured lcores) - ignored\n`)
  } else if (cores < 1) {
    output.err(`nb fwd cores ${cores} < 1 (min. number of forwarding lcores) - ignored\n`)
  } else {
    session.settings.nbCores = cores
    output.out(`Number of forwarding cores set to ${cores}\n`)
  }
}

function setCorelist({ session, output }: Scene, cores: readonly number[] | undefined): void {
  if (cores === undefined) {
    output.out('Bad arguments\n')
    return
  }
  const { parts, settings } = session
  const machine: Machine = {
    forwarding: parts.lcores.map((lcore) => lcore.id),
    mainLcore: parts.mainLcore,
    ports: session.ports.length,
  }
  const problem = coreListProblem(cores, machine)
  if (problem !== undefined) output.err(`${problem}\n`)
  else if (cores.length > 0) {
    if (settings.corelist.length !== cores.length)
      output.out(
        `previous number of forwarding cores ${settings.nbCores} - changed to number of configured cores ${cores.length}\n`,
      )
    settings.corelist = cores
    settings.nbCores = cores.length
  }
}

function setPorts({ session, output }: Scene, count: number): void {
  const { settings } = session
  if (count > settings.portlist.length) {
    const max = settings.portlist.length
    output.err(`nb fwd ports ${count} > ${max} (number of configured ports) - ignored\n`)
    return
  }
  settings.nbPorts = count
  output.out(`Number of forwarding ports set to ${count}\n`)
}

function setPortlist({ session, output }: Scene, list: readonly number[] | undefined): void {
  const { settings } = session
  if (list === undefined) {
    output.out('Bad arguments\n')
    return
  }
  const problem = portListProblem(
    list,
    session.ports.map((port) => port.id),
  )
  if (problem !== undefined) {
    output.err(`${problem}\n`)
    return
  }
  if (settings.nbPorts !== list.length) {
    const [from, to] = [settings.nbPorts, list.length]
    output.out(`previous number of forwarding ports ${from} - changed to number of configured ports ${to}\n`)
  }
  settings.portlist = list
  settings.nbPorts = list.length
  if (list.length % 2 === 1 && session.parts.options.topology === 'paired') output.err(ODD_PORTS_WARNING)
}

function setPeer({ session, output }: Scene, id: number, word: string): void {
  const mac = macOf(word)
  if (!session.ports.some((port) => port.id === id)) output.err(`Error: Invalid port number ${id}\n`)
  else if (mac === undefined) output.err(`Error: Invalid ethernet address: ${word}\n`)
  else session.settings.peers.set(id, mac)
}

export const PLACEMENT_COMMANDS: readonly Command[] = [
  {
    pattern: 'set nbcore <cores:16>',
    section: 'config',
    help: 'How many lcores forward.',
    run: (scene, [cores]) => setCores(scene, Number(cores)),
  },
  {
    pattern: 'set corelist <cores>',
    section: 'config',
    help: 'Which lcores forward: X[,Y]...',
    run: (scene, [cores]) => setCorelist(scene, parseNumberList(String(cores))),
  },
  {
    pattern: 'set coremask <mask>',
    section: 'config',
    help: 'The same as a hexadecimal mask.',
    run: (scene, [mask]) => setCorelist(scene, parseMask(String(mask))),
  },
  {
    pattern: 'set nbport <ports:16>',
    section: 'config',
    help: 'How many ports forward, the first ones.',
    run: (scene, [ports]) => setPorts(scene, Number(ports)),
  },
  {
    pattern: 'set portlist <ports>',
    section: 'config',
    help: 'Which ports forward, and in which order they are paired: X[,Y]...',
    run: (scene, [ports]) => setPortlist(scene, parseNumberList(String(ports))),
  },
  {
    pattern: 'set portmask <mask>',
    section: 'config',
    help: 'The same as a hexadecimal mask.',
    run: (scene, [mask]) => setPortlist(scene, parseMask(String(mask))),
  },
  {
    pattern: 'set eth-peer <port:16> <mac>',
    section: 'config',
    help: 'The address that packets sent on a port go to: of mac, csum and txonly.',
    run: (scene, [id, mac]) => setPeer(scene, Number(id), String(mac)),
  },
]
