/** Hugepages by size and node. */
import { existsSync } from 'node:fs'
import { list, readText } from './sysfs.ts'

/** Hugepages of one size, of a node or of the whole machine. */
export interface HugepagePool {
  /** Where the kernel keeps them in sysfs. */
  readonly path: string
  /** The node; undefined on a machine that has none. */
  readonly node: number | undefined
  /** Size of a page in KiB. */
  readonly size: number
  readonly total: number
  readonly free: number
}

const NODES = '/sys/devices/system/node'
const MACHINE = '/sys/kernel/mm/hugepages'
const count = (path: string): number => Number(readText(path) ?? 0)

function poolsIn(path: string, node: number | undefined): HugepagePool[] {
  return list(path).flatMap((name) => {
    const size = /^hugepages-(\d+)kB$/.exec(name)?.[1]
    if (size === undefined) return []
    const pool = `${path}/${name}`
    const [total, free] = [count(`${pool}/nr_hugepages`), count(`${pool}/free_hugepages`)]
    return [{ path: pool, node, size: Number(size), total, free }]
  })
}

/** Every pool: node by node, the smallest pages first. */
export function hugepagePools(): readonly HugepagePool[] {
  const nodes = list(NODES)
    .map((name) => /^node(\d+)$/.exec(name)?.[1])
    .filter((node) => node !== undefined && existsSync(`${NODES}/node${node}/hugepages`))
    .map(Number)
    .toSorted((a, b) => a - b)
  const pools =
    nodes.length > 0
      ? nodes.flatMap((node) => poolsIn(`${NODES}/node${node}/hugepages`, node))
      : poolsIn(MACHINE, undefined)
  return pools.toSorted((a, b) => (a.node ?? 0) - (b.node ?? 0) || a.size - b.size)
}

/** Size of the pages that are given when no size is asked for, in KiB; undefined: this kernel has no hugepages. */
export function defaultHugepage(): number | undefined {
  const size = /^Hugepagesize:\s+(\d+) kB$/m.exec(readText('/proc/meminfo') ?? '')?.[1]
  return size === undefined ? undefined : Number(size)
}

/** KiB as dpdk-hugepages writes them: `2Mb`, `1Gb`. */
export function sizeText(kib: number): string {
  const power = kib < 1 ? 0 : Math.min(Math.floor(Math.log2(kib) / 10), 2)
  return `${Math.floor(kib / 1024 ** power)}${'KMG'[power]}b`
}
