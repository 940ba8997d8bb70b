// Wires that a test lays between kernels. An end is a NIC of a guest on a net_vhost port, or a tap of this machine. Behind each is a network
// namespace of its own, with a web server that has a file to get over TCP. Between them a script of ours passes packets on.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type Mempool, Port, type RxOffload } from 'vring'
import { scratch, type Scratch } from '../rig/scratch.ts'
import { Bridge, type Crossed } from './bridge.ts'
import { type Guest, vhostUserNic } from './rig/index.ts'

const IP = '/sbin/ip' // busybox, the guest's shell, has one of its own, which knows no namespaces
/** Where the guest's web servers have their file. */
const FOLDER = '/dev/shm/www'
const BYTES = 1_000_001

/** The numbers of an end: `wire` 1 to 9, `end` 1 or 2. */
export interface Place {
  readonly wire: number
  readonly end: number
}

export abstract class End implements AsyncDisposable {
  readonly ip: string
  readonly ip6: string
  readonly mac: string
  readonly port: Port
  /** Of the file. */
  digest = ''

  constructor({ wire, end }: Place, port: Port) {
    this.ip = `10.${wire}.0.${end}`
    this.ip6 = `fd00:${wire}::${end}`
    this.mac = `02:00:00:00:0${wire}:0${end}`
    this.port = port
  }

  /** A command of the shell in this end's namespace, where its device is eth0. It must succeed. */
  abstract run(command: string): Promise<string>

  async [Symbol.asyncDispose](): Promise<void> {
    await this.port.close()
  }

  /** The command that gives eth0 its addresses and sets it up. */
  protected get addresses(): string {
    const add = (address: string): string => `${IP} addr add ${address} dev eth0`
    return [
      `${IP} link set lo up`,
      add(`${this.ip}/24`),
      add(`${this.ip6}/64 nodad`),
      `${IP} link set eth0 up`,
    ].join(';')
  }
}

export interface NicOptions {
  readonly place: Place
  readonly mempool: Mempool
  /** Properties of QEMU's device. */
  readonly device: Readonly<Record<string, string | number>>
  readonly queues?: number
  readonly rxOffloads?: readonly RxOffload[]
}

/** A NIC of a guest. */
export class NicEnd extends End {
  /** QEMU's arguments for it. */
  readonly arguments: readonly string[]
  readonly #namespace: string
  readonly #folder: Scratch
  #guest: Guest | undefined

  private constructor({ place, device, queues = 1 }: NicOptions, port: Port, folder: Scratch) {
    super(place, port)
    this.#namespace = `w${place.wire}${place.end}`
    this.#folder = folder
    const id = this.#namespace
    this.arguments = vhostUserNic({ id, socket: folder.path('s'), mac: this.mac, queues, device })
  }

  static async open(options: NicOptions): Promise<NicEnd> {
    const { mempool, queues = 1, rxOffloads = [] } = options
    const folder = scratch()
    const config = { mempool, rxQueues: queues, txQueues: queues, rxOffloads }
    const port = await Port.open({ driver: 'net_vhost', iface: folder.path('s'), queues }, config)
    return new NicEnd(options, port, folder)
  }

  /** After the guest has booted, and whenever the NIC has come back: finds it by its address and makes it the namespace's eth0. */
  async setUp(guest: Guest): Promise<void> {
    this.#guest = guest
    const namespace = this.#namespace
    const inside = `${IP} netns exec ${namespace}`
    await guest.run(`set -e
      modprobe virtio_net; modprobe ipv6
      [ -e ${FOLDER}/data ] || { mkdir ${FOLDER}; head -c ${BYTES} /dev/urandom >${FOLDER}/data; }
      until nic=$(grep -l ${this.mac} /sys/class/net/*/address); do sleep 0.1; done
      nic=\${nic%/address}; nic=\${nic##*/}
      [ -e /run/netns/${namespace} ] || {
        ${IP} netns add ${namespace}
        ${inside} busybox httpd -p 80 -h ${FOLDER} </dev/null >/dev/null 2>&1
      }
      ${IP} link set $nic netns ${namespace}
      ${inside} ${IP} link set $nic name eth0`)
    await this.run(this.addresses)
    this.digest = await guest.run(`md5sum <${FOLDER}/data`)
    await this.port.waitForLink(true, { timeout: 20_000 })
  }

