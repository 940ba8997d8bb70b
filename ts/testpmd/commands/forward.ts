/** start, stop, quit. */
import { messageOf, type Output } from '../output.ts'
import { forwardingConfig, transferConfig } from '../print/config.ts'
import { forwardStats } from '../print/stats.ts'
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
  const { streams, ports } = await session.stop()
  output.out(`${forwardStats(streams, ports)}\nDone.\n`)
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
    pattern: 'quit',
    section: 'control',
    help: 'Stop forwarding, close the ports and leave.',
    run: (scene) => scene.quit(),
  },
]
