/** Extended statistics: show, clear, and what is counted and shown. */
import type { Port } from '../../index.ts'
import { xstatsBlock } from '../print/xstats.ts'
import type { Command, Scene } from './grammar.ts'
import { onShownPort } from './which.ts'

function show({ session, output }: Scene, port: Port): void {
  output.out(xstatsBlock(port.id, port.xstats(), session.settings.hideZeroXstats))
}

export const XSTATS_COMMANDS: readonly Command[] = [
  {
    pattern: 'show port xstats all',
    section: 'display',
    help: 'All counters of every port by name.',
    run: (scene) => scene.session.ports.forEach((port) => show(scene, port)),
  },
  {
    pattern: 'show port xstats <port:16>',
    section: 'display',
    help: 'The same of one port.',
    run: (scene, [id]) => onShownPort(scene, Number(id), (port) => show(scene, port)),
  },
  {
    pattern: 'clear port xstats all',
    section: 'display',
    help: 'Set the counters of every port to zero.',
    run: ({ session }) => session.ports.forEach((port) => session.clear(port)),
  },
  {
    pattern: 'clear port xstats <port:16>',
    section: 'display',
    help: 'The same for one port.',
    run: (scene, [id]) => onShownPort(scene, Number(id), (port) => scene.session.clear(port)),
  },
  {
    pattern: 'set xstats-hide-zero on|off',
    section: 'config',
    help: 'Leave counters that are zero out of `show port xstats`.',
    run: ({ session }, [on]) => void (session.settings.hideZeroXstats = on === 'on'),
  },
  {
    pattern: 'set xstats-sizes on|off',
    section: 'config',
    help: 'Count packets by size and by kind of address on every port: it costs a look at each packet.',
    run: ({ session }, [on]) => session.ports.forEach((port) => port.countKinds(on === 'on')),
  },
]
