/** set: what counts from the next start. */
import { MAX_BURST, type Mode, modesOf, parseTxpkts } from '../modes.ts'
import { HEADROOM } from '../options.ts'
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

function setCores({ session, output }: Scene, cores: number): void {
  const max = session.lcoreIds.length
  if (cores > max) {
    output.err(`nb fwd cores ${cores} > ${max} (max. number of configured lcores) - ignored\n`)
  } else if (cores < 1) {
    output.err(`nb fwd cores ${cores} < 1 (min. number of forwarding lcores) - ignored\n`)
  } else {
    session.settings.nbCores = cores
    output.out(`Number of forwarding cores set to ${cores}\n`)
  }
}

function setTxpkts({ session, output }: Scene, text: string): void {
  const lengths = parseTxpkts(text, session.parts.options.mbufSize - HEADROOM)
  if (typeof lengths === 'string') output.err(`${lengths}\n`)
  else session.settings.txpkts = lengths
}

/** The commands of `set`; with a script, `script` is one of the modes. */
export const setCommands = (hasScript: boolean): readonly Command[] => [
  {
    pattern: `set fwd ${modesOf(hasScript).join('|')}`,
    section: 'config',
    help: 'What forwards packets.',
    run: ({ session, output }, [mode]) => {
      session.settings.mode = mode as Mode
      output.out(`Set ${mode} packet forwarding mode\n`)
    },
  },
  {
    pattern: 'set burst <packets:16>',
    section: 'config',
    help: `Packets in a burst, 1 to ${MAX_BURST}.`,
    run: (scene, [packets]) => setBurst(scene, Number(packets)),
  },
  {
    pattern: 'set nbcore <cores:16>',
    section: 'config',
    help: 'How many lcores forward.',
    run: (scene, [cores]) => setCores(scene, Number(cores)),
  },
  {
    pattern: 'set txpkts <lengths>',
    section: 'config',
    help: 'The segments of the packets that txonly sends: X[,Y]...',
    run: (scene, [lengths]) => setTxpkts(scene, String(lengths)),
  },
]
