/** Ports. */
import { EventEmitter } from 'node:events'
import type { EventFacts, Failure, PortHandle, PortRequest, Waiter } from '../index.js'
import { native } from './binding.ts'
import { deviceRequest, type DriverName, type PortOptions } from './devargs.ts'
import { attempt, fromFailure, invalid, VringError } from './errors.ts'
import { type Mempool, poolHandleOf } from './mempool.ts'
import { handleOfQueue, makeRxQueue, makeTxQueue, type RxQueue, type TxQueue } from './queue.ts'
import {
  fromOffloadFacts,
  fromRxFacts,
  type OffloadInfo,
  type RxMode,
  type RxOffload,
  toRxFacts,
  type TxOffload,
} from './rxmode.ts'
import { portStats, type PortStats } from './stats.ts'
import { xstatsOf } from './xstats.ts'

/** How a port is opened, whatever its driver. */
export interface QueueConfig {
  /** Where its packets live. The port holds on to the memory until it is closed. */
  readonly mempool: Mempool
  /** Receive queues; default 1. At most the device's (`queues=`, or a file each); 0 where the device can do without. */
  readonly rxQueues?: number
  /** Transmit queues; default 1. Likewise. */
  readonly txQueues?: number
  /** Descriptors of a receive ring, where this side chooses, a power of two from 2 to 32768; default the driver's number. */
  readonly rxDesc?: number
  /** Descriptors of a transmit ring. Likewise. */
  readonly txDesc?: number
  /** Largest payload of an Ethernet frame in bytes, 68 to 9728; default 1500. */
  readonly mtu?: number
  /**
   * What is to be done to packets that come in; default nothing. The driver has its peer do as much of it as it can, the rest is done in
   * software. `lro` needs a device that does it.
   */
  readonly rxOffloads?: readonly RxOffload[]
  /**
   * What packets that go out may ask for by their flags; default nothing. The driver negotiates it where it can; whatever a packet asks for
   * that its driver cannot is done in software, with or without this.
   */
  readonly txOffloads?: readonly TxOffload[]
}

/** The state of a link. */
export interface LinkStatus {
  /** Packets can pass. */
  readonly up: boolean
  /** Megabits a second: what DPDK's drivers for the same devices say, since a virtual link has none. */
  readonly speed: number
  /** Always `full`. */
  readonly duplex: 'full' | 'half'
  /** Always false. */
  readonly autoneg: boolean
}

/** What a port is now. */
export interface PortInfo {
  /** The driver's name. */
  readonly driver: DriverName
  /** Ethernet address, as `56:48:4f:53:54:00`. */
  readonly mac: string
  /** Most receive queues that the device could have been opened with. */
  readonly maxRxQueues: number
  /** Most transmit queues, likewise. */
  readonly maxTxQueues: number
  /** Descriptors of each receive ring, 0 while unknown. */
  readonly rxDesc: number
  /** Descriptors of each transmit ring, 0 while unknown. */
  readonly txDesc: number
  /** Names of the features that were negotiated; none while there is no peer. */
  readonly features: readonly string[]
  /** Who applies what was set while the port was open, by what it is: `addresses`, `vlan-filter`, `vlan-strip`, `rss-hash`, `mac`, `mtu`, `link`. */
  readonly appliedBy: Readonly<Record<string, 'device' | 'software'>>
  /** Further facts by name, for people: the socket, the role, the data path, … Which there are depends on the driver. */
  readonly details: Readonly<Record<string, string>>
}

/** What a {@link Port} emits. */
export interface PortEvents {
  /** The link went up or down. */
  link: [status: LinkStatus]
  /** A queue was stopped by its peer's fault, or the peer could not be served. Not thrown when nobody listens. */
  error: [error: VringError]
  /** The guest behind the port moved here: a RARP with its Ethernet address is received on the first queue, to be forwarded to where others learn from it. */
  rarp: [mac: string]
  /** The peer told its MTU in bytes. */
  mtu: [mtu: number]
  /** The port is closed. */
  close: []
}

/** How {@link Port.waitForLink} waits. */
export interface WaitOptions {
  /** Milliseconds after which it rejects with `ERR_VRING_TIMEOUT`; default none. */
  readonly timeout?: number
  /** Rejects with its reason when it fires. */
  readonly signal?: AbortSignal
}

const linkStatus = ({ up, speed }: { up: boolean; speed: number }): LinkStatus =>
  Object.freeze({ up, speed, duplex: 'full', autoneg: false })

function portRequest(config: QueueConfig): PortRequest {
  const { rxQueues = 1, txQueues = 1, rxDesc = 0, txDesc = 0, mtu = 1500 } = config
  const { rxOffloads = [], txOffloads = [] } = config
  return { rxQueues, txQueues, rxDesc, txDesc, mtu, rxOffloads: [...rxOffloads], txOffloads: [...txOffloads] }
}

/**
 * A port: receive and transmit queues, a link, statistics and events. It stays open until it is closed or the thread that
 * opened it ends; an open port does not keep the process alive.
 */
