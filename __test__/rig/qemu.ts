// QEMU without an operating system: the network boot ROM of its virtio-net device asks for an address by DHCP, and
// these frames are a real driver's traffic through a real vhost-user front end. No KVM, no disk, no privilege.
import { existsSync } from 'node:fs'
import { Machine, properties } from './machine.ts'

export interface QemuOptions {
  /** The vhost-user socket. */
  readonly socket: string
  /** True: QEMU listens on the socket, and waits for the back end before it boots. Default: it connects. */
  readonly server?: boolean
  /** Seconds between attempts to connect again, client only. */
  readonly reconnect?: number
  readonly queues?: number
  readonly mac?: string
  /** More properties of the device, e.g. `{ packed: 'on' }`. */
  readonly device?: Readonly<Record<string, string>>
  /** MiB of guest memory, default 256. */
  readonly memory?: number
  readonly timeout?: number
}

function argumentsOf(options: QemuOptions): string[] {
  const memory = `${options.memory ?? 256}M`
  const queues = options.queues ?? 1
  const role = options.server === true ? { server: 'on', wait: 'on' } : { reconnect: options.reconnect }
  const multi = queues > 1 ? { mq: 'on', vectors: 2 * queues + 2 } : {}
  const chardev = properties('socket', { id: 'c0', path: options.socket, ...role })
  const netdev = properties('vhost-user', {
    id: 'n0',
    chardev: 'c0',
    queues: queues > 1 ? queues : undefined,
  })
  const device = properties('virtio-net-pci', { netdev: 'n0', mac: options.mac, ...multi, ...options.device })
  return [
    ...['-accel', 'tcg', '-m', memory],
    ...['-object', `memory-backend-memfd,id=m0,size=${memory},share=on`, '-machine', 'pc,memory-backend=m0'],
    ...['-chardev', chardev, '-netdev', netdev, '-device', device],
  ]
}

export class Qemu extends Machine {
  /** Starts QEMU. As a client it runs when this resolves; as a server its socket is there and it waits for the peer. */
  static async start(options: QemuOptions): Promise<Qemu> {
    const timeout = options.timeout ?? 60_000
    const qemu = new Qemu(argumentsOf(options), timeout)
    try {
      if (options.server === true) await qemu.#untilListening(options.socket, timeout)
      else await qemu.qmp('query-status')
      return qemu
    } catch (error) {
      await qemu[Symbol.asyncDispose]()
      throw error
    }
  }

  async #untilListening(socket: string, timeout: number): Promise<void> {
    const looking = setInterval(() => this.wake(), 50) // nobody tells us when the socket is there
    try {
      await this.until(`it listened on ${socket}`, timeout, () => existsSync(socket) || undefined)
    } finally {
      clearInterval(looking)
    }
  }
}
