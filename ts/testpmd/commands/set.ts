/** set: what counts from the next start. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { ENGINES, MAX_BURST, type Mode, modesOf, parseTxpkts } from '../modes.ts'
import { HEADROOM } from '../options.ts'
import type { Split } from '../settings.ts'
import type { Command, Scene } from './grammar.ts'

function setBurst({ session, output }: Scene, burst: number): void {
  if (burst > MAX_BURST) {
    output.err(`nb pkt per burst: ${burst} > ${MAX_BURST} (maximum packet per burst)  ignored\n`)
  } else if (burst < 1) {
    output.err(`nb pkt per burst: ${burst} < 1 (minimum packet per burst)  ignored\n`)
  } else {
    session.settings.burst = burst
    output.out(`Number of packets per burst set to ${burst}\n`)
  }
}

function setTxpkts({ session, output }: Scene, text: string): void {
  const lengths = parseTxpkts(text, session.parts.options.mbufSize - HEADROOM)
  if (typeof lengths === 'string') output.err(`${lengths}\n`)
  else session.settings.txpkts = lengths
}

function setMode({ session, output }: Scene, mode: Mode, retry: boolean): void {
  Object.assign(session.settings, { mode, retry })
  output.out(`Set ${mode} packet forwarding mode${retry ? ' with retry' : ''}\n`)
}

async function setScript({ session, output }: Scene, path: string): Promise<void> {
  const file = resolve(path)
  if (!existsSync(file)) output.err(`set fwd script: there is no file ${file}\n`)
  else {
    await session.setScript(file)
    output.out('Set script packet forwarding mode\n')
  }
}

const SPLITS: readonly Split[] = ['off', 'on', 'rand']

function setSplit({ session, output }: Scene, word: string): void {
  const split = SPLITS.find((one) => one === word)
  if (split === undefined) output.err(`unknown value: "${word}"\n`)
  else session.settings.split = split
}

function setDefault({ session, output }: Scene): void {
  output.out('Reset to default forwarding configuration...\n')
  const { settings, parts, ports } = session
  settings.portlist = ports.map((port) => port.id)
  settings.nbPorts = ports.length
  settings.corelist = parts.lcores.map((lcore) => lcore.id)
  settings.nbCores = 1
}

const switches = {
  'record-core-cycles': 'recordCycles',
  'record-burst-stats': 'recordBursts',
  flush_rx: 'flushRx',
} as const

/** The commands of `set`; with a script, `script` is one of the modes. */
export const setCommands = (hasScript: boolean): readonly Command[] => [
  {
    pattern: `set fwd ${modesOf(hasScript).join('|')}`,
    section: 'config',
    help: 'What forwards packets.',
    run: (scene, [mode]) => setMode(scene, mode as Mode, false),
  },
  {
    pattern: 'set fwd script <file>',
    section: 'config',
    help: 'Forward with a script. Where a script forwards already, this one takes its place at once, and no packet is lost.',
    run: (scene, [file]) => setScript(scene, String(file)),
  },
  {
    pattern: `set fwd ${ENGINES.join('|')} retry`,
    section: 'config',
    help: 'The same; what a transmit queue does not take is offered to it again.',
    run: (scene, [mode]) => setMode(scene, mode as Mode, true),
  },
  {
    pattern: 'set burst <packets:16>',
    section: 'config',
    help: `Packets in a burst, 1 to ${MAX_BURST}.`,
    run: (scene, [packets]) => setBurst(scene, Number(packets)),
  },
  {
    pattern: 'set burst tx delay <microseconds:32> retry <times:32>',
    section: 'config',
    help: 'How long to wait before a burst is offered again, and how often; with `set fwd MODE retry`.',
    run: ({ session }, [delay, times]) =>
      void Object.assign(session.settings, { txDelay: Number(delay), txRetries: Number(times) }),
  },
  {
    pattern: 'set txpkts <lengths>',
    section: 'config',
    help: 'The segments of the packets that txonly sends: X[,Y]...',
    run: (scene, [lengths]) => setTxpkts(scene, String(lengths)),
  },
  {
    pattern: 'set txsplit <how>',
    section: 'config',
    help: 'off, on: packets of txonly have all segments of `set txpkts`; rand: a random number of them.',
    run: (scene, [how]) => setSplit(scene, String(how)),
  },
  {
    pattern: `set ${Object.keys(switches).join('|')} on|off`,
    section: 'config',
    help: 'Count cycles, or packets of bursts; empty receive queues before forwarding starts.',
    run: ({ session }, [what, on]) => {
      session.settings[switches[what as keyof typeof switches]] = on === 'on'
    },
  },
  {
    pattern: 'set default',
    section: 'config',
    help: 'Forward with all ports and one lcore again.',
    run: (scene) => setDefault(scene),
  },
]
