// What a port on vhost-net may hang on, and a second stack of the kernel's behind a second port.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { release as osRelease } from 'node:os'
import { promisify } from 'node:util'
import { Lcore, type Mempool, Port, type QueueConfig } from 'vring'

/** Runs a script of the shell, without blocking the ports of this process. */
export async function sh(script: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('sh', ['-ec', script], { timeout: 120_000 })
    return stdout
  } catch (error) {
    const { message, stdout, stderr } = error as Error & { stdout?: string; stderr?: string }
    throw new Error(`${message}\n${stdout}\n${stderr}`, { cause: error })
  }
}

/** The same for a moment's work. */
export const shell = (script: string): string => execFileSync('sh', ['-ec', script], { encoding: 'utf8' })

/** A counter of a device of this namespace. */
export const counter = (iface: string, name: string): number =>
  Number(readFileSync(`/sys/class/net/${iface}/statistics/${name}`, 'utf8'))

export const release = osRelease()

/** Packet sockets have headers as virtio 1 wants them from Linux 6.6 on. */
export const NO_SOCKET_HEADERS = release.startsWith('6.1.')

export const mtuOf = (iface: string): number => Number(readFileSync(`/sys/class/net/${iface}/mtu`, 'utf8'))

/** Waits until the condition gives something. Whether it ever does is for ava's own time limit. */
export async function until<T>(condition: () => T | false | undefined): Promise<T> {
  for (;;) {
    const value = condition()
    if (value !== false && value !== undefined) return value
    await new Promise((resolve) => setTimeout(resolve, 20)) // between two looks
  }
}

/** A kind of device under a port, and where the kernel's own stack is on the other side of it. */
export interface Wire {
  readonly name: string
  readonly queues: number
  /** Of the network that is used on it: 10.0.NET.1 is the kernel's. */
  readonly net: number
  /** The device under the port. */
  readonly iface: string
  /** The device with the kernel's address. */
  readonly kernel: string
  /** Makes what has to be there before the port is opened, and gives the kernel its address. */
  readonly before: string
  /** The same for when the port is open. */
  readonly after: string
  /** Devices whose MTU bounds what passes. */
  readonly links: readonly string[]
}

/** Without headers on its sockets, a kernel cannot say that a checksum is left out: its own stack must not leave any out. */
const whole = (iface: string): string => (NO_SOCKET_HEADERS ? `ethtool -K ${iface} tx off >/dev/null` : ':')

const address = (net: number, iface: string): string => `ip addr add 10.0.${net}.1/24 dev ${iface}`
const veth = (one: string, other: string, net: number): string =>
  `ip link add ${one} type veth peer name ${other}; ip link set ${one} up; ip link set ${other} up; ${address(net, other)};`

/** All, or those that `wires=` on the kernel's command line names: a guest for each is not too long for one spec. */
const chosen = / wires=(\S+)/.exec(readFileSync('/proc/cmdline', 'utf8'))?.[1]

const all: readonly Wire[] = [
  ...[1, 4].map((queues) => ({
    name: queues === 1 ? 'tap' : `tap with ${queues} queues`,
    queues,
    net: queues,
    iface: `tap${queues}`,
    kernel: `tap${queues}`,
    before: '',
    // Room for what the kernel's generator sends while this machine does something else.
    after: `${address(queues, `tap${queues}`)}; ip link set tap${queues} txqueuelen 20000 up`,
    links: [`tap${queues}`],
  })),
  {
    name: 'macvtap',
    queues: 1,
    net: 10,
    iface: 'mt0',
    kernel: 'mv1',
    before: `${veth('mv0', 'mv1', 10)} ip link add link mv0 name mt0 type macvtap mode bridge; ip link set mt0 txqueuelen 20000 up`,
    after: '',
    links: ['mv0', 'mv1', 'mt0'],
  },
  {
    name: 'packet socket',
    queues: 1,
    net: 20,
    iface: 'ps0',
    kernel: 'ps1',
    before: `${veth('ps0', 'ps1', 20)} ${whole('ps1')}`,
    after: '',
    links: ['ps1', 'ps0'],
  },
]

export const WIRES = all.filter(({ iface }) => chosen === undefined || iface === chosen)

export const device = (n: number, iface: string, more = ''): string =>
  `net_virtio_user${n},path=/dev/vhost-net,iface=${iface}${more}`

