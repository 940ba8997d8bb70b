// The guest's initramfs: busybox, the kernel's modules and init.sh. What it does not bring comes from the host, over 9p.
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { which } from '../../../scripts/run.mjs'

const INIT = fileURLToPath(new URL('init.sh', import.meta.url))

/** Writes the initramfs for the kernel in `kernel` to `file`. Not compressed: an emulated processor unpacks slowly. */
export function buildInitramfs(kernel: string, file: string): void {
  const tree = `${file}.d`
  mkdirSync(join(tree, 'bin'), { recursive: true })
  copyFileSync(which('busybox')!, join(tree, 'bin/busybox'))
  cpSync(join(kernel, 'lib'), join(tree, 'lib'), { recursive: true })
  copyFileSync(INIT, join(tree, 'init'))
  chmodSync(join(tree, 'init'), 0o755)
  const names = readdirSync(tree, { recursive: true, encoding: 'utf8' })
  const cpio = ['--quiet', '-o', '-H', 'newc', '-O', file, '-D', tree]
  execFileSync('cpio', cpio, { input: `${names.join('\n')}\n` })
}