  run(command: string): Promise<string> {
    return this.#guest!.run(`exec ${IP} netns exec ${this.#namespace} /bin/sh -ec '${command}'`)
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]()
    this.#folder[Symbol.dispose]()
  }
}

/** A tap of this machine's kernel, on a net_tap port. */
export class TapEnd extends End {
  /** What keeps the namespace, and the web server in it. */
  readonly #children: readonly ChildProcess[]
  readonly #folder: Scratch

  private constructor(place: Place, port: Port, children: readonly ChildProcess[], folder: Scratch) {
    super(place, port)
    this.#children = children
    this.#folder = folder
  }

  static async open(place: Place, mempool: Mempool): Promise<TapEnd> {
    const folder = scratch()
    writeFileSync(folder.path('data'), randomBytes(BYTES))
    const holder = spawn('unshare', ['-n', 'sh', '-c', 'echo ready; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    })
    await once(holder.stdout, 'data')
    const netns = `/proc/${holder.pid}/ns/net`
    const port = await Port.open({ driver: 'net_tap', iface: 'eth0', netns }, { mempool, mtu: 9000 })
    const serve = [`--net=${netns}`, 'busybox', 'httpd', '-f', '-p', '80', '-h', folder.path('')]
    const server = spawn('nsenter', serve, { stdio: 'ignore', detached: true })
    const end = new TapEnd(place, port, [holder, server], folder)
    await end.run(end.addresses)
    end.digest = await end.run(`md5sum <${folder.path('data')}`)
    return end
  }

  run(command: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const inside = [`--net=/proc/${this.#children[0]!.pid}/ns/net`, 'sh', '-ec', command]
      execFile('nsenter', inside, (error, stdout) =>
        error === null ? resolve(stdout.trim()) : reject(error),
      )
    })
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]()
    // The server has a child for each connection, which would outlive a guest that is gone.
    for (const { pid } of this.#children.toReversed()) process.kill(-pid!, 'SIGKILL')
    this.#folder[Symbol.dispose]()
  }
}

/** Two ends with a bridge between their ports. */
export class Wire implements AsyncDisposable {
  readonly ends: readonly [End, End]
  readonly #bridge: Bridge

  constructor(a: End, b: End) {
    this.ends = [a, b]
    this.#bridge = new Bridge(a.port, b.port)
  }

  /** Runs a command at both ends. */
  async run(command: string): Promise<void> {
    for (const end of this.ends) await end.run(command)
  }

  /** Pings with that many bytes of data in packets that must not be cut. Gives what is lost, in percent. */
  async ping(size = 56): Promise<number> {
    const output = await this.ends[0].run(`ping -c 3 -i 0.2 -M do -s ${size} ${this.ends[1].ip}`)
    return Number(/(\d+)% packet loss/.exec(output)?.[1])
  }

  /** Gets each end's file from the other over TCP, one by IPv4 and one by IPv6; throws unless it arrives whole. Gives what crossed. */
  async transfer(): Promise<Crossed> {
    this.#bridge.take()
    const [a, b] = this.ends
    await get(b, a.ip, a.digest)
    await get(a, b.ip6, b.digest)
    return this.#bridge.take()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bridge[Symbol.asyncDispose]()
    for (const end of this.ends) await end[Symbol.asyncDispose]()
  }
}

/** By bash, since the guest's busybox cannot: what it is linked with and what the host has for names are not the same. */
export async function get(to: End, host: string, digest: string): Promise<void> {
  const request = `exec 3<>/dev/tcp/${host}/80; printf \\"GET /data HTTP/1.0\\r\\n\\r\\n\\" >&3; tail -c ${BYTES} <&3`
  const got = await to.run(`timeout 60 bash -c "${request}" | md5sum`)
  if (got !== digest) throw new Error(`${host} sent ${digest}, what arrived is ${got}`)
}
