// Promise: `vring devbind` shows what dpdk-devbind.py shows, takes no device that is needed, and loses none.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import ava, { type ExecutionContext } from 'ava'
import { needs } from '../../../rig/index.ts'
import { asNobody, type Ran, run, sh, vring } from './run.ts'

interface Device {
  readonly address: string
  readonly driver?: string
  readonly interfaces: readonly string[]
  readonly active: boolean
  readonly iommuGroup?: number
}

const bind = (...args: readonly string[]): Ran => vring('devbind', ...args)
const dpdk = (...args: readonly string[]): Ran => run('dpdk-devbind.py', ...args)
const devices = (): readonly Device[] =>
  JSON.parse(bind('--status-dev', 'net', '--json').stdout) as readonly Device[]
const device = (address: string): Device => devices().find((one) => one.address === address)!

/** Without kmod's index, which the guest has not, lspci finds no modules: what dpdk-devbind does not know is left out of both. */
const known = (text: string): string => text.replaceAll(/unused=virtio_pci,?/g, 'unused=')

/** Both programs print the same. */
function same(t: ExecutionContext, ...args: readonly string[]): string {
  const [ours, theirs] = [bind(...args), dpdk(...args)]
  t.is(ours.status, 0, ours.stderr)
  t.is(known(ours.stdout), known(theirs.stdout))
  return ours.stdout
}

/** Addresses of the three devices, the first with a route, the second below a bridge with one. */
const addresses = { routed: '', bridged: '', free: '' }
let interfaceName = ''

