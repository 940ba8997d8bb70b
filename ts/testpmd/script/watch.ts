/** `--watch`: a script is loaded again when its file has changed. */
import { unwatchFile, watchFile } from 'node:fs'
import { messageOf, type Output } from '../output.ts'
import type { Session } from '../session.ts'

/** How often the file is looked at. Editors write files in many ways: its time and size tell all of them. */
const MILLISECONDS = 200

/** Watches the session's script until it is told to stop. */
export function watchScript(session: Session, output: Output): () => void {
  const file = session.scriptFile
  if (file === undefined) return () => {}
  const changed = async (): Promise<void> => {
    // Another script may have been set since.
    if (session.scriptFile !== file) return
    try {
      await session.setScript(file)
      output.out(`\nscript: ${file} was loaded again\n`)
    } catch (error) {
      output.err(`\nscript: the one before goes on: ${messageOf(error)}\n`)
    }
  }
  watchFile(file, { interval: MILLISECONDS }, (now, then) => {
    const gone = now.mtimeMs === 0
    if (!gone && (now.mtimeMs !== then.mtimeMs || now.size !== then.size)) void changed()
  })
  return () => unwatchFile(file)
}