export class Port extends EventEmitter<PortEvents> implements AsyncDisposable {
  /** The smallest number that was free, as in DPDK. */
  readonly id: number
  /** The device's name, as `net_vhost0`. */
  readonly name: string
  /** The driver. */
  readonly driver: DriverName
  /** The mempool that it was opened with. */
  readonly mempool: Mempool
  /** Receive queues. */
  readonly rxQueues: readonly RxQueue[]
  /** Transmit queues. */
  readonly txQueues: readonly TxQueue[]
  readonly #handle: PortHandle
  readonly #waiter: Waiter
  #countsKinds = false
  #closing: Promise<void> | undefined
  #closed = false
  #waiting = 0

  private constructor(handle: PortHandle, mempool: Mempool) {
    super()
    this.#handle = handle
    this.id = handle.id()
    this.name = handle.name()
    this.driver = handle.driver() as DriverName
    this.mempool = mempool
    this.rxQueues = Object.freeze(
      handle.rxQueues().map((queue) => makeRxQueue(queue, { port: this, handle })),
    )
    this.txQueues = Object.freeze(
      handle.txQueues().map((queue) => makeTxQueue(queue, { port: this, handle })),
    )
    this.#waiter = handle.waiter()
    this.#waiter.unref()
    this.#listen()
  }

  /**
   * Opens a device: a string like `net_vhost0,iface=/tmp/s0`, or the same as typed options. The link may come up later, when
   * the peer is there: see {@link waitForLink}. Rejects with what is wrong with the arguments
   * (`ERR_VRING_UNKNOWN_DEVARG`, `ERR_VRING_BAD_DEVARG`, `ERR_VRING_OUT_OF_RANGE`, …), the name (`ERR_VRING_NAME_IN_USE`), the path
   * (`ERR_VRING_NO_SUCH_PATH`, `ERR_VRING_SOCKET_IN_USE`, `ERR_VRING_CAPTURE`, …) or the mempool (`ERR_VRING_CLOSED`).
   */
  static async open(device: string | PortOptions, config: QueueConfig): Promise<Port> {
    if (typeof config !== 'object' || config === null) invalid('an object with a mempool', config)
    const { mempool } = config
    const pool = poolHandleOf(mempool)
    const request = typeof device === 'string' ? device : deviceRequest(device)
    const opened: PortHandle | Failure = await attempt(() =>
      native.openPort(request, pool, portRequest(config)),
    )
    if (opened instanceof native.PortHandle) return new Port(opened, mempool)
    throw fromFailure(opened)
  }

  /** Its Ethernet address, as `56:48:4f:53:54:00`. */
  get mac(): string {
    return this.#handle.mac()
  }

