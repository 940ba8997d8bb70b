// Promise: `vring devbind` shows this machine's devices as dpdk-devbind.py does. What changes drivers is tested in a guest.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { needs } from './rig/index.ts'

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))
const output = (command: string, ...args: readonly string[]): string =>
  spawnSync(command, args, { encoding: 'utf8' }).stdout

for (const group of ['net', 'misc', 'baseband']) {
  needs(test, 'devbind')(`the status of this machine's ${group} devices is dpdk-devbind's`, (t) => {
    const ours = output(process.execPath, CLI, 'devbind', '--status-dev', group)
    t.is(ours, output('dpdk-devbind.py', '--status-dev', group))
  })
}

needs(test, 'devbind')('the hugepages of this machine are dpdk-hugepages’', (t) => {
  t.is(output(process.execPath, CLI, 'hugepages', '--show'), output('dpdk-hugepages.py', '--show'))
})
