/** Every command of the prompt, and what happens to a line. */
import { messageOf } from '../output.ts'
import { CSUM_COMMANDS } from './csum.ts'
import { FORWARD_COMMANDS } from './forward.ts'
import { type Command, type Scene, understand } from './grammar.ts'
import { helpCommands } from './help.ts'
import { loadCommands } from './load.ts'
import { MEASURE_COMMANDS } from './measure.ts'
import { PLACEMENT_COMMANDS } from './placement.ts'
import { PORT_COMMANDS } from './port.ts'
import { QUEUE_COMMANDS } from './queue.ts'
import { RECEIVE_COMMANDS } from './receive.ts'
import { setCommands } from './set.ts'
import { SHOW_COMMANDS } from './show.ts'
import { XSTATS_COMMANDS } from './xstats.ts'

/** The commands of a session. */
export function commandsFor(hasScript: boolean): readonly Command[] {
  const commands: Command[] = [
    ...FORWARD_COMMANDS,
    ...PORT_COMMANDS,
    ...SHOW_COMMANDS,
    ...XSTATS_COMMANDS,
    ...MEASURE_COMMANDS,
    ...CSUM_COMMANDS,
    ...QUEUE_COMMANDS,
    ...setCommands(hasScript),
    ...PLACEMENT_COMMANDS,
    ...RECEIVE_COMMANDS,
  ]
  commands.push(...loadCommands((scene, line) => execute(commands, scene, line)))
  return [...commands, ...helpCommands(commands)]
}

/** Runs one line. What it prints is complete when the promise resolves; an error of a command is printed. */
export async function execute(commands: readonly Command[], scene: Scene, line: string): Promise<void> {
  const meaning = understand(commands, line)
  if (meaning.kind === 'unknown') scene.output.out('Command not found\n')
  if (meaning.kind === 'bad') scene.output.out('Bad arguments\n')
  if (meaning.kind !== 'command') return
  try {
    await meaning.command.run(scene, meaning.values)
  } catch (error) {
    scene.output.err(`${messageOf(error)}\n`)
  }
}