  /** The link now. */
  get link(): LinkStatus {
    return linkStatus(this.#handle.link())
  }

  /** What it is now. */
  get info(): PortInfo {
    const { details, ...facts } = this.#handle.facts()
    const appliedBy = Object.fromEntries(this.#handle.applied()) as PortInfo['appliedBy']
    return { driver: this.driver, mac: this.mac, ...facts, appliedBy, details: Object.fromEntries(details) }
  }

  /** Sets the Ethernet address of one station. Throws `ERR_VRING_OUT_OF_RANGE`, `ERR_VRING_CLOSED`, as all that sets something. */
  setMac(mac: string): void {
    attempt(() => this.#handle.setMac(mac))
  }

  /** Largest payload of a frame in bytes. */
  get mtu(): number {
    return this.#handle.mtu()
  }

  /** Sets the MTU, 68 to 9728, and tells the peer where it can be told. Longer frames pass all the same. */
  setMtu(mtu: number): void {
    attempt(() => this.#handle.setMtu(mtu))
  }

  /** Whether the port moves packets, as far as this side decides: it does when it is opened. */
  get started(): boolean {
    return this.#handle.started()
  }

  /** Lets all queues move packets again, but for those that were stopped by themselves. */
  start(): void {
    attempt(() => this.#handle.start())
  }

  /** All queues stand still and the link is down, until {@link start}. The peer stays; what it sends waits in the rings. */
  stop(): void {
    attempt(() => this.#handle.stop())
  }

  /** Sets the link up or down, whatever the peer does. Down, the queues stand still; nothing is dropped. */
  setLink(up: boolean): void {
    attempt(() => this.#handle.setLink(up))
  }

  /** Queues that are used: at first all. */
  get queues(): { readonly rx: number; readonly tx: number } {
    const [rx = 0, tx = 0] = this.#handle.usedQueues()
    return { rx, tx }
  }

  /**
   * Uses the first queues of each direction only; the others stand still. At most those that the port was opened with: `rxQueues` and
   * `txQueues` stay as they are.
   */
  setQueues({
    rx = this.queues.rx,
    tx = this.queues.tx,
  }: {
    readonly rx?: number
    readonly tx?: number
  }): void {
    attempt(() => this.#handle.setQueues(rx, tx))
  }

  /** What is received, and how. */
  get rxMode(): RxMode {
    return fromRxFacts(this.#handle.rxMode())
  }

  /**
   * Changes what is received, and how; what is not named stays. The device does it or software does: {@link PortInfo.appliedBy}. Throws
   * `ERR_VRING_NOT_SUPPORTED` for what nobody does; nothing has changed then.
   */
  setRxMode(changes: Partial<RxMode>): void {
    attempt(() => this.#handle.setRxMode(toRxFacts({ ...this.rxMode, ...changes })))
  }

  /** Who does which offloads. */
  get offloads(): OffloadInfo {
    return fromOffloadFacts(this.#handle.offloads())
  }

  /** The counters now. They can be read after `close()` too. */
  stats(): PortStats {
    const rx = this.rxQueues.map((queue) => handleOfQueue(queue).stats())
    const tx = this.txQueues.map((queue) => handleOfQueue(queue).stats())
    return portStats(rx, tx)
  }

  /**
   * The counters now under DPDK's names for them, in DPDK's order: `rx_good_packets`, `rx_q0_good_packets`, … Sizes and kinds of addresses
   * (`rx_q0_size_64_packets`, `rx_q0_broadcast_packets`) are among them while {@link countKinds} asks for them, and every drop has its name in
   * each queue. Which names there are depends on nothing else.
   */
  xstats(): ReadonlyMap<string, number> {
    return xstatsOf({ driver: this.driver, byKind: this.#countsKinds }, this.stats())
  }

  /** Whether packets are counted by size and by kind of address; at first not. */
  get countsKinds(): boolean {
    return this.#countsKinds
  }

  /**
   * Counts packets by size and by kind of address from now on, or no longer: {@link QueueStats.kinds}. It costs a look at the first bytes of each
   * packet, which plain forwarding does without.
   */
  countKinds(on = true): void {
    for (const queue of [...this.rxQueues, ...this.txQueues]) handleOfQueue(queue).countKinds(on)
    this.#countsKinds = on
  }

  /** Counts from zero again, whoever polls the queues meanwhile. */
  resetStats(): void {
    for (const queue of [...this.rxQueues, ...this.txQueues]) handleOfQueue(queue).resetStats()
  }

  #listen(): void {
    this.#waiter.arm(() => {
      this.#deliver()
      if (!this.#closed) this.#listen()
    })
  }

  #deliver(): void {
    for (const event of this.#handle.drain()) this.#emit(event)
  }

  #emit({ link, error, rarp, mtu }: EventFacts): void {
    if (link !== undefined) this.emit('link', linkStatus(link))
    if (error !== undefined && this.listenerCount('error') > 0) this.emit('error', fromFailure(error))
    if (rarp !== undefined) this.emit('rarp', rarp)
    if (mtu !== undefined) this.emit('mtu', mtu)
  }

  /**
   * Resolves when the link is up (or down, with `up` false), at once if it is. Keeps the process alive meanwhile. Rejects
   * with `ERR_VRING_TIMEOUT`, `ERR_VRING_CLOSED`, or the signal's reason.
   */
  async waitForLink(up = true, options: WaitOptions = {}): Promise<void> {
    const { timeout, signal } = options
    signal?.throwIfAborted()
    if (this.link.up === up) return
    const wanted = up ? 'up' : 'down'
    const done = new AbortController()
    if (this.#waiting++ === 0) this.#waiter.ref()
    try {
      await new Promise<void>((resolve, reject) => {
        const look = (): void => {
          if (this.link.up === up) resolve()
        }
        const closed = (): void => reject(this.#closedError())
        const late = (): void => reject(this.#lateError(wanted, timeout!))
        const timer = timeout === undefined ? undefined : setTimeout(late, timeout)
        const aborted = (): void => reject(signal!.reason as Error)
        this.on('link', look).once('close', closed)
        signal?.addEventListener('abort', aborted)
        done.signal.addEventListener('abort', () => {
          clearTimeout(timer)
          this.off('link', look).off('close', closed)
          signal?.removeEventListener('abort', aborted)
        })
        if (this.#closed) closed()
        else look()
      })
    } finally {
      done.abort()
      if (--this.#waiting === 0) this.#waiter.unref()
    }
  }

  #closedError(): VringError {
    return new VringError('ERR_VRING_CLOSED', `${this.name} is closed; open the port again`)
  }

  #lateError(wanted: string, timeout: number): VringError {
    const message = `${this.name}: expected the link ${wanted} within ${timeout} ms, but no peer made it so`
    return new VringError('ERR_VRING_TIMEOUT', `${message}; is the other end of the link running?`)
  }

  /**
   * Lets the peer go, removes sockets, and gives all buffers back to the mempool; resolves when that is done. Queues throw
   * `ERR_VRING_CLOSED` from now on, in every thread. The name and the number are free again. Closing twice is no error.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.#handle.close()
    this.#closed = true
    this.#deliver()
    this.#waiter.close()
    this.emit('close')
  }

  /** The same as {@link close}: for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
