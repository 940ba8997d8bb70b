// Runs in a guest. Promise: the chapter's figure of KNI, run: generator, port, KNI, vEth0, vhost in the kernel, virtio, and back. Nothing is lost,
// and all counters agree. Then the same interface in the hands of QEMU with vhost=on, by its file.
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { scratch, Terminal, Testpmd } from '../../rig/index.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const run = promisify(execFile)
const PACKETS = 3000
const PATIENCE = 90_000

const ip = (...words: string[]): string => execFileSync('ip', words, { encoding: 'utf8' })
const counter = (device: string, name: string): number =>
  Number(readFileSync(`/sys/class/net/${device}/statistics/${name}`, 'utf8'))

test.before(() => {
  for (const module of ['tun', 'vhost_net', 'veth', 'macvlan', 'macvtap', 'af_packet'])
    execFileSync('modprobe', [module])
})

/** A veth pair: g0 is the generator's, p0 is the port. Nobody but the test sends. */
function makeWire(): void {
  if (existsSync('/proc/sys/net/ipv6'))
    for (const which of ['all', 'default'])
      writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, '1')
  if (existsSync('/sys/class/net/g0')) ip('link', 'del', 'g0')
  ip('link', 'add', 'g0', 'type', 'veth', 'peer', 'name', 'p0')
  ip('link', 'set', 'g0', 'up')
  ip('link', 'set', 'p0', 'up')
}

interface KniTable {
  readonly rx: number
  readonly rxDropped: number
  readonly tx: number
  readonly txDropped: number
}

/** `vring kni` on p0 with the options, as a program of its own. */
class KniProgram implements AsyncDisposable {
  readonly terminal: Terminal

  constructor(...options: string[]) {
    // Two processors are few for all who poll: the loops may run on both, and give them away when they have nothing to do.
    const eal = [
      '--lcores',
      '0@(0,1),1@(0,1)',
      '--no-huge',
      '--vdev',
      'net_af_packet0,iface=p0,framecnt=2048',
    ]
    const words = [...eal, '--', '-p', '0x1', '-i', '0x1', '-o', '0x2', ...options]
    this.terminal = new Terminal('vring kni', [process.execPath, `${root}dist/cli.js`, 'kni', ...words])
  }

  until(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return this.terminal.until(`it prints ${pattern}`, PATIENCE, () => {
      return pattern.exec(this.terminal.since(from)) ?? undefined
    })
  }

  async reset(): Promise<void> {
    const mark = this.terminal.position
    this.terminal.signal('SIGUSR2')
    await this.until(/have been reset/, mark)
  }

  async table(): Promise<KniTable> {
    const mark = this.terminal.position
    this.terminal.signal('SIGUSR1')
    const row = await this.until(/^ +0 +0\/ 1 +(\d+) +(\d+) +(\d+) +(\d+)$[^=]*=/m, mark)
    const [rx = 0, rxDropped = 0, tx = 0, txDropped = 0] = row.slice(1).map(Number)
    return { rx, rxDropped, tx, txDropped }
  }

  async end(): Promise<number> {
    this.terminal.signal('SIGINT')
    return this.terminal.until('its end', PATIENCE, () => this.terminal.exitCode)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.terminal[Symbol.asyncDispose]()
  }
}

/** What stands between vEth0 and vhost, and how the port's side crosses the tap. */
interface Figure {
  readonly title: string
  readonly options: readonly string[]
  readonly by: string
  /** Told when the port receives packets to all addresses: at once, or when the device is there. */
  readonly promiscuous: RegExp
  /** Makes the device that vhost is attached to. */
  readonly device: () => string
}

const figures: readonly Figure[] = [
  {
    title: 'a macvtap, KNI by vhost-net',
    options: ['--vmm'],
    by: 'net_virtio_user',
    promiscuous: /vEth0 is there/,
    device: () => 'vEth0-vm',
  },
  {
    // The chapter's raw socket. A device of its own keeps the kernel of this machine from seeing what the socket gets.
    title: 'a raw packet socket, KNI by system calls',
    options: ['--no-vhost'],
    by: 'net_tap',
    promiscuous: /vEth0: promisc on/,
    device: () => {
      ip('link', 'add', 'link', 'vEth0', 'name', 'raw0', 'type', 'macvlan', 'mode', 'passthru')
      ip('link', 'set', 'raw0', 'up')
      return 'raw0'
    },
  },
]

