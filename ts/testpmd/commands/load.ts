/** load: commands from a file. */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { PROMPT } from '../prompt.ts'
import type { Command, Scene } from './grammar.ts'

/** How deep files that load files may go: one that loads itself ends there. */
const MAX_DEPTH = 8
let depth = 0

/**
 * Runs the lines of a file, one after the other, until it ends or one of them is `quit`. With `echo` each is shown as if it had been typed.
 */
export async function loadFile(
  { output }: Scene,
  path: string,
  echo: boolean,
  run: (line: string) => Promise<void>,
): Promise<void> {
  const file = resolve(path)
  if (!existsSync(file) || depth >= MAX_DEPTH) {
    output.err(`Failed to create file based cmdline context: ${path}\n`)
    return
  }
  depth++
  try {
    for (const line of readFileSync(file, 'utf8').split(/\r?\n/)) {
      if (line.trim() === '') continue
      if (echo) output.out(`${PROMPT}${line}\n`)
      await run(line)
    }
  } finally {
    depth--
  }
  output.out(`Read CLI commands from ${path}\n`)
}

/** `load` of a session whose lines are run by `run`. */
export const loadCommands = (run: (scene: Scene, line: string) => Promise<void>): readonly Command[] => [
  {
    pattern: 'load <file>',
    section: 'control',
    help: 'Run the commands of a file.',
    run: (scene, [file]) => loadFile(scene, String(file), false, (line) => run(scene, line)),
  },
  {
    pattern: 'load_echo <file>',
    section: 'control',
    help: 'The same, showing each of them.',
    run: (scene, [file]) => loadFile(scene, String(file), true, (line) => run(scene, line)),
  },
]
