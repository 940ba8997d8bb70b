// Promise: `vring testpmd` drives a guest's virtio devices as dpdk-testpmd does: every generation of registers, every way
// to a device, both kinds of ring, without losing or changing a frame.
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { Mempool, Port } from '../../ts/index.ts'
import { needs, parseStop, scratch } from '../rig/index.ts'
import type { Scratch } from '../rig/scratch.ts'
import {
  bind,
  type Binding,
  Guest,
  GuestTestpmd,
  numbered,
  pciAddress,
  reserveHugepages,
  vhostUserNic,
  Wire,
} from './rig/index.ts'

/** A pair of devices that frames are forwarded between. */
interface Row {
  readonly name: string
  readonly slots: readonly [number, number]
  readonly device: Readonly<Record<string, string>>
  /** Device arguments of ours. */
  readonly args?: string
  /** Its way of moving packets. */
  readonly expected: RegExp
}

const LEGACY = { 'disable-modern': 'on', 'disable-legacy': 'off' }
const MODERN = { 'disable-legacy': 'on' }
const ROWS: readonly Row[] = [
  { name: 'legacy', slots: [8, 9], device: LEGACY, expected: /split/ },
  { name: 'transitional', slots: [10, 11], device: {}, expected: /split/ },
  { name: 'transitional, legacy', slots: [12, 13], device: {}, args: ',legacy=1', expected: /split/ },
  { name: 'modern', slots: [14, 15], device: MODERN, expected: /split/ },
  { name: 'modern, packed', slots: [16, 17], device: { ...MODERN, packed: 'on' }, expected: /packed/ },
]
const FRAMES = 600
const WINDOW = 100

interface Cabled extends Row {
  readonly wires: readonly [Wire, Wire]
}

function cable(folder: Scratch, rows: readonly Row[]): readonly Cabled[] {
  return rows.map((row) => {
    const [a, b] = row.slots.map((slot) => Wire.listen(folder.path(`wire-${slot}`)))
    return { ...row, wires: [a!, b!] }
  })
}

const nics = (rows: readonly Cabled[], more: Readonly<Record<string, string>> = {}): string[] =>
  rows.flatMap(({ slots, wires, device }) =>
    slots.flatMap((slot, i) => wires[i]!.nic(`nic-${slot}`, slot, { ...device, ...more })),
  )

/** Frames from one side come out at the other as they were, in both directions. */
async function passes(t: ExecutionContext, { name, wires }: Cabled): Promise<void> {
  for (const [from, to] of [wires, wires.toReversed()] as [Wire, Wire][]) {
    const frames = numbered(FRAMES)
    const got: Buffer[] = []
    // No more on their way than a ring holds: who forwards drops what does not fit.
    for (let i = 0; i < FRAMES; i += WINDOW) {
      const some = frames.slice(i, i + WINDOW)
      await from.send(some)
      got.push(...(await to.take(some.length)))
    }
    t.true(Buffer.concat(got).equals(Buffer.concat(frames)), `${name}: what came is what was sent`)
  }
}

/** Forwards between the pairs of all rows at once, and checks every counter. */
async function forwards(
  t: ExecutionContext,
  guest: Guest,
  rows: readonly Cabled[],
  how: Binding,
): Promise<void> {
  const allow = rows.flatMap(({ slots, args = '' }) => slots.map((slot) => `-a ${pciAddress(slot)}${args}`))
  const argv = `-l 0,1 ${allow.join(' ')} -- -i --total-num-mbufs=16384 --no-flush-rx`
  await using testpmd = await GuestTestpmd.start(guest, argv)
  for (const [nth, { expected }] of rows.entries())
    t.regex(await testpmd.command(`show rxq info ${2 * nth} 0`), expected)
  await testpmd.command('start')
  try {
    for (const row of rows) await passes(t, row)
  } catch (error) {
    t.log(await testpmd.command('show port stats all'))
    throw error
  }
  const report = parseStop(await testpmd.command('stop'))
  for (const [port, { rxPackets, txPackets }] of report.ports)
    t.deepEqual([rxPackets, txPackets], [FRAMES, FRAMES], `${how}: port ${port}`)
  t.is(report.total.rxDropped + report.total.txDropped, 0)
  t.regex(await testpmd.quit(), /Bye\.\.\./)
}

/** A guest whose devices have cables; they are bound to `how`, one way after the other, and all of them forward. */
async function matrix(
  t: ExecutionContext,
  plan: readonly Row[],
  ways: readonly Binding[],
  options: { readonly machine?: string; readonly append?: string; readonly args?: readonly string[] },
  more: Readonly<Record<string, string>> = {},
): Promise<void> {
  using folder = scratch()
  const rows = cable(folder, plan)
  try {
    await using guest = await Guest.start({
      ...options,
      args: [...(options.args ?? []), ...nics(rows, more)],
    })
    await reserveHugepages(guest, 128)
    for (const how of ways) {
      await bind(
        guest,
        rows.flatMap((row) => row.slots.map((slot) => pciAddress(slot))),
        how,
      )
      await forwards(t, guest, rows, how)
    }
    t.is(await guest.quit(), 0)
  } finally {
    for (const { wires } of rows) for (const wire of wires) await wire[Symbol.asyncDispose]()
  }
}

