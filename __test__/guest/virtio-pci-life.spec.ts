// Promise: a TypeScript program in a guest is a host on the network behind its virtio device: it sleeps until a packet comes, sees
// its link, announces itself, tells the device what it wants to receive, and survives what happens to programs and devices.
import test, { type ExecutionContext } from 'ava'
import { needs, scratch } from '../rig/index.ts'
import {
  bind,
  type Binding,
  Guest,
  GuestTestpmd,
  type Job,
  pciAddress,
  reserveHugepages,
  Wire,
} from './rig/index.ts'

const NAME = 'nic'
const MAC = '525400000008'

/** A guest with a device that can be unplugged, and another. */
interface Scene {
  readonly t: ExecutionContext
  readonly guest: Guest
  readonly wire: Wire
  /** Where the device is. */
  readonly address: string
  readonly other: string
}

/** What QEMU's monitor tells of a device's filter. */
interface RxFilter {
  readonly promiscuous: boolean
  readonly multicast: 'normal' | 'none' | 'all'
  readonly 'main-mac': string
  readonly 'unicast-table': readonly string[]
  readonly 'multicast-table': readonly string[]
  readonly vlan: 'normal' | 'none' | 'all'
  readonly 'vlan-table': readonly number[]
}

/** An ARP request for 10.0.0.2 from 10.0.0.1, and the beginning of its answer. */
const ARP = Buffer.from(
  `ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002${'00'.repeat(18)}`,
  'hex',
)

/** An ICMP echo request to 10.0.0.2. */
function echo(sequence: number): Buffer {
  const frame = Buffer.alloc(98)
  frame.write(`${MAC}02000000000108004500005400004000400100000a0000010a0000020800000012340000`, 'hex')
  frame.writeUInt16BE(sequence, 40)
  return frame
}

/** The program of a guest that answers ARP and ping. */
async function respond({ guest, address }: Scene): Promise<Job> {
  const argv = `__test__/kernel/responder.ts ${address} 10.0.0.2`
  const job = guest.start(`exec node --import=@oxc-node/core/register ${argv}`)
  await job.until(/10\.0\.0\.2 is at /)
  return job
}

/** It answers: ARP, and pings one by one and in a burst. */
async function answers({ t, wire }: Scene): Promise<void> {
  wire.received.length = 0
  await wire.send([ARP])
  const [arp] = await wire.take(1)
  t.is(arp!.subarray(0, 14).toString('hex'), `020000000001${MAC}0806`)
  for (const count of [1, 1, 60]) {
    await wire.send(Array.from({ length: count }, (_, i) => echo(i)))
    const replies = await wire.take(count)
    t.deepEqual(
      replies.map((reply) => [reply.subarray(0, 6).toString('hex'), reply[34], reply.readUInt16BE(40)]),
      Array.from({ length: count }, (_, i) => ['020000000001', 0, i]),
    )
  }
}

/** Ticks of processor time that a process has used. */
async function ticks(guest: Guest, pid: string): Promise<number> {
  const fields = (await guest.run(`cat /proc/${pid}/stat`)).split(') ')[1]!.split(' ')
  return Number(fields[11]) + Number(fields[12])
}

async function sleepsWhenIdle({ t, guest }: Scene): Promise<void> {
  const pid = (await guest.run('pgrep -f kernel/responder.ts')).split('\n')[0]!
  const before = await ticks(guest, pid)
  await guest.run('sleep 3')
  const used = (await ticks(guest, pid)) - before
  t.true(used < 60, `of 300 ticks it used ${used}`)
}

/** The link is set by the monitor, and the program told. */
async function linkFollows(scene: Scene, job: Job): Promise<void> {
  const { guest } = scene
  await guest.qmp('set_link', { name: NAME, up: false })
  await job.until(/link down\n/)
  await guest.qmp('set_link', { name: NAME, up: true })
  await job.until(/link down\nlink up\n/)
  await answers(scene)
}

/** QEMU sends a RARP request of its own, and asks the driver for one. */
async function announces({ t, guest, wire }: Scene): Promise<void> {
  wire.received.length = 0
  await guest.qmp('announce-self', { initial: 50, max: 50, rounds: 1, step: 50, interfaces: [NAME] })
  const frames = await wire.take(2)
  for (const frame of frames)
    t.is(frame.subarray(0, 22).toString('hex'), `ffffffffffff${MAC}80350001080006040003`)
}

/** Nobody else gets the device; when its program is killed, the next one does, and works. */
async function oneAtATime(scene: Scene, job: Job): Promise<Job> {
  const { t, guest, address } = scene
  const pid = (await guest.run('pgrep -f kernel/responder.ts')).split('\n')[0]!
  const second = await guest.attempt(
    `node dist/cli.js testpmd -l 0,1 -a ${address} -- --total-num-mbufs=4096`,
  )
  t.is(second.status, 1)
  t.regex(second.output, new RegExp(`process ${pid} drives this device.*ERR_VRING_DEVICE_IN_USE`))
  job.signal('KILL')
  t.is((await job.ended()).status, 137)
  const next = await respond(scene)
  await answers(scene)
  return next
}

/** The device is taken out: an error of that port, and a program that lives. */
async function unplugs({ t, guest }: Scene, job: Job): Promise<void> {
  await guest.qmp('device_del', { id: NAME })
  await job.until(/the device was unplugged/)
  await guest.until(
    'DEVICE_DELETED',
    undefined,
    () => guest.machine.events.includes('DEVICE_DELETED') || undefined,
  )
  job.signal('TERM')
  const { status, output } = await job.ended()
  t.is(status, 0, output)
}

