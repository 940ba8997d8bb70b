// A Debian guest's own virtio_net on net_vhost ports: real kernels at both ends of each wire, a script of ours between them.
import { setTimeout as pause } from 'node:timers/promises'
import test from 'ava'
import { Mempool } from 'vring'
import { missing, needs } from '../rig/index.ts'
import { NicEnd, TapEnd, Wire } from './ends.ts'
import { Guest } from './rig/index.ts'

type Device = Readonly<Record<string, string | number>>

const MODERN = { 'disable-legacy': 'on', queue_reset: 'on' }
/** The kinds of ring, each with two queue pairs. */
const KINDS: Readonly<Record<string, Device>> = {
  'split, modern': MODERN,
  'packed, modern': { ...MODERN, packed: 'on' },
  'split, legacy': { 'disable-modern': 'on' },
}
/** A device that is offered neither offloads nor buffers that merge. */
const BARE = {
  ...{ csum: 'off', guest_csum: 'off', mrg_rxbuf: 'off' },
  ...{ host_tso4: 'off', host_tso6: 'off', guest_tso4: 'off', guest_tso6: 'off' },
}
const ABSENT = ['CSUM', 'GUEST_CSUM', 'HOST_TSO4', 'GUEST_TSO4', 'MRG_RXBUF']
/** Bytes of a packet with an MTU of 1500. */
const LONGEST = 1514

interface Scene {
  readonly guest: Guest
  readonly kinds: ReadonlyMap<string, Wire>
  /** A NIC with all offloads, and one with none. */
  readonly mixed: Wire
  /** A NIC, and a tap of this machine. */
  readonly tap: Wire | undefined
  readonly nics: readonly NicEnd[]
  readonly mempool: Mempool
}

let scene: Scene

async function open(): Promise<Scene> {
  const mempool = new Mempool({ count: 16384 })
  const nics: NicEnd[] = []
  const nic = async (
    wire: number,
    end: number,
    device: Device,
    queues = 1,
    whole = true,
  ): Promise<NicEnd> => {
    const rxOffloads = whole ? (['checksum', 'lro'] as const) : []
    const opened = await NicEnd.open({ place: { wire, end }, mempool, device, queues, rxOffloads })
    nics.push(opened)
    return opened
  }
  const kinds = new Map<string, Wire>()
  for (const [name, device] of Object.entries(KINDS)) {
    const wire = kinds.size + 1
    kinds.set(name, new Wire(await nic(wire, 1, device, 2), await nic(wire, 2, device, 2)))
  }
  const mixed = new Wire(await nic(4, 1, MODERN), await nic(4, 2, BARE))
  const tap =
    missing('tun') === undefined
      ? new Wire(
          await nic(5, 1, { host_mtu: 9000 }, 1, false),
          await TapEnd.open({ wire: 5, end: 2 }, mempool),
        )
      : undefined
  const guest = await Guest.start({ args: nics.flatMap((end) => end.arguments), timeout: 240_000 })
  for (const end of nics) await end.setUp(guest)
  return { guest, kinds, mixed, tap, nics, mempool }
}

const inGuest = needs(test, 'guest')

if (missing('guest') === undefined) {
  test.before(async () => {
    scene = await open()
  })
  test.after.always(async (t) => {
    await scene.guest[Symbol.asyncDispose]()
    for (const wire of [...scene.kinds.values(), scene.mixed, scene.tap]) await wire?.[Symbol.asyncDispose]()
    t.is(scene.mempool.freeCount, scene.mempool.count)
    scene.mempool.close()
  })
}