export function declareDevbind(): void {
  const test = needs(ava, 'devbind')
  test('status is dpdk-devbind’s to the letter, active devices marked', (t) => {
    sh('modprobe virtio_net; modprobe bridge; modprobe vfio-pci; modprobe uio_pci_generic')
    const [routed, bridged, free] = devices()
    Object.assign(addresses, { routed: routed!.address, bridged: bridged!.address, free: free!.address })
    interfaceName = free!.interfaces[0]!
    sh(`ip link set ${routed!.interfaces[0]} up; ip addr add 192.0.2.1/24 dev ${routed!.interfaces[0]}`)
    same(t, '--status')
    const net = same(t, '--status-dev', 'net')
    t.regex(net, /^Network devices using kernel driver\n=+\n/m)
    t.regex(net, /'Virtio 1\.0 network device 1041' if=\w+ drv=virtio-pci unused=\S*vfio-pci\S* \*Active\*$/m)
    t.deepEqual(
      devices().map(({ active }) => active),
      [true, false, false],
    )
  })

  test('a device that carries a route, itself or by a bridge upon it, is not taken', (t) => {
    const name = device(addresses.bridged).interfaces[0]!
    sh(`ip link add br0 type bridge; ip link set ${name} master br0; ip link set br0 up`)
    sh('ip addr add 198.51.100.1/24 dev br0')
    for (const change of [['-b', 'uio_pci_generic'], ['-u']]) {
      const direct = bind(...change, addresses.routed)
      t.is(direct.status, 1)
      t.regex(
        direct.stderr,
        /^Warning: routing table indicates that interface \S+ is active\. (Not|Skipping)/,
      )
      t.regex(bind(...change, addresses.bridged).stderr, /is active \(br0 lies upon it\)/)
    }
    t.is(device(addresses.routed).driver, 'virtio-pci')
    t.is(device(addresses.bridged).driver, 'virtio-pci')
    sh('ip link del br0')
  })

  test('to a driver for programs and back, by either program, and the kernel’s driver works again', (t) => {
    for (const driver of ['vfio-pci', 'uio_pci_generic']) {
      t.deepEqual(bind('-b', driver, interfaceName), { status: 0, stdout: '', stderr: '' })
      t.is(device(addresses.free).driver, driver)
      const status = same(t, '--status-dev', 'net')
      t.regex(status, /^Network devices using DPDK-compatible driver$/m)
      t.regex(bind('-b', driver, addresses.free).stderr, /^Notice: \S+ already bound to driver /)
      // The address without its domain. What the one has bound the other takes back.
      const back = driver === 'vfio-pci' ? bind : dpdk
      t.is(back('-b', 'virtio-pci', addresses.free.slice(5)).status, 0)
      t.is(device(addresses.free).driver, 'virtio-pci')
      t.is(readFileSync(`/sys/bus/pci/devices/${addresses.free}/driver_override`, 'utf8').trim(), '(null)')
      interfaceName = device(addresses.free).interfaces[0]!
      sh(`ip link set ${interfaceName} up`)
      t.regex(sh(`ip -br link show ${interfaceName}`), /UP/)
      sh(`ip link set ${interfaceName} down`)
    }
    t.is(dpdk('-b', 'vfio-pci', addresses.free).status, 0)
    same(t, '--status-dev', 'net')
    t.is(bind('-b', 'virtio-pci', addresses.free).status, 0)
  })

  test('unbound devices are shown apart; `-u dpdk` frees all that programs could have', (t) => {
    t.is(bind('-b', 'vfio-pci', addresses.free).status, 0)
    t.is(bind('-u', 'dpdk').status, 0)
    t.is(device(addresses.free).driver, undefined)
    t.regex(same(t, '--status-dev', 'net'), /^Other Network devices$/m)
    t.regex(bind('-u', addresses.free).stderr, /^Notice: .* is not currently managed by any driver/)
    t.is(bind('--bind=virtio_pci', addresses.free).status, 0)
    t.is(device(addresses.free).driver, 'virtio-pci')
  })

  test('a driver that does not take the device: the old one has it again', (t) => {
    const { status, stderr } = bind('-b', 'pcieport', addresses.free)
    t.is(status, 1)
    t.regex(
      stderr,
      /^Error: bind failed for \S+ - Cannot bind to driver pcieport: .* It is bound to virtio-pci again/,
    )
    t.is(device(addresses.free).driver, 'virtio-pci')
  })

  test('a device that a program has open is not taken from it', async (t) => {
    t.is(bind('-b', 'vfio-pci', addresses.free).status, 0)
    const file = `/dev/vfio/${device(addresses.free).iommuGroup}`
    const opened = spawn('sh', ['-c', `exec 9<>${file}; echo open; exec sleep 120`], { stdio: 'pipe' })
    await new Promise((resolve) => opened.stdout.once('data', resolve))
    const { status, stderr } = bind('-b', 'virtio-pci', addresses.free)
    t.is(status, 1)
    t.regex(
      stderr,
      new RegExp(`is in use: sleep \\(process ${opened.pid}\\) has ${file} open\\. Not modifying`),
    )
    const ended = new Promise((resolve) => opened.once('exit', resolve))
    opened.kill()
    await ended
    while (existsSync(`/proc/${opened.pid}/fd/9`)) await sleep(10)
    t.is(bind('-b', 'virtio-pci', addresses.free).status, 0)
    t.is(device(addresses.free).driver, 'virtio-pci')
  })

  test('what cannot be is said with what to do', (t) => {
    t.regex(
      bind('-b', 'igb_uio', addresses.free).stderr,
      /^Error: Driver 'igb_uio' is not loaded\. Try: use a kernel/,
    )
    t.regex(bind('-b', addresses.free, addresses.free).stderr, /Did you forget to specify the driver/)
    t.regex(bind('-b', 'vfio-pci', '77:00.0').stderr, /^Error: Unknown device: 77:00\.0\. Please specify/)
    t.regex(bind().stderr, /^Error: No action specified/)
    t.regex(bind('-u').stderr, /^Error: No devices specified/)
    const nobody = asNobody('devbind', '-b', 'vfio-pci', addresses.free)
    t.is(nobody.status, 1)
    t.regex(nobody.stderr, /Cannot write \S+unbind: EACCES: need to be root/)
    t.is(device(addresses.free).driver, 'virtio-pci')
  })
}
