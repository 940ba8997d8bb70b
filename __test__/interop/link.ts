// A port of ours in this process, joined to dpdk-testpmd in another. What the interop specs have in common.
import { setTimeout as sleep } from 'node:timers/promises'
import { Lcore, Mempool, type MempoolOptions, Port, type Stream } from '../../ts/index.ts'
import { type Scratch, scratch } from '../rig/scratch.ts'
import { Testpmd, type TestpmdOptions } from '../rig/index.ts'

/** What each wait may take: the peers share two polling cores with everything else. */
export const LIMIT = 60_000

/** Waits until `condition` holds; what it gives. */
export async function until<T>(what: string, condition: () => T | false | undefined): Promise<T> {
  const deadline = Date.now() + LIMIT
  for (;;) {
    const value = condition()
    if (value !== false && value !== undefined) return value
    if (Date.now() > deadline) throw new Error(`not within ${LIMIT} ms: ${what}`)
    await sleep(10) // between two looks
  }
}

export interface LinkOptions {
  /** The driver on our side; DPDK has the other one. */
  readonly ours: 'net_virtio_user' | 'net_vhost'
  /** Whether our side makes the socket. */
  readonly weListen: boolean
  readonly pairs?: number
  /** More device arguments of each side, with a comma before each. */
  readonly ourArgs?: string
  readonly theirArgs?: string
  /** Devices that DPDK has besides, as ports 1, 2, … */
  readonly theirOthers?: readonly string[]
  readonly pool?: MempoolOptions
  readonly peer?: Partial<TestpmdOptions>
  /** Who has the other end: DPDK's program (default), or ours where DPDK lacks what is asked for. */
  readonly program?: 'dpdk' | 'vring'
}

/** The device strings of both sides. */
export function devices(
  { ours, weListen, pairs = 1, ourArgs = '', theirArgs = '' }: LinkOptions,
  socket: string,
): { readonly our: string; readonly their: string } {
  const vhost = (client: boolean): string => `net_vhost0,iface=${socket},client=${Number(client)}`
  const user = (server: boolean): string => `net_virtio_user0,path=${socket}${server ? ',server=1' : ''}`
  const queues = pairs > 1 ? `,queues=${pairs}` : ''
  return ours === 'net_vhost'
    ? { our: vhost(!weListen) + queues + ourArgs, their: user(!weListen) + queues + theirArgs }
    : { our: user(weListen) + queues + ourArgs, their: vhost(weListen) + queues + theirArgs }
}

export const options = { count: 8192, pages: '4K' } as const

/** Both ends of a link, with an lcore of ours for each direction. */
export class Link implements AsyncDisposable {
  readonly pool: Mempool
  readonly port: Port
  readonly dpdk: Testpmd
  readonly receiver = new Lcore({ name: 'receiver' })
  readonly sender = new Lcore({ name: 'sender' })
  readonly folder: Scratch

  private constructor(folder: Scratch, pool: Mempool, port: Port, dpdk: Testpmd) {
    this.folder = folder
    this.pool = pool
    this.port = port
    this.dpdk = dpdk
  }

  /** Starts both ends and waits until the link is up at both. */
  static async up(link: LinkOptions): Promise<Link> {
    const folder = scratch()
    const pool = new Mempool({ ...options, ...link.pool })
    const { our, their } = devices(link, folder.path('s0'))
    const queues = link.pairs ?? 1
    // Ours goes first in either role: as a client it dials until somebody is there.
    const port = await Port.open(our, { mempool: pool, rxQueues: queues, txQueues: queues })
    try {
      const vdevs = [their, ...(link.theirOthers ?? [])]
      const peer = { vdevs, rxq: queues, txq: queues, ...link.peer }
      const dpdk = await (link.program === 'vring' ? Testpmd.vring(peer) : Testpmd.dpdk(peer))
      const made = new Link(folder, pool, port, dpdk)
      await port.waitForLink(true, { timeout: LIMIT })
      await dpdk.waitForLink()
      return made
    } catch (error) {
      await port.close()
      pool.close()
      folder[Symbol.dispose]()
      throw error
    }
  }

  /** Our receive queues, each a stream. */
  get rx(): readonly Stream[] {
    return this.port.rxQueues.map((rx) => ({ rx }))
  }

  /** Our transmit queues, each a stream. */
  get tx(): readonly Stream[] {
    return this.port.txQueues.map((tx) => ({ tx }))
  }

  /** Each queue pair, a stream. */
  get both(): readonly Stream[] {
    return this.port.rxQueues.map((rx, i) => ({ rx, tx: this.port.txQueues[i]! }))
  }

  /** Ends both sides in order. What the mempool has then, of what it had at the start, and DPDK's exit code. */
  async end(): Promise<{ readonly missing: number; readonly code: number }> {
    const code = await this.dpdk.quit()
    await this.receiver.close()
    await this.sender.close()
    await this.port.close()
    return { missing: this.pool.count - this.pool.freeCount, code }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dpdk[Symbol.asyncDispose]()
    await this.receiver.close()
    await this.sender.close()
    await this.port.close()
    this.pool.close()
    this.folder[Symbol.dispose]()
  }
}