needs(test, 'guest')(
  'uio_pci_generic and no driver at all: legacy, transitional and modern devices, split and packed, forward every frame',
  (t) => matrix(t, ROWS, ['uio_pci_generic', 'none'], {}),
)

needs(test, 'guest')('vfio-pci with an IOMMU: modern devices, split and packed, forward every frame', (t) =>
  matrix(
    t,
    ROWS.slice(3),
    ['vfio-pci'],
    {
      machine: 'q35',
      append: 'intel_iommu=on iommu=pt',
      args: ['-device', 'intel-iommu,intremap=off,caching-mode=on,device-iotlb=on'],
    },
    { iommu_platform: 'on', ats: 'on' },
  ),
)

/** Sends frames on one queue of a port of ours, a window at a time, and gives what comes out of the other port's. */
async function through(mempool: Mempool, from: Port, to: Port, queue: number): Promise<readonly Buffer[]> {
  using out = mempool.createBurst(WINDOW)
  using back = mempool.createBurst(WINDOW)
  const got: Buffer[] = []
  const deadline = Date.now() + 60_000
  for (let i = 0; i < FRAMES; i += WINDOW) {
    for (const frame of numbered(FRAMES).slice(i, i + WINDOW)) out.push(frame)
    while (got.length < Math.min(i + WINDOW, FRAMES)) {
      if (Date.now() > deadline) throw new Error(`queue ${queue}: ${got.length} of ${FRAMES} frames came`)
      from.txQueues[queue]!.txBurst(out)
      to.rxQueues[queue]!.rxBurst(back)
      for (let at = 0; at < back.length; at++) got.push(Buffer.from(back.bytes(at)))
      back.free()
      await sleep(1) // the guest's processor is this one, too
    }
  }
  return got
}

needs(test, 'guest')(
  'four queue pairs between vhost-user ports of the host, split and packed: every frame, on its queue',
  async (t) => {
    using folder = scratch()
    using mempool = new Mempool({ count: 8192, pages: '4K' })
    const queues = { rxQueues: 4, txQueues: 4 }
    const rows = [
      { name: 'transitional, split', slots: [8, 9], device: {} },
      { name: 'modern, packed', slots: [10, 11], device: { ...MODERN, packed: 'on' } },
    ]
    const ports: Port[] = []
    try {
      for (const slot of rows.flatMap((row) => row.slots))
        ports.push(
          await Port.open(`net_vhost${slot},iface=${folder.path(`s${slot}`)},queues=4`, {
            mempool,
            ...queues,
          }),
        )
      const nics = rows.flatMap(({ slots, device }) =>
        slots.flatMap((slot) =>
          vhostUserNic({
            id: `nic-${slot}`,
            socket: folder.path(`s${slot}`),
            queues: 4,
            device: { ...device, addr: slot.toString(16) },
          }),
        ),
      )
      await using guest = await Guest.start({ args: nics })
      await reserveHugepages(guest, 128)
      const slots = rows.flatMap((row) => row.slots)
      await bind(
        guest,
        slots.map((slot) => pciAddress(slot)),
        'uio_pci_generic',
      )
      const allow = slots.map((slot) => `-a ${pciAddress(slot)}`).join(' ')
      const argv = `-l 0,1 ${allow} -- -i --total-num-mbufs=16384 --no-flush-rx --rxq=4 --txq=4`
      await using testpmd = await GuestTestpmd.start(guest, argv)
      await testpmd.command('start')
      for (const port of ports) await port.waitForLink(true)
      for (const [nth, { name }] of rows.entries()) {
        const [a, b] = ports.slice(2 * nth, 2 * nth + 2)
        for (const [from, to] of [[a!, b!] as const, [b!, a!] as const]) {
          for (let queue = 0; queue < 4; queue++) {
            const got = await through(mempool, from, to, queue)
            const sent = Buffer.concat(numbered(FRAMES))
            t.true(Buffer.concat(got).equals(sent), `${name}: queue ${queue}`)
          }
        }
      }
      const report = parseStop(await testpmd.command('stop'))
      for (const { rxPackets, txPackets } of report.ports.values())
        t.deepEqual([rxPackets, txPackets], [4 * FRAMES, 4 * FRAMES])
      t.regex(await testpmd.quit(), /Bye/)
      t.is(await guest.quit(), 0)
    } finally {
      for (const port of ports) await port.close()
    }
    t.is(mempool.freeCount, mempool.count)
  },
)
