/** What this process is to the kernel. */
import { existsSync } from 'node:fs'
import { userInfo } from 'node:os'
import { readText } from './sysfs.ts'

/** Capabilities that ports can need, with their numbers. */
const CAPABILITIES = {
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_IPC_LOCK: 14,
  CAP_SYS_RAWIO: 17,
  CAP_SYS_ADMIN: 21,
} as const

/** A capability that ports can need. */
export type Capability = keyof typeof CAPABILITIES

/** Which of them this process has now. */
export function capabilities(): Readonly<Record<Capability, boolean>> {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText('/proc/self/status') ?? '')?.[1] ?? '0'
  const bits = BigInt(`0x${effective}`)
  const has = Object.entries(CAPABILITIES).map(([name, bit]) => [name, ((bits >> BigInt(bit)) & 1n) === 1n])
  return Object.fromEntries(has) as Record<Capability, boolean>
}

/** In a user namespace capabilities reach only what belongs to it. */
export const inUserNamespace = (): boolean =>
  !/^0\s+0\s+4294967295$/.test(readText('/proc/self/uid_map') ?? '')

/** Whether this is a container, as far as containers say. */
export const inContainer = (): boolean =>
  existsSync('/.dockerenv') || existsSync('/run/.containerenv') || process.env['container'] !== undefined

/** The user's name, or number where it has none. */
export function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.getuid?.() ?? 0)
  }
}

/** Bytes that this process may lock; Infinity without a limit. */
export function memlockLimit(): number {
  const soft = /^Max locked memory\s+(\S+)/m.exec(readText('/proc/self/limits') ?? '')?.[1] ?? '0'
  return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft)
}

/** A command for root. */
export const asRoot = (command: string): string => (process.getuid?.() === 0 ? command : `sudo ${command}`)