/** The kernel's own driver gets the other device, and works. */
async function givesBack({ t, guest, other }: Scene, wire: Wire): Promise<void> {
  await bind(guest, [other], 'virtio-pci')
  await guest.run('modprobe virtio_net')
  const net = `/sys/bus/pci/devices/${other}/virtio*/net`
  await guest.run(
    `until [ -e ${net}/* ]; do sleep 0.1; done; d=$(basename ${net}/*); ip addr add 10.0.0.2/24 dev $d; ip link set $d up`,
  )
  wire.received.length = 0
  await wire.send([ARP])
  for (;;) {
    const [frame] = await wire.take(1)
    if (frame!.readUInt16BE(12) !== 0x0806) continue
    t.is(frame!.subarray(0, 6).toString('hex'), '020000000001')
    return
  }
}

/** What the control queue tells the device, seen from the device's side. */
async function filters({ t, guest, address }: Scene): Promise<void> {
  const filter = async (): Promise<RxFilter> =>
    ((await guest.qmp('query-rx-filter', { name: NAME })) as RxFilter[])[0]!
  const argv = `-l 0,1 -a ${address} -- -i --total-num-mbufs=4096`
  await using testpmd = await GuestTestpmd.start(guest, argv)
  t.true((await filter()).promiscuous)
  await testpmd.command('set promisc 0 off')
  await testpmd.command('set allmulti 0 off')
  await testpmd.command('mac_addr add 0 02:00:00:00:00:77')
  await testpmd.command('mcast_addr add 0 01:00:5e:00:00:05')
  const one = await filter()
  t.deepEqual(
    [one.promiscuous, one['main-mac'], one['unicast-table'], one['multicast-table']],
    [false, '52:54:00:00:00:08', ['02:00:00:00:00:77'], ['01:00:5e:00:00:05']],
  )
  await testpmd.command('mac_addr set 0 02:00:00:00:00:78')
  await testpmd.command('set allmulti 0 on')
  const two = await filter()
  t.deepEqual([two['main-mac'], two.multicast], ['02:00:00:00:00:78', 'all'])
  t.regex(await testpmd.command('port config mtu 0 1401'), /1400/)
  await testpmd.command('mac_addr set 0 52:54:00:00:00:08')
  t.regex(await testpmd.quit(), /Bye/)

  const script = `import { Mempool, Port } from './dist/index.js'
    const mempool = new Mempool({ count: 2048 })
    const port = await Port.open('${address}', { mempool, rxOffloads: ['vlan-filter'] })
    port.setRxMode({ promiscuous: false, vlans: [7, 9] })
    port.setRxMode({ vlans: [9, 11] })
    console.log('set')
    setInterval(() => {}, 1000)`
  const job = guest.start(`exec node --input-type=module -e "${script}"`)
  await job.until(/set\n/)
  const { vlan, 'vlan-table': vlans } = await filter()
  t.deepEqual([vlan, vlans.toSorted((a, b) => a - b)], ['normal', [9, 11]])
  job.signal('KILL')
  await job.ended()
}

interface Plan {
  readonly how: Binding
  readonly machine?: string
  readonly append?: string
  /** What stands before the devices. */
  readonly args?: readonly string[]
  /** Where the device is that can be unplugged, for QEMU and for the guest. */
  readonly place: Readonly<Record<string, string>>
  readonly address: string
  /** Properties of both devices. */
  readonly device?: Readonly<Record<string, string>>
}

async function life(t: ExecutionContext, plan: Plan): Promise<void> {
  const { how, args = [], place, address, device = {}, ...options } = plan
  using folder = scratch()
  await using wire = Wire.listen(folder.path('wire'))
  await using otherWire = Wire.listen(folder.path('other'))
  const mine = { mac: '52:54:00:00:00:08', host_mtu: 1400, ...device, ...place }
  const nics = [...wire.nic(NAME, 8, mine), ...otherWire.nic('other', 9, device)]
  await using guest = await Guest.start({ ...options, args: [...args, ...nics] })
  const scene = { t, guest, wire, address, other: pciAddress(9) }
  await reserveHugepages(guest, 128)
  await bind(guest, [address, scene.other], how)
  await filters(scene)
  const first = await respond(scene)
  await answers(scene)
  await sleepsWhenIdle(scene)
  await linkFollows(scene, first)
  await announces(scene)
  const second = await oneAtATime(scene, first)
  await unplugs(scene, second)
  await givesBack(scene, otherWire)
  t.is(await guest.quit(), 0)
}

needs(test, 'guest')('a host behind uio_pci_generic and its interrupt line', (t) =>
  life(t, { how: 'uio_pci_generic', place: {}, address: pciAddress(8) }),
)

needs(test, 'guest')('a host behind vfio-pci with an IOMMU and MSI-X', (t) =>
  life(t, {
    how: 'vfio-pci',
    machine: 'q35',
    append: 'intel_iommu=on iommu=pt',
    args: [
      ...['-device', 'intel-iommu,intremap=off,caching-mode=on,device-iotlb=on'],
      ...['-device', 'pcie-root-port,id=root,bus=pcie.0,addr=8,chassis=1'],
    ],
    place: { bus: 'root', addr: '0' },
    address: pciAddress(0, 1),
    device: { 'disable-legacy': 'on', iommu_platform: 'on', ats: 'on' },
  }),
)
