import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Scratch extends Disposable {
  /** A path in the folder. Short, since a unix socket's path has at most 107 bytes. */
  readonly path: (name: string) => string
}

/**
 * A fresh folder that is removed at the end of the scope: `using folder = scratch()`. With `owner`, a user id, it belongs
 * to that user, for programs that run without privileges.
 */
export function scratch({ owner }: { readonly owner?: number } = {}): Scratch {
  const folder = mkdtempSync(join(tmpdir(), 'vring-'))
  if (owner !== undefined) chownSync(folder, owner, owner)
  return {
    path: (name) => join(folder, name),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}
