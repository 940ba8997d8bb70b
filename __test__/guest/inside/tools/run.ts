// Programs in the guest.
import { spawnSync } from 'node:child_process'
import { Command } from 'commander'
import { addDevbind } from '../../../../ts/devbind/command.ts'
import { addDoctor } from '../../../../ts/doctor/command.ts'
import { addHugepages } from '../../../../ts/hugepages/command.ts'

/** What a program did. */
export interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export function run(command: string, ...args: readonly string[]): Ran {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  if (error !== undefined) throw error
  return { status, stdout, stderr }
}

/** A command of vring's, in this process: an emulated processor takes seconds to start another node. */
export function vring(...args: readonly string[]): Ran {
  const ran = { status: 0, stdout: '', stderr: '' }
  const program = new Command('vring').exitOverride()
  for (const add of [addDoctor, addDevbind, addHugepages]) {
    add(program, {
      out: (text) => (ran.stdout += text),
      err: (text) => (ran.stderr += text),
      exit: (status) => (ran.status = status),
    })
  }
  program.parse(args, { from: 'user' })
  return ran
}

/** The same as the user `nobody`, which takes a process of its own. */
export const asNobody = (...args: readonly string[]): Ran =>
  run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, 'dist/cli.js', ...args)

/** A shell's command that must succeed. */
export function sh(command: string): string {
  const { status, stdout, stderr } = run('sh', '-c', command)
  if (status !== 0) throw new Error(`${command}: ${stderr}`)
  return stdout
}
