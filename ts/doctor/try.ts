/** Trying things, and what to do about what does not work. */
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import type { ProbeFacts } from '../../index.js'
import { native } from '../binding.ts'
import { asRoot, type Capability, inContainer, inUserNamespace, userName } from '../machine/process.ts'
import { moduleFix } from '../machine/modules.ts'

/** What came of trying something. */
export interface Trial {
  readonly works: boolean
  readonly verdict: 'works' | 'absent' | 'denied' | 'busy' | 'failed'
  /** What was tried, and the kernel's answer: `open /dev/vhost-net: EACCES`. */
  readonly says: string
  /** What it gave: bits, or bytes. */
  readonly value: number
}

/** Tries `what` of the addon's probes. */
export function attemptProbe(what: string, argument?: string | number): Trial {
  const found: ProbeFacts = native.probe(what, argument === undefined ? undefined : String(argument))
  const answer = found.errno === undefined ? '' : `: ${getSystemErrorName(-found.errno)}`
  const verdict = found.verdict as Trial['verdict']
  return { works: verdict === 'works', verdict, says: `${found.step}${answer}`, value: found.value }
}

/** How this process would get a capability. */
export function capabilityFix(capability: Capability): string {
  const name = capability.replace('CAP_', '')
  if (inUserNamespace())
    return `run vring outside of this user namespace (a rootless container), with ${capability}`
  if (inContainer()) return `docker run --cap-add=${name} …`
  return asRoot(`setcap ${capability.toLowerCase()}+ep ${process.execPath}`)
}

const isInstalled = (program: string): boolean =>
  ['/usr/local/bin', '/usr/bin', '/bin'].some((folder) => existsSync(`${folder}/${program}`))

function permissionFix(path: string): string {
  const { mode, gid } = statSync(path)
  const user = userName()
  // The group may already, and is not everybody's nor root's.
  const byGroup = (mode & 0o060) === 0o060 && gid !== 0 && !(process.getgroups?.() ?? []).includes(gid)
  if (byGroup) return asRoot(`usermod -aG "$(stat -c %G ${path})" ${user}`)
  return asRoot(isInstalled('setfacl') ? `setfacl -m u:${user}:rw ${path}` : `chown ${user} ${path}`)
}

function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** How this process would get to open a device that is a module's. */
export function deviceFix(path: string, module: string, { verdict }: Trial): readonly string[] {
  if (verdict === 'busy') return [`end the program that has ${path}: fuser -v ${path}`]
  if (verdict === 'absent') {
    const fix = moduleFix(module)
    const steps = fix === undefined ? [] : [fix]
    if (inContainer()) return [...steps, `docker run --device=${path} …`]
    return steps.length > 0 ? steps : [asRoot(`modprobe -r ${module} && modprobe ${module}`)]
  }
  if (verdict !== 'denied') return []
  // Its mode lets us, something else does not: the devices of a control group.
  if (mayOpen(path)) return [`allow the device ${path} to this control group: docker run --device=${path} …`]
  return [permissionFix(path)]
}
