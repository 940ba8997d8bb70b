/** Kernel interfaces for ports: the exception path that KNI was, on a tap. */
import { EventEmitter } from 'node:events'
import { attempt, invalid } from './errors.ts'
import { Follower, type KniHandler } from './kni/follow.ts'
import { closeParts, type KniParts, openParts, stopLoops } from './kni/parts.ts'
import type { KniRequest } from './kni/request.ts'
import { type Counts, kniStats, type KniStats, since } from './kni/stats.ts'
import type { Lcore, Stream } from './lcore.ts'
import type { LinkStatus, Port } from './port.ts'

/** How an interface is made. */
export interface KniOptions {
  /** Its name; default `vEth` and the port's number. A persistent tap of that name is used as it is. */
  readonly name?: string
  /** The network namespace that it is in, a name of `ip netns` or a path; default this process's. */
  readonly netns?: string
  /** An address for it, as `10.0.0.1/24`. */
  readonly ip?: string
  /**
   * Whether vhost in the kernel carries the packets (`net_virtio_user` on `/dev/vhost-net`) or system calls do (`net_tap`); default vhost
   * where this process may use it.
   */
  readonly vhost?: boolean
  /** Descriptors of each of vhost's rings, a power of two from 2 to 32768; default 1024. The mempool has a buffer for each. */
  readonly queueSize?: number
  /** True: a virtual machine is to have the interface, see {@link Kni.fd}. Default false. */
  readonly vmm?: boolean
  /** True: what comes from the port goes back to it, past the kernel, as with KNI's `lo_mode=lo_mode_fifo`. Default false. */
  readonly loopback?: boolean
  /** True: the port receives packets to all addresses always. Default false: while the interface wants them. */
  readonly promiscuous?: boolean
  /** False: the port receives packets to all groups only while the interface wants them all. Default true: IPv6 needs some. */
  readonly allMulticast?: boolean
  /** False: the interface has a carrier always. Default true: while the port's link is up. */
  readonly carrier?: boolean
  /** Processor of the loop from the port to the interface; by default the scheduler chooses. */
  readonly ingressCpu?: number
  /** Processor of the loop from the interface to the port; likewise. */
  readonly egressCpu?: number
  /** Packets of a burst, 1 to 512; default 32. */
  readonly burst?: number
  /**
   * Asked before a request of the kernel's is applied to the port, one after the other. False, a promise of it, or an error refuses it. The kernel
   * does not wait for the answer: a request that is refused is undone.
   */
  readonly onRequest?: KniHandler
}

/** What a {@link Kni} emits. */
export interface KniEvents {
  /** The kernel's side changed the interface, and the port followed. */
  request: [request: KniRequest]
  /** The application or the port refused (then with its error); the interface is as it was before. */
  refused: [request: KniRequest, reason: Error | undefined]
  /** The interface was deleted, or could not be set. Not thrown when nobody listens. */
  error: [error: Error]
  /** The interface is gone. */
  close: []
}

const streams = (from: Port, to: Port): Stream[] =>
  from.rxQueues.map((rx, i) => ({ rx, tx: to.txQueues[i]! }))

/**
 * A network interface of the kernel's for a port, as DPDK's KNI made them: what the port receives comes in at the interface, and what the
 * kernel sends through the interface goes out of the port. Two lcores do it, one for each direction, from the opening to the close. What
 * `ip link` does to the interface is done to the port. An interface does not keep the process alive.
 */
export class Kni extends EventEmitter<KniEvents> implements AsyncDisposable {
  /** The interface's name, as `vEth0`. */
  readonly name: string
  /** The port that it belongs to. The lcores have all its queues until the interface is closed. */
  readonly port: Port
  /** The port at the interface's other end: `net_virtio_user` on vhost in the kernel, or `net_tap`. */
  readonly user: Port
  readonly #parts: KniParts
  readonly #follower: Follower
  #before: Counts
  /** The counters at the last look. What is gone counts no more. */
  #last: Counts = { ingress: 0, egress: 0, kernelRx: 0, kernelTx: 0, vmmRx: 0 }
  #closing: Promise<void> | undefined

  private constructor(port: Port, parts: KniParts, options: KniOptions) {
    super()
    const { name, user, device } = parts
    this.name = name
    this.port = port
    this.user = user
    this.#parts = parts
    this.#before = this.#counts()
    const { promiscuous = false, allMulticast = true, onRequest } = options
    const events = {
      request: (request: KniRequest) => void this.emit('request', request),
      refused: (request: KniRequest, reason?: Error) => void this.emit('refused', request, reason),
      error: this.#failed,
    }
    const always = { promiscuous, allMulticast }
    this.#follower = new Follower({ device, port, always, handler: onRequest, events })
  }

