// Small helpers that the other scripts share: running a command, telling whether one exists.
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

const path = [join(root, 'node_modules/.bin'), process.env['PATH'], '/usr/sbin', '/sbin'].join(delimiter)
export const env = { ...process.env, PATH: path }

/** The full path of a command, or undefined. */
export function which(command) {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, command)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {}
  }
  return undefined
}

/**
 * Runs a command in the project's root. Its output goes to ours as it comes (unless `quiet`) and is returned
 * as well. Never rejects: a command that does not exist ends with code 127.
 */
export function run(command, args, { quiet = false, extraEnv = {}, cwd = root } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...env, ...extraEnv },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const take = (stream) => (data) => {
      output += data
      if (!quiet) stream.write(data)
    }
    child.stdout.setEncoding('utf8').on('data', take(process.stdout))
    child.stderr.setEncoding('utf8').on('data', take(process.stderr))
    child.on('error', (error) => resolve({ code: 127, output: `${output}${error.message}\n` }))
    child.on('close', (code, signal) => resolve({ code: code ?? 1, signal, output }))
  })
}

/** Prints a heading, so that a long log can be read by its parts. */
export function heading(text) {
  console.log(`\n=== ${text}`)
}
