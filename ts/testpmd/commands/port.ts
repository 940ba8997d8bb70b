/** Starts, stops, closes and configures ports and queues. */
import type { Port } from '../../index.ts'
import { macText } from '../print/info.ts'
import { closePort } from '../ports.ts'
import type { Command, Scene } from './grammar.ts'
import { onPort } from './which.ts'

const MIN_MTU = 68
const MAX_MTU = 9728

function startPorts({ output }: Scene, ports: readonly Port[]): void {
  let started = 0
  for (const port of ports) {
    if (port.started) {
      output.err(`Port ${port.id} is now not stopped\n`)
      continue
    }
    output.out(`Configuring Port ${port.id} (socket 0)\n`)
    port.start()
    output.out(`Port ${port.id}: ${macText(port.mac)}\n`)
    started++
  }
  output.out(started > 0 ? 'Checking link statuses...\nDone\n' : 'Please stop the ports first\nDone\n')
}

function stopPorts({ session, output }: Scene, ports: readonly Port[]): void {
  output.out('Stopping ports...\n')
  let stopped = 0
  for (const port of ports) {
    if (!port.started) continue
    if (session.forwards(port)) {
      output.err(`Please remove port ${port.id} from forwarding configuration.\n`)
      continue
    }
    port.stop()
    stopped++
  }
  output.out(stopped > 0 ? 'Checking link statuses...\nDone\n' : 'Done\n')
}

async function closePorts({ session, output }: Scene, ports: readonly Port[]): Promise<void> {
  output.out('Closing ports...\n')
  for (const port of ports) {
    if (port.started) output.err(`Cannot close started device (port ${port.id})\n`)
    else {
      session.remove(port)
      await closePort(port, output)
    }
  }
  output.out('Done\n')
}

function control(scene: Scene, what: string, ports: readonly Port[]): void | Promise<void> {
  if (what === 'start') startPorts(scene, ports)
  else if (what === 'stop') stopPorts(scene, ports)
  else return closePorts(scene, ports)
}

function switchQueue({ session, output }: Scene, port: Port, kind: string, index: number, on: boolean): void {
  const queues = kind === 'rxq' ? port.rxQueues : port.txQueues
  const queue = queues[index]
  if (session.forwarding) output.err('Please stop forwarding first\n')
  else if (queue === undefined) {
    const what = kind === 'rxq' ? 'RX' : 'TX'
    output.err(`Invalid ${what} queue ${index} (must be < nb_${kind}=${queues.length})\n`)
  } else if (on) queue.start()
  else queue.stop()
}

function setMtu({ output }: Scene, port: Port, mtu: number): void {
  if (mtu < MIN_MTU) {
    output.err(`MTU (${mtu}) < device min MTU (${MIN_MTU}) for port_id ${port.id}\n`)
  } else if (mtu > MAX_MTU) {
    output.err(`MTU (${mtu}) > device max MTU (${MAX_MTU}) for port_id ${port.id}\n`)
  } else port.setMtu(mtu)
}

function setQueues({ session, output }: Scene, kind: string, count: number): void {
  const { ports } = session
  if (ports.some((port) => port.started)) {
    output.err('Please stop all ports first\n')
    return
  }
  const most = (port: Port): number => (kind === 'rxq' ? port.rxQueues : port.txQueues).length
  const small = ports.find((port) => most(port) < count)
  if (small !== undefined) {
    const words = `can't be greater than max_${kind === 'rxq' ? 'rx' : 'tx'}_queues (${most(small)})`
    output.err(`Fail: input ${kind} (${count}) ${words} of port ${small.id}\n`)
  } else if (count < 1) output.err(`Warning: Either rx or tx queues should be non zero\n`)
  else session.setQueues(kind === 'rxq' ? { rx: count } : { tx: count })
}

export const PORT_COMMANDS: readonly Command[] = [
  {
    pattern: 'port start|stop|close all',
    section: 'control',
    help: 'Let all ports move packets, or none; close those that are stopped.',
    run: (scene, [what]) => control(scene, String(what), [...scene.session.ports]),
  },
  {
    pattern: 'port start|stop|close <port:16>',
    section: 'control',
    help: 'The same for one port.',
    run: (scene, [what, id]) => onPort(scene, Number(id), (port) => control(scene, String(what), [port])),
  },
  {
    pattern: 'port <port:16> rxq|txq <queue:16> start|stop',
    section: 'config',
    help: 'Let a queue move packets, or not.',
    run: (scene, [id, kind, queue, what]) =>
      onPort(scene, Number(id), (port) =>
        switchQueue(scene, port, String(kind), Number(queue), what === 'start'),
      ),
  },
  {
    pattern: 'port config mtu <port:16> <mtu:16>',
    section: 'config',
    help: `Largest payload of a frame, ${MIN_MTU} to ${MAX_MTU}.`,
    run: (scene, [id, mtu]) => onPort(scene, Number(id), (port) => setMtu(scene, port, Number(mtu))),
  },
  {
    pattern: 'port config all rxq|txq <queues:16>',
    section: 'config',
    help: 'How many queues are used, up to what the ports were opened with. The ports must be stopped.',
    run: (scene, [kind, count]) => setQueues(scene, String(kind), Number(count)),
  },
]
