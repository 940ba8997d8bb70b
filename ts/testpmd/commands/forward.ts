/** start, stop, quit. */
import { messageOf, type Output } from '../output.ts'
import { forwardingConfig, transferConfig } from '../print/config.ts'
import { flowgenLines } from '../print/config.ts'
import { forwardStats } from '../print/forward.ts'
import type { Session } from '../session.ts'
import type { Command } from './grammar.ts'

/** Prints what will be forwarded and starts. A failure is printed, and nothing runs then. */
export async function start(session: Session, output: Output, firstBursts: number): Promise<void> {
  if (session.forwarding) {
    output.err('Packet forwarding already started\n')
    return
  }
  if (session.ports.some((port) => !port.started)) {
    output.err('Not all ports were started\n')
    return
  }
  output.out(forwardingConfig(session.forwardingConfig()))
  if (session.settings.mode === 'flowgen')
    output.out(flowgenLines(session.settings.portlist, session.parts.options.flowgenFlows))
  output.out(transferConfig(session.transferConfig()))
  try {
    await session.start(firstBursts)
  } catch (error) {
    output.err(`Packet forwarding cannot start: ${messageOf(error)}\n`)
  }
}

/** Stops forwarding and prints its statistics. */
export async function stop(session: Session, output: Output): Promise<void> {
  if (!session.forwarding) {
    output.err('Packet forwarding not started\n')
    return
  }
  output.out('Telling cores to stop...\nWaiting for lcores to finish...\n')
  output.out(`${forwardStats(await session.stop())}\nDone.\n`)
}

export const FORWARD_COMMANDS: readonly Command[] = [
  {
    pattern: 'start',
    section: 'control',
    help: 'Forward packets with what is configured.',
    run: ({ session, output }) => start(session, output, 0),
  },
  {
    pattern: 'start tx_first',
    section: 'control',
    help: 'The same, after one burst of packets was sent on every transmit queue.',
    run: ({ session, output }) => start(session, output, 1),
  },
  {
    pattern: 'start tx_first <bursts:32>',
    section: 'control',
    help: 'The same with that many bursts.',
    run: ({ session, output }, [bursts]) => start(session, output, Number(bursts)),
  },
  {
    pattern: 'stop',
    section: 'control',
    help: 'Stop forwarding and show what was counted.',
    run: ({ session, output }) => stop(session, output),
  },
  {
    pattern: 'show fwd stats all',
    section: 'display',
    help: 'What forwarding has counted so far, or in its last run.',
    run: ({ session, output }) => {
      const report = session.forwardReport()
      output.out(forwardStats(report ?? { mode: session.settings.mode, streams: [], ports: new Map() }))
    },
  },
  {
    pattern: 'clear fwd stats all',
    section: 'display',
    help: 'Count from here.',
    run: ({ session }) => session.clearForward(),
  },
  {
    pattern: 'quit',
    section: 'control',
    help: 'Stop forwarding, close the ports and leave.',
    run: (scene) => scene.quit(),
  },
]
