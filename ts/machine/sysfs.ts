/** Small files of the kernel's. What is not there, or not for us, is undefined. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'

/** A file's text without space around it. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** The names in a folder, in order; none where there is no folder. */
export function list(path: string): readonly string[] {
  try {
    return readdirSync(path).toSorted()
  } catch {
    return []
  }
}

/** The last name of what a link points to. */
export function linkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path))
  } catch {
    return undefined
  }
}
