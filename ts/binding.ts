/** Loads the native addon, or says why it cannot be loaded and what to do. Private: `index.ts` is the API. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type * as Addon from '../index.js'
import { VringError } from './errors.ts'

const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL('..', import.meta.url))
const name = `vring.${process.platform}-${process.arch}-gnu.node`
const { version: wanted } = require('../package.json') as { readonly version: string }

/** The platforms that have a binary, as `process.platform-process.arch`. */
const SUPPORTED = 'linux-x64 with glibc'
const BUILD = `build it: run \`npm run build\` in ${root} (it needs Rust 1.88 or newer from https://rustup.rs)`

interface ReportHeader {
  readonly header: { readonly glibcVersionRuntime?: string }
}

/** What this machine is, in words. */
function here(): string {
  // Asking for the report is slow: only when something is wrong already.
  const { header } = process.report.getReport() as unknown as ReportHeader
  const libc =
    header.glibcVersionRuntime === undefined ? 'no glibc (musl?)' : `glibc ${header.glibcVersionRuntime}`
  return `this is ${process.platform}-${process.arch} with ${libc}, Node.js ${process.versions.node}`
}

function refuse(why: string, advice: string, cause?: unknown): never {
  const options = cause === undefined ? undefined : { cause }
  throw new VringError('ERR_VRING_NO_BINARY', `${why}; ${here()}; ${advice}`, options)
}

function load(): typeof Addon {
  const file = `${root}${name}`
  if (!existsSync(file)) {
    const advice =
      process.platform === 'linux' ? BUILD : 'vring runs on Linux only: use a Linux machine, container or VM'
    return refuse(`expected vring's native addon for ${SUPPORTED} at ${file}, but it is not there`, advice)
  }
  try {
    return require(file) as typeof Addon
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const old = /version `(GLIBC_[\d.]+)' not found/.exec(message)?.[1]
    const why =
      old === undefined
        ? message.split('\n')[0]!
        : `it was built for ${old.replace('GLIBC_', 'glibc ')} or newer`
    return refuse(`expected to load ${file}, but ${why}`, BUILD, error)
  }
}

/** The addon. Its types are generated; nothing outside of `ts/` uses them. */
export const native = load()

if (native.version() !== wanted) {
  refuse(
    `expected the native addon of vring ${wanted} at ${root}${name}, found that of ${native.version()}`,
    BUILD,
  )
}

/** The version of vring, as in its package.json. */
export const version: string = wanted
