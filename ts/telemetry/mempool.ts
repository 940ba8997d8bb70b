/** Commands about mempools: those of the ports. */
import type { Mempool } from '../mempool.ts'
import type { Port } from '../port.ts'
import type { TelemetryValue } from './json.ts'
import type { TelemetryCommand } from './server.ts'

const pools = (ports: () => Iterable<Port>): readonly Mempool[] => [
  ...new Set(Array.from(ports(), (port) => port.mempool)),
]

function info(pool: Mempool): TelemetryValue {
  const { name, count, bufferSize, headroom, pageSize, freeCount } = pool
  return {
    name,
    socket_id: 0,
    size: count,
    elt_size: bufferSize,
    header_size: headroom,
    populated_size: count,
    // Whole, with those in the caches of threads: exact while no packet moves.
    avail_count: freeCount,
    in_use_count: count - freeCount,
    mz_len: pool.bytes.byteLength,
    mz_hugepage_sz: pageSize,
    mz_socket_id: 0,
  }
}

/** See above. */
export function mempoolCommands(ports: () => Iterable<Port>): readonly TelemetryCommand[] {
  return [
    {
      name: '/mempool/list',
      help: 'Returns list of available mempools. Takes no parameters',
      handler: () => pools(ports).map(({ name }) => name),
    },
    {
      name: '/mempool/info',
      help: 'Returns mempool info. Parameters: pool_name',
      handler: (name) => {
        const pool = pools(ports).find((one) => one.name === name)
        // An unknown name gives an empty table, no name gives nothing: so it is in DPDK.
        if (pool === undefined) return name === undefined ? null : {}
        return info(pool)
      },
    },
  ]
}