for (const kind of Object.keys(KINDS)) {
  inGuest(`${kind}: ping, and TCP both ways with checksums left out and large packets`, async (t) => {
    const wire = scene.kinds.get(kind)!
    const { features } = wire.ends[0].port.info
    t.is(features.includes('RING_PACKED'), kind.startsWith('packed'))
    t.is(features.includes('VERSION_1'), kind.endsWith('modern'))
    for (const name of ['CSUM', 'GUEST_CSUM', 'HOST_TSO4', 'GUEST_TSO6', 'HOST_ECN'])
      t.true(features.includes(name), name)
    t.deepEqual(wire.ends[0].port.offloads.device, {
      rx: ['checksum', 'lro'],
      tx: ['checksum', 'tcp-tso'],
    })
    t.is(await wire.ping(), 0)
    const crossed = await wire.transfer()
    t.true(crossed.partial > 0 && crossed.large > 0 && crossed.longest > LONGEST, JSON.stringify(crossed))
  })

  inGuest(`${kind}: TCP both ways while ethtool -K turns offloads off and on`, async (t) => {
    const wire = scene.kinds.get(kind)!
    await wire.run('ethtool -K eth0 tso off gso off')
    const cut = await wire.transfer()
    t.true(cut.partial > 0 && cut.large === 0 && cut.longest === LONGEST, JSON.stringify(cut))
    await wire.run('ethtool -K eth0 tx off')
    const plain = await wire.transfer()
    t.true(plain.partial === 0 && plain.large === 0, JSON.stringify(plain))
    await wire.run('ethtool -K eth0 tx on tso on gso on gro off')
    await wire.run('ethtool -K eth0 gro on')
    t.true((await wire.transfer()).large > 0)
  })

  inGuest(`${kind}: an MTU of 9000`, async (t) => {
    const wire = scene.kinds.get(kind)!
    await wire.run('/sbin/ip link set eth0 mtu 9000')
    t.is(await wire.ping(8972), 0)
    await wire.run('ethtool -K eth0 tso off gso off')
    t.is((await wire.transfer()).longest, 9014)
    await wire.run('ethtool -K eth0 tso on gso on; /sbin/ip link set eth0 mtu 1500')
  })

  inGuest(`${kind}: ethtool -L to one queue pair and back to two`, async (t) => {
    const wire = scene.kinds.get(kind)!
    for (const count of [1, 2]) {
      await wire.run(`ethtool -L eth0 combined ${count}`)
      t.regex(await wire.ends[0].run('ethtool -l eth0'), new RegExp(`Current[^]*Combined:\\s+${count}`))
      for (const { port } of wire.ends) {
        t.deepEqual(
          port.rxQueues.map(({ info }) => info.mode !== undefined),
          [true, count === 2],
        )
      }
      t.is(await wire.ping(), 0)
      await wire.transfer()
    }
  })

  inGuest(`${kind}: the driver is unbound and bound again, alone and with its PCI device`, async (t) => {
    const wire = scene.kinds.get(kind)!
    const [a, b] = wire.ends as readonly [NicEnd, NicEnd]
    const unbind = async (end: NicEnd, level: string): Promise<void> => {
      const device = await end.run(`readlink -f /sys/class/net/eth0/device${level}`)
      await scene.guest.run(
        `d=${device}; n=\${d##*/}; cd $(readlink -f $d/driver); echo $n >unbind; echo $n >bind`,
      )
      await end.setUp(scene.guest)
    }
    await unbind(a, '')
    t.is(await wire.ping(), 0)
    await unbind(b, '/..')
    t.is(await wire.ping(), 0)
    await wire.transfer()
  })
}

inGuest('what one guest’s driver leaves out is done for one that takes nothing', async (t) => {
  const [whole, bare] = scene.mixed.ends
  for (const name of ABSENT) {
    t.true(whole.port.info.features.includes(name), name)
    t.false(bare.port.info.features.includes(name), name)
  }
  const crossed = await scene.mixed.transfer()
  t.true(crossed.partial > 0 && crossed.large > 0, JSON.stringify(crossed))
})

needs(
  test,
  'guest',
  'tun',
)('a tap of this machine’s kernel, and an MTU that QEMU tells', async (t) => {
  const { port } = scene.tap!.ends[0]
  t.is(port.info.details['peer mtu'], '9000')
  t.deepEqual(port.offloads.device, { rx: ['checksum'], tx: ['checksum', 'tcp-tso'] })
  t.is(await scene.tap!.ping(8972), 0)
  t.is((await scene.tap!.transfer()).longest, 9014)
})

inGuest('QEMU’s queue_reset=on is not taken: it tells a vhost-user back end of no reset', async (t) => {
  const [end] = scene.mixed.ends
  t.false(end.port.info.features.includes('RING_RESET'))
  await t.throwsAsync(end.run('ethtool -G eth0 rx 128'))
  t.is(await scene.mixed.ping(), 0)
})

inGuest(
  'the reset button in the middle of traffic, and the guest boots again on the same ports',
  async (t) => {
    const { guest, nics, kinds, mixed } = scene
    const wires = [...kinds.values(), mixed]
    for (const { ends } of wires) void ends[0].run(`exec ping -q -f ${ends[1].ip}`).catch(() => {}) // ends with the guest
    for (const { ends } of wires) {
      const { port } = ends[0]
      const { rxPackets } = port.stats()
      while (port.stats().rxPackets < rxPackets + 50) await pause(10)
    }
    await guest.reset()
    for (const end of nics) await end.setUp(guest)
    for (const wire of wires) {
      t.is(await wire.ping(), 0)
      await wire.transfer()
    }
  },
)