  /**
   * Makes the interface and starts both loops. The port has as many receive as transmit queues (`ERR_VRING_INVALID_ARGUMENT`), and nobody
   * else polls them (`ERR_VRING_QUEUE_BUSY`). Needs `CAP_NET_ADMIN`, or a persistent tap of one's own (`ERR_VRING_PERMISSION`). Rejects also with
   * `ERR_VRING_DEVICE_IN_USE`, `ERR_VRING_DEVICE_KIND`, `ERR_VRING_CPU`, and what {@link Port.open} says of the port at the other end.
   */
  static async open(port: Port, options: KniOptions = {}): Promise<Kni> {
    const { length } = port.rxQueues
    if (length === 0 || length !== port.txQueues.length)
      invalid('a port with as many receive as transmit queues', `${length} and ${port.txQueues.length}`)
    const parts = await openParts(port, options)
    let kni: Kni | undefined
    try {
      kni = new Kni(port, parts, options)
      kni.#start(options)
      await kni.#follower.look()
      return kni
    } catch (error) {
      await (kni?.close() ?? closeParts(parts))
      throw error
    }
  }

  #start({ carrier = true, burst = 32 }: KniOptions): void {
    const { port, user } = this
    const { ingress, egress, ring = user } = this.#parts
    user.on('error', this.#failed)
    port.on('close', this.#portClosed)
    if (carrier) {
      port.on('link', this.#carry)
      this.#carry(port.link)
    }
    ingress.start('io', streams(port, ring), { burst })
    egress.start('io', streams(ring, port), { burst })
    this.resetStats()
  }

  readonly #failed = (error: Error): void => {
    if (this.listenerCount('error') > 0) this.emit('error', error)
  }

  readonly #portClosed = (): void => void this.close()

  /** The port's link is the interface's carrier. */
  readonly #carry = ({ up }: LinkStatus): void => {
    try {
      this.user.setLink(up)
    } catch (error) {
      this.#failed(error as Error)
    }
  }

  /** `vhost-net` or `tap`: what carries the packets between the interface and this process. */
  get backend(): 'vhost-net' | 'tap' {
    return this.user.driver === 'net_tap' ? 'tap' : 'vhost-net'
  }

  /**
   * A descriptor for a virtual machine, with the option `vmm`: `-netdev tap,id=n0,fd=N,vhost=on`. The machine's network device gets all that
   * the port receives, and what it sends goes out of the port; the kernel of this machine gets broadcasts only. It is a queue of a macvtap
   * over the interface (`vEth0-vm`), has virtio-net headers, and stays ours: a child process inherits a copy. Undefined without `vmm`.
   */
  get fd(): number | undefined {
    const { macvtap } = this.#parts
    return macvtap === undefined ? undefined : attempt(() => macvtap.fd())
  }

  /** The file that {@link fd} is of, for a machine that somebody else starts: `-netdev tap,id=n0,fd=3,vhost=on 3<>/dev/tapN`. Either, not both. */
  get path(): string | undefined {
    return this.#parts.macvtap?.path()
  }

  /** The counters now. They can be read after {@link close} too. */
  stats(): KniStats {
    const { port, user } = this
    const { ring = user } = this.#parts
    return kniStats(port.stats(), ring.stats(), since(this.#before, this.#counts()))
  }

  /** Counts from zero again; the port and {@link user} too. */
  resetStats(): void {
    const { ring, user } = this.#parts
    for (const port of [this.port, user, ring]) port?.resetStats()
    this.#before = this.#counts()
  }

  #counts(): Counts {
    const { ingress, egress, device, macvtap } = this.#parts
    const dropped = (lcore: Lcore): number =>
      lcore.stats().streams.reduce((sum, stream) => sum + stream.dropped, 0)
    const state = device.state()
    this.#last = {
      ingress: dropped(ingress),
      egress: dropped(egress),
      kernelRx: state?.rxDropped ?? this.#last.kernelRx,
      kernelTx: state?.txDropped ?? this.#last.kernelTx,
      vmmRx: macvtap?.state()?.rxDropped ?? this.#last.vmmRx,
    }
    return this.#last
  }

  /**
   * Stops both loops and deletes the interface, unless the tap was there before; resolves when that is done and all buffers are back. The port
   * stays open, as it is. A port that is closed closes its interface. Closing twice is no error.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.port.off('link', this.#carry).off('close', this.#portClosed)
    this.#follower.close()
    await stopLoops(this.#parts)
    this.#counts()
    await closeParts(this.#parts)
    this.emit('close')
  }

  /** The same as {@link close}: for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
