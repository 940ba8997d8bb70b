/** Follows what the kernel's side does to an interface: asks, applies it to the port, or undoes it. */
import type { DeviceHandle, Waiter } from '../../index.js'
import { attempt } from '../errors.ts'
import type { Port } from '../port.ts'
import { type KniRequest, requestsBetween, type Settings, withSetting } from './request.ts'

/** What becomes of a request: false, or an error that is thrown, refuses it. */
export type KniHandler = (request: KniRequest) => unknown

/** Whom a {@link Follower} tells. */
export interface FollowerEvents {
  request(request: KniRequest): void
  refused(request: KniRequest, reason: Error | undefined): void
  error(error: Error): void
}

/** What a {@link Follower} follows, and how. */
export interface FollowerParts {
  readonly device: DeviceHandle
  readonly port: Port
  /** The port receives packets to all addresses, or to all groups, whatever the interface wants. */
  readonly always: { readonly promiscuous: boolean; readonly allMulticast: boolean }
  readonly handler: KniHandler | undefined
  readonly events: FollowerEvents
}

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))

/** See the file. The kernel tells that something happened; what counts is how the interface is when it is looked at. */
export class Follower {
  readonly #parts: FollowerParts
  readonly #waiter: Waiter
  #settings: Settings
  #work: Promise<void> = Promise.resolve()
  #closed = false

  /** Begins with the port as it is: what differs in the interface is a request. */
  constructor(parts: FollowerParts) {
    const { device, port, always } = parts
    this.#parts = parts
    port.setRxMode(always)
    this.#settings = {
      up: port.started,
      mtu: port.mtu,
      mac: port.mac,
      promiscuous: false,
      allMulticast: false,
    }
    this.#waiter = attempt(() => device.waiter())
    this.#waiter.unref()
    this.#listen()
  }

  #listen(): void {
    this.#waiter.arm(() => {
      this.#parts.device.drain()
      void this.look()
      this.#listen()
    })
  }

  /** Looks at the interface, and resolves when the port goes by it. */
  look(): Promise<void> {
    this.#work = this.#work.then(() => this.#follow())
    return this.#work
  }

  /** Follows no more. A handler that was asked and has not answered yet is not waited for. */
  close(): void {
    this.#closed = true
    this.#waiter.close()
  }

  async #follow(): Promise<void> {
    const { events } = this.#parts
    try {
      const now = this.#closed ? null : this.#parts.device.state()
      if (now === null) return
      for (const request of requestsBetween(this.#settings, now)) await this.#settle(request, now)
    } catch (error) {
      events.error(asError(error))
    }
  }

  async #settle(request: KniRequest, now: Settings): Promise<void> {
    const { events, handler } = this.#parts
    let refusal: { readonly reason: Error | undefined } | undefined
    try {
      if ((await handler?.(request)) === false) refusal = { reason: undefined }
      else if (!this.#closed) this.#apply(request)
    } catch (error) {
      refusal = { reason: asError(error) }
    }
    if (this.#closed) return
    if (refusal !== undefined) this.#revert(request)
    // What cannot be undone, since somebody else in the kernel wants it, is not asked about again.
    const after = refusal === undefined ? now : (this.#parts.device.state() ?? now)
    this.#settings = withSetting(this.#settings, request, after)
    if (refusal === undefined) events.request(request)
    else events.refused(request, refusal.reason)
  }

  #apply(request: KniRequest): void {
    const { port, always } = this.#parts
    switch (request.kind) {
      case 'link':
        return request.up ? port.start() : port.stop()
      case 'mtu':
        return port.setMtu(request.mtu)
      case 'mac':
        return port.setMac(request.mac)
      case 'promiscuous':
        return port.setRxMode({ promiscuous: always.promiscuous || request.on })
      case 'allMulticast':
        return port.setRxMode({ allMulticast: always.allMulticast || request.on })
    }
  }

  /** The interface as it was before. */
  #revert(request: KniRequest): void {
    const { device, events } = this.#parts
    const { up, mtu, mac, promiscuous, allMulticast } = this.#settings
    const undo = {
      link: () => device.setUp(up),
      mtu: () => device.setMtu(mtu),
      mac: () => device.setMac(mac),
      promiscuous: () => device.setPromiscuous(promiscuous),
      allMulticast: () => device.setAllMulticast(allMulticast),
    }
    try {
      attempt(undo[request.kind])
    } catch (error) {
      events.error(asError(error))
    }
  }
}
