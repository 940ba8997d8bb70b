/** show and clear. */
import type { Port } from '../../index.ts'
import { factsOf } from '../facts.ts'
import { coreList, forwardingConfig, transferConfig, txpktsConfig } from '../print/config.ts'
import { portInfo, summaryHeader, summaryRow } from '../print/info.ts'
import { nicStats } from '../print/stats.ts'
import { chosenXstats } from '../print/xstats.ts'
import type { Command, Scene } from './grammar.ts'
import { onShownPort } from './which.ts'

/** `show port stats` for some ports. */
export function showStats(
  { session, output }: Pick<Scene, 'session' | 'output'>,
  ports: readonly Port[],
): void {
  for (const port of ports) {
    const { stats, rates, chosen } = session.sample(port)
    output.out(nicStats(port.id, stats, rates, chosenXstats(chosen)))
  }
}

function show(scene: Scene, what: string, ports: readonly Port[]): void {
  const { session, output } = scene
  if (what === 'stats') showStats(scene, ports)
  if (what === 'info') for (const port of ports) output.out(portInfo(factsOf(port)))
  if (what === 'summary') {
    output.out(summaryHeader(session.ports.length))
    for (const port of ports) output.out(summaryRow(factsOf(port)))
  }
}

function clear({ session, output }: Scene, ports: readonly Port[]): void {
  for (const port of ports) {
    session.clear(port)
    output.out(`\n  NIC statistics for port ${port.id} cleared\n`)
  }
}

const PORT_COMMANDS: readonly Command[] = [
  {
    pattern: 'show port stats|info|summary all',
    section: 'display',
    help: 'Counters and rates, properties, or one line, of every port.',
    run: (scene, [what]) => show(scene, String(what), scene.session.ports),
  },
  {
    pattern: 'show port stats|info|summary <port:16>',
    section: 'display',
    help: 'The same of one port.',
    run: (scene, [what, id]) => onShownPort(scene, Number(id), (port) => show(scene, String(what), [port])),
  },
  {
    pattern: 'clear port stats all',
    section: 'display',
    help: 'Set the counters of every port to zero.',
    run: (scene) => clear(scene, scene.session.ports),
  },
  {
    pattern: 'clear port stats <port:16>',
    section: 'display',
    help: 'The same for one port.',
    run: (scene, [id]) => onShownPort(scene, Number(id), (port) => clear(scene, [port])),
  },
]

const CONFIG_COMMANDS: readonly Command[] = [
  {
    pattern: 'show config fwd',
    section: 'display',
    help: 'Which lcore moves packets from which queue to which.',
    run: ({ session, output }) => output.out(forwardingConfig(session.forwardingConfig())),
  },
  {
    pattern: 'show config rxtx',
    section: 'display',
    help: 'Bursts, queues and ring sizes.',
    run: ({ session, output }) => output.out(transferConfig(session.transferConfig())),
  },
  {
    pattern: 'show config cores',
    section: 'display',
    help: 'The lcores that can forward.',
    run: ({ session, output }) => output.out(coreList(session.settings.corelist)),
  },
  {
    pattern: 'show config txpkts',
    section: 'display',
    help: 'The segments of the packets that txonly sends.',
    run: ({ session, output }) => output.out(txpktsConfig(session.settings.txpkts, session.settings.split)),
  },
]

export const SHOW_COMMANDS: readonly Command[] = [...PORT_COMMANDS, ...CONFIG_COMMANDS]
