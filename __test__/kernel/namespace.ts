// Programs in a network namespace of their own, which ends with them.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))

/** A TypeScript program of this folder, as a command of the shell. */
export const program = (name: string): string =>
  `"${process.execPath}" --import=@oxc-node/core/register __test__/kernel/${name}.ts`

/** Runs a script of the shell in a new network namespace, without IPv6 so that only what the test sends is there. */
export function inNamespace(script: string): Promise<string> {
  const quiet = 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null; ip link set lo up;'
  return new Promise((resolve, reject) => {
    const argv = ['-n', 'sh', '-ec', quiet + script]
    execFile('unshare', argv, { cwd: root, timeout: 240_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${error.message}\n${stdout}\n${stderr}`))
    })
  })
}