for (const { title, options, by, promiscuous, device } of figures) {
  test.serial(`the figure, by ${title}: nothing is lost, and every hop counted the same`, async (t) => {
    makeWire()
    await using kni = new KniProgram(...options)
    await kni.until(new RegExp(`vEth0 is there, by ${by},`))
    const vdev = `net_virtio_user0,path=/dev/vhost-net,iface=${device()},queue_size=1024`
    await using machine = await Testpmd.vring({
      ...{ vdevs: [vdev], forward: 'macswap', topology: 'loop', autoStart: true, timeout: PATIENCE },
      eal: ['--lcores', '0@(0,1),1@(0,1)'],
    })
    await machine.waitForLink()
    await kni.until(promiscuous)
    await kni.reset()
    await machine.command('clear port stats all')
    const before = { rx: counter('vEth0', 'rx_packets'), tx: counter('vEth0', 'tx_packets') }

    const program = ['--import=@oxc-node/core/register', '__test__/kni/generator.ts']
    const generator = 'net_af_packet0,iface=g0,framecnt=2048'
    const { stdout } = await run(process.execPath, [...program, generator, String(PACKETS)], {
      cwd: root,
    })
    t.regex(stdout, new RegExp(`^sent ${PACKETS}, received ${PACKETS}, the same, at \\d+ packets/s\n$`))
    t.log(`${title}: ${stdout.trim()}`)

    t.deepEqual(await kni.table(), { rx: PACKETS, rxDropped: 0, tx: PACKETS, txDropped: 0 })
    const after = { rx: counter('vEth0', 'rx_packets'), tx: counter('vEth0', 'tx_packets') }
    t.deepEqual([after.rx - before.rx, after.tx - before.tx], [PACKETS, PACKETS])
    const { rxPackets, txPackets } = await machine.portStats()
    t.deepEqual([rxPackets, txPackets], [PACKETS, PACKETS])
    t.is(await machine.quit(), 0)
    t.is(await kni.end(), 0)
    t.false(existsSync('/sys/class/net/vEth0'))
  })
}

test.serial(
  'QEMU has the interface with vhost=on, by its file: its boot ROM gets an address through the port, and answers ping',
  async (t) => {
    makeWire()
    ip('addr', 'add', '10.0.0.1/24', 'dev', 'g0')
    await using kni = new KniProgram('--vmm')
    const [, file = ''] = await kni.until(/-netdev (?:tap,id=n0,fd=3,vhost=on) … 3<>(\/dev\/tap\d+)/)
    using folder = scratch()
    const config = folder.path('udhcpd.conf')
    const lines = [
      'interface g0',
      'start 10.0.0.2',
      'end 10.0.0.2',
      'max_leases 1',
      'siaddr 10.0.0.1',
      'boot_file none',
    ]
    writeFileSync(folder.path('leases'), '')
    const files = [`lease_file ${folder.path('leases')}`, `pidfile ${folder.path('pid')}`]
    writeFileSync(config, `${[...lines, ...files, 'opt subnet 255.255.255.0'].join('\n')}\n`)
    await using dhcp = new Terminal('udhcpd', ['busybox', 'udhcpd', '-f', config])
    const net = '-netdev tap,id=n0,fd=3,vhost=on -device virtio-net-pci,netdev=n0'
    const qemu = `exec qemu-system-x86_64 -nodefaults -display none -accel tcg -m 64 ${net} 3<>${file}`
    await using machine = new Terminal('qemu', ['sh', '-c', qemu])
    const answered = (): true | undefined => {
      if (machine.exitCode !== undefined) throw machine.failure('ended')
      return /sending ACK to 10\.0\.0\.2/.test(dhcp.transcript) || undefined
    }
    await dhcp.until('the boot ROM has its address', 240_000, answered)
    const ping = await run('ping', ['-c', '3', '-w', '60', '10.0.0.2'])
    t.regex(ping.stdout, / 0% packet loss/)
    const { rx, tx } = await kni.table()
    t.true(rx >= 5 && tx >= 5)
    t.log(`the port carried ${rx} packets to QEMU and ${tx} from it`)
    await machine[Symbol.asyncDispose]()
    t.is(await kni.end(), 0)
  },
)
