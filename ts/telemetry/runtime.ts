/** The folder of a program's run-time files, as EAL has it. */
import { lstatSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { VringError } from '../errors.ts'

/** What EAL calls a program when nobody says otherwise. */
export const DEFAULT_PREFIX = 'rte'

/** The folder of `prefix`: `/var/run/dpdk/rte` for root. */
export function runtimeDirectory(prefix: string): string {
  const { RUNTIME_DIRECTORY: given, XDG_RUNTIME_DIR: own } = process.env
  const user = process.getuid?.() === 0 ? '/var/run' : own === undefined || own === '' ? '/tmp' : own
  return join(given === undefined || given === '' ? user : given, 'dpdk', prefix)
}

/** Makes the folder, for this user alone. Throws `ERR_VRING_PERMISSION` when somebody else has made it. */
export function makeRuntimeDirectory(prefix: string): string {
  if (!/^[^/\0]+$/.test(prefix) || prefix === '.' || prefix === '..') {
    throw new VringError(
      'ERR_VRING_INVALID_ARGUMENT',
      `expected a file prefix without slashes, got '${prefix}'`,
    )
  }
  const folder = runtimeDirectory(prefix)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    // In /tmp anybody could have been first.
    const found = lstatSync(folder)
    if (found.isDirectory() && found.uid === process.getuid?.()) return folder
  } catch (cause) {
    const advice = 'set XDG_RUNTIME_DIR to a folder of your own'
    throw new VringError(
      'ERR_VRING_PERMISSION',
      `cannot make ${folder}: ${(cause as Error).message}; ${advice}`,
      { cause },
    )
  }
  throw new VringError(
    'ERR_VRING_PERMISSION',
    `expected ${folder} to be this user's folder; give another file prefix`,
  )
}
