/** Modules of the kernel. */
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { readText } from './sysfs.ts'

/** `unknown`: not loaded, and this process does not see which modules there are, as in most containers. */
export type ModuleState = 'loaded' | 'built-in' | 'loadable' | 'absent' | 'unknown'

const folder = (): string => `/lib/modules/${release()}`
/** The kernel takes `-` and `_` for the same. */
const pattern = (name: string): RegExp => new RegExp(`/${name.replaceAll(/[-_]/g, '[-_]')}\\.ko\\b`)

/** What there is of a module. */
export function moduleState(name: string): ModuleState {
  if (pattern(name).test(readText(`${folder()}/modules.builtin`) ?? '')) return 'built-in'
  if (existsSync(`/sys/module/${name.replaceAll('-', '_')}`)) return 'loaded'
  const known = readText(`${folder()}/modules.dep`)
  if (known === undefined) return 'unknown'
  return pattern(name).test(known) ? 'loadable' : 'absent'
}

/** Whether a module's code is in the kernel now. */
export function moduleIsIn(name: string): boolean {
  const state = moduleState(name)
  return state === 'loaded' || state === 'built-in'
}
