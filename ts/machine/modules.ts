/** Modules of the kernel. */
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { matchesGlob } from './glob.ts'
import { asRoot } from './process.ts'
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

/** The modules that have a driver for a device with this `modalias`, in the order of `modules.alias`. */
export function modulesFor(modalias: string): readonly string[] {
  const found = new Set<string>()
  for (const line of (readText(`${folder()}/modules.alias`) ?? '').split('\n')) {
    const [, alias, module] = /^alias (pci:\S+) (\S+)$/.exec(line) ?? []
    if (alias !== undefined && matchesGlob(alias, modalias)) found.add(module!)
  }
  return [...found]
}

/** How a module would come into the kernel; undefined when it is there. */
export function moduleFix(module: string): string | undefined {
  const state = moduleState(module)
  if (state === 'loadable') return asRoot(`modprobe ${module}`)
  if (state === 'absent') return `use a kernel that has the module ${module}: ${release()} has not`
  if (state === 'unknown')
    return `modprobe ${module} (outside of this container: it does not see the kernel's modules)`
  return undefined
}