/** Opens a port on a wire, and waits until it has a link. */
export async function openOn(wire: Wire, config: QueueConfig, more = ''): Promise<Port> {
  if (wire.before !== '') shell(wire.before)
  const queues = { rxQueues: wire.queues, txQueues: wire.queues }
  const port = await Port.open(device(0, wire.iface, `,queues=${wire.queues}${more}`), {
    ...queues,
    ...config,
  })
  if (wire.after !== '') shell(wire.after)
  await port.waitForLink(true, { timeout: 20_000 })
  return port
}

/** Takes away what {@link openOn} made. */
export function remove(wire: Wire): void {
  if (wire.before !== '') shell(`ip link del ${wire.kernel} 2>/dev/null || true`)
}

/** The namespace `far`, with a server that sends back what it gets on port 7000. */
export async function startFar(): Promise<() => void> {
  shell('ip netns add far')
  const argv = [
    'netns',
    'exec',
    'far',
    process.execPath,
    '--import=@oxc-node/core/register',
    '__test__/kernel/echo.ts',
    '7000',
  ]
  const server = spawn('ip', argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve, reject) => {
    server.stdout.once('data', resolve)
    server.once('error', reject)
  })
  return () => server.kill()
}

/** A second port, on a tap of its own. */
export async function openFar(more: string, config: QueueConfig): Promise<Port> {
  const far = await Port.open(device(1, 'far0', more), config)
  await far.waitForLink(true, { timeout: 20_000 })
  return far
}

/** A second port, on a tap in the namespace `far`, and lcores that forward between the two. */
export class Bridge implements AsyncDisposable {
  readonly far: Port
  readonly #lcores: readonly Lcore[]

  private constructor(far: Port, lcores: readonly Lcore[]) {
    this.far = far
    this.#lcores = lcores
  }

  static async start(
    near: Port,
    wire: Wire,
    mempool: Mempool,
    config: Partial<QueueConfig> = {},
  ): Promise<Bridge> {
    const queues = near.rxQueues.length
    const args = `,netns=far,ip=10.0.${wire.net}.2/24,mac=${near.mac},queues=${queues}`
    const far = await openFar(args, { mempool, rxQueues: queues, txQueues: queues, ...config })
    const lcore = new Lcore()
    lcore.start(
      'io',
      near.rxQueues.flatMap((rx, i) => [
        { rx, tx: far.txQueues[i]! },
        { rx: far.rxQueues[i]!, tx: near.txQueues[i]! },
      ]),
    )
    return new Bridge(far, [lcore])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const lcore of this.#lcores) await lcore[Symbol.asyncDispose]()
    await this.far.close()
  }
}

/** Sends bytes to the far server and compares what comes back: the digests of both. */
export async function echoOverTcp(net: number, bytes: number): Promise<{ sent: string; back: string }> {
  const [sent, back] = [createHash('sha256'), createHash('sha256')]
  const chunk = randomBytes(1 << 16)
  const socket = connect({ host: `10.0.${net}.2`, port: 7000 })
  const received = new Promise<void>((resolve, reject) => {
    let left = bytes
    socket.on('error', reject).on('data', (data) => {
      back.update(data)
      left -= data.length
      if (left === 0) resolve()
    })
  })
  for (let done = 0; done < bytes; done += chunk.length) {
    chunk.writeUInt32BE(done, 0)
    const part = Buffer.from(chunk.subarray(0, Math.min(chunk.length, bytes - done)))
    sent.update(part)
    if (!socket.write(part))
      await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), received])
  }
  await received
  // To its very end: what a stack still has to say would be counted among another test's packets.
  socket.end()
  await once(socket, 'close')
  return { sent: sent.digest('hex'), back: back.digest('hex') }
}

/**
 * The kernel's own generator sends that many packets out of a device, at a rate that a slow machine takes. Gives how many more the device refused
 * in between: they are among what it dropped.
 */
export async function pktgen(iface: string, dst: string, count: number, rate: number): Promise<number> {
  const proc = '/proc/net/pktgen'
  const lines = (file: string, ...all: string[]): string =>
    all.map((line) => `echo "${line}" >${proc}/${file}`).join('\n')
  await sh(`modprobe pktgen
    ${lines('kpktgend_0', 'rem_device_all', `add_device ${iface}`)}
    ${lines(iface, `count ${count}`, 'pkt_size 60', `ratep ${rate}`, `dst_mac ${dst}`, 'dst 10.99.0.2', 'clone_skb 0')}
    ${lines('pgctrl', 'start')}`)
  const [, sent, errors] =
    /pkts-sofar: (\d+)\s+errors: (\d+)/.exec(readFileSync(`${proc}/${iface}`, 'utf8')) ?? []
  if (Number(sent) !== count) throw new Error(`pktgen sent ${sent} packets of ${count}`)
  return Number(errors)
}
