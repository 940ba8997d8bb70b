/** Counters of ports for Prometheus, over HTTP. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Counter, Gauge, Registry } from 'prom-client'
import { version } from './binding.ts'
import { VringError } from './errors.ts'
import type { Port } from './port.ts'
import type { QueueStats } from './stats.ts'

/** How {@link Metrics.listen} listens, and what it tells. */
export interface MetricsOptions {
  /** The ports that are told of, asked for at each scrape. */
  readonly ports: () => Iterable<Port>
  /** Port of TCP; 0 (default): any that is free. */
  readonly port?: number
  /** Address; default `127.0.0.1`: this machine alone. */
  readonly host?: string
}

interface Queue {
  readonly port: Port
  readonly labels: { readonly port: string; readonly direction: 'rx' | 'tx'; readonly queue: string }
  readonly stats: QueueStats
}

const nameOf = (port: Port): string => port.name

function queuesOf(port: Port): readonly Queue[] {
  const { rx, tx } = port.stats()
  const of = (direction: 'rx' | 'tx', all: readonly QueueStats[]): readonly Queue[] =>
    all.map((stats, i) => ({ port, labels: { port: nameOf(port), direction, queue: String(i) }, stats }))
  return [...of('rx', rx), ...of('tx', tx)]
}

/** One look at everything, for all metrics of a scrape. */
class Look {
  readonly ports: readonly Port[]
  readonly queues: readonly Queue[]

  constructor(ports: Iterable<Port>) {
    this.ports = [...ports]
    this.queues = this.ports.flatMap(queuesOf)
  }
}

const QUEUE_LABELS = ['port', 'direction', 'queue'] as const

/** The metrics, and what fills them. */
function metricsOf(registry: Registry): (look: Look) => void {
  const registers = [registry]
  const counter = <T extends string>(name: string, help: string, labelNames: readonly T[]): Counter<T> =>
    new Counter({ name, help, labelNames: [...labelNames], registers })
  const gauge = <T extends string>(name: string, help: string, labelNames: readonly T[]): Gauge<T> =>
    new Gauge({ name, help, labelNames: [...labelNames], registers })

  const packets = counter('vring_packets_total', 'Packets received or sent', QUEUE_LABELS)
  const bytes = counter('vring_bytes_total', 'Bytes of those packets', QUEUE_LABELS)
  const drops = counter('vring_drops_total', 'Packets dropped, by reason', [
    ...QUEUE_LABELS,
    'reason',
  ] as const)
  const nombuf = counter(
    'vring_nombuf_total',
    'Times that no buffer was free for a waiting packet',
    QUEUE_LABELS,
  )
  const kicks = counter('vring_notifications_total', 'Notifications sent to the peer', QUEUE_LABELS)
  const up = gauge('vring_link_up', 'Whether packets can pass', ['port'] as const)
  const info = gauge('vring_port_info', 'What a port is', ['port', 'id', 'driver', 'mac'] as const)
  const mtu = gauge('vring_mtu_bytes', 'Largest payload of a frame', ['port'] as const)
  const buffers = gauge('vring_mempool_buffers', 'Buffers of a mempool', ['mempool'] as const)
  const free = gauge('vring_mempool_free_buffers', 'Buffers that are free', ['mempool'] as const)
  gauge('vring_info', 'The version of vring', ['version'] as const).set({ version }, 1)
  const all = [packets, bytes, drops, nombuf, kicks, up, info, mtu, buffers, free]

  return ({ ports, queues }) => {
    // A port that was closed is not told of any more.
    for (const metric of all) metric.reset()
    for (const { labels, stats } of queues) {
      packets.inc(labels, stats.packets)
      bytes.inc(labels, stats.bytes)
      nombuf.inc(labels, stats.nombuf)
      kicks.inc(labels, stats.notifications)
      for (const [reason, count] of Object.entries(stats.drops)) drops.inc({ ...labels, reason }, count)
    }
    for (const port of ports) {
      const name = nameOf(port)
      up.set({ port: name }, Number(port.link.up))
      mtu.set({ port: name }, port.mtu)
      info.set({ port: name, id: String(port.id), driver: port.driver, mac: port.mac }, 1)
    }
    for (const pool of new Set(ports.map((port) => port.mempool))) {
      buffers.set({ mempool: pool.name }, pool.count)
      free.set({ mempool: pool.name }, pool.freeCount)
    }
  }
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  text: () => Promise<string>,
): Promise<void> {
  if (request.url?.split('?')[0] !== '/metrics' || !['GET', 'HEAD'].includes(request.method ?? '')) {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('see /metrics\n')
    return
  }
  try {
    const body = await text()
    response.writeHead(200, { 'content-type': Registry.PROMETHEUS_CONTENT_TYPE }).end(body)
  } catch (error) {
    // A mempool that was closed under its ports, for example: the scrape failed, the program goes on.
    response.writeHead(500, { 'content-type': 'text/plain' }).end(`${String(error)}\n`)
  }
}

/** A web server whose `/metrics` are the counters of ports, in Prometheus' text format, read when they are asked for. */
export class Metrics implements AsyncDisposable {
  /** Where it is: `http://127.0.0.1:9400/metrics`. */
  readonly url: string
  readonly #server: Server
  #closing: Promise<void> | undefined

  private constructor(server: Server) {
    const { address, family, port } = server.address() as AddressInfo
    this.url = `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/metrics`
    this.#server = server
  }

  /** Starts the server. It does not keep the process alive. Rejects with `ERR_VRING_SYSTEM` when the address is taken, or not this machine's. */
  static async listen({ ports, port = 0, host = '127.0.0.1' }: MetricsOptions): Promise<Metrics> {
    const registry = new Registry()
    const fill = metricsOf(registry)
    const text = (): Promise<string> => {
      fill(new Look(ports()))
      return registry.metrics()
    }
    const server = createServer((request, response) => void respond(request, response, text))
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error): void => {
        const where = `${host}:${port}`
        reject(
          new VringError('ERR_VRING_SYSTEM', `cannot serve metrics at ${where}: ${cause.message}`, { cause }),
        )
      }
      server.once('error', failed).listen(port, host, () => {
        server.off('error', failed).unref()
        resolve()
      })
    })
    return new Metrics(server)
  }

  /** Ends the server and its connections. Closing twice is no error. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#server.close(() => resolve())
      this.#server.closeAllConnections()
    })
    return this.#closing
  }

  /** The same as {@link close}: for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
