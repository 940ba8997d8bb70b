/** Processors, as the kernel lists them. */
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { readText } from './sysfs.ts'

/** `0-2,5` as numbers; nothing as none. */
export function parseCpuList(list: string): readonly number[] {
  return list
    .split(',')
    .filter((range) => /^\d/.test(range))
    .flatMap((range) => {
      const [first = 0, last = first] = range.split('-').map(Number)
      return Array.from({ length: last - first + 1 }, (_, i) => first + i)
    })
}

/** The CPUs this process may run on. */
export function allowedCpus(): readonly number[] {
  const list = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return list === undefined ? cpus().map((_, i) => i) : parseCpuList(list)
}

/** A list that the kernel was booted with: `isolated` or `nohz_full`. */
export const bootCpus = (name: 'isolated' | 'nohz_full'): readonly number[] =>
  parseCpuList(readText(`/sys/devices/system/cpu/${name}`) ?? '')
