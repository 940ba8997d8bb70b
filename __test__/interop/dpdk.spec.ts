// Promise: a port of ours and one of DPDK's make a link: either driver on either side, either end listening, one and two
// queue pairs, with and without mergeable buffers, 60 to 9000 bytes. What one sends the other receives, all of it.
// DPDK 22.11 itself needs no option for 9000 bytes: it sends and receives chains of 2 KiB buffers by default.
import test, { type ExecutionContext } from 'ava'
import { allowedCpus, needs, scratch, Testpmd } from '../rig/index.ts'
import { devices, Link, type LinkOptions, until } from './link.ts'

const PACKETS_OF_A_BURST = 32
const MANY = 100_000
const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)

/** Segments of the packets that are sent, and as many bursts of them as certainly fit the rings. */
const chains: readonly (readonly [readonly number[], number])[] = [
  [[60], 4],
  [[64], 4],
  [[1514], 4],
  [[2000, 2000], 1],
  [[1800, 1800, 1800, 1800, 1800], 1],
]

/** The same sizes, each packet in one buffer. */
const whole = chains.map(([segments, bursts]) => [[sum(segments)], bursts] as const)

/** Both ends send less than the rings hold, at once: every packet and every byte arrives, on every queue. */
async function exchange(t: ExecutionContext, link: Link, txpkts: readonly number[], bursts: number) {
  const { port, dpdk, sender } = link
  const each = bursts * PACKETS_OF_A_BURST
  const [packets, size] = [each * port.rxQueues.length, sum(txpkts)]
  const what = `${packets} packets of ${txpkts.join('+')} bytes`
  await dpdk.command('clear port stats all')
  port.resetStats()
  await dpdk.command(`set txpkts ${txpkts.join(',')}`)
  await dpdk.command(`start tx_first ${bursts}`)
  sender.start('txonly', link.tx, { txpkts, limit: packets })
  const { streams } = await sender.wait()
  const theirs = await dpdk.waitForStats(what, (stats) => stats.rxPackets >= packets)
  await until(what, () => port.stats().rxPackets >= packets)
  await dpdk.stop()
  const ours = port.stats()
  const none = { rxErrors: 0, rxMissed: 0, rxNombuf: 0, txErrors: 0 }
  const all = { rxPackets: packets, rxBytes: packets * size, txPackets: packets, txBytes: packets * size }
  t.like(theirs, { ...all, ...none }, what)
  t.like(ours, { ...all, ...none, drops: {} }, what)
  t.is(sum(streams.map((stream) => stream.dropped)), 0, what)
  for (const queue of ours.rx) t.like(queue, { packets: each, bytes: each * size }, what)
}

/** DPDK sends as fast as it can; then we do: what was sent is what was received. */
async function flood(t: ExecutionContext, { port, dpdk, sender, tx }: Link) {
  await dpdk.command('set txpkts 64')
  await dpdk.command('clear port stats all')
  port.resetStats()
  await dpdk.command('set fwd txonly')
  await dpdk.command('start')
  await until('a flood of theirs', () => port.stats().rxPackets >= MANY)
  await dpdk.stop()
  const sent = await dpdk.portStats()
  await until('all of it', () => port.stats().rxPackets >= sent.txPackets)
  t.like(port.stats(), { rxPackets: sent.txPackets, rxBytes: sent.txPackets * 64, drops: {} })
  t.true(port.stats().rx.every((queue) => queue.packets > 0))

  await dpdk.command('set fwd rxonly')
  await dpdk.command('start')
  sender.start('txonly', tx, { limit: MANY })
  const report = await sender.wait()
  const accepted = sum(report.streams.map((stream) => stream.tx))
  t.is(port.stats().txPackets, accepted)
  const received = await dpdk.waitForStats('all of ours', (stats) => stats.rxPackets >= accepted)
  t.like(received, { rxPackets: accepted, rxBytes: accepted * 64, rxErrors: 0, rxMissed: 0 })
  t.deepEqual(port.stats().drops, {})
  await dpdk.stop()
}

/** DPDK sends a window of packets, and both sides send on what they receive: none gets lost. */
async function circle(t: ExecutionContext, { port, dpdk, receiver, both }: Link) {
  const window = 2 * PACKETS_OF_A_BURST * both.length
  await receiver.stop()
  receiver.start('io', both)
  await dpdk.command('clear port stats all')
  port.resetStats()
  await dpdk.command('set fwd io')
  await dpdk.command('start tx_first 2')
  await dpdk.waitForStats('packets go round', (stats) => stats.rxPackets >= MANY)
  await dpdk.stop()
  const theirs = await dpdk.portStats()
  await until('all of them back', () => port.stats().txPackets >= theirs.txPackets)
  const { streams } = await receiver.stop()
  const ours = port.stats()
  t.like(ours, { rxPackets: theirs.txPackets, txPackets: theirs.txPackets, drops: {} })
  t.is(sum(streams.map((stream) => stream.dropped)), 0)
  // The window is under way to DPDK, which has stopped looking.
  t.is(ours.txPackets - theirs.rxPackets, window)
  t.like(theirs, { rxErrors: 0, rxMissed: 0, txErrors: 0 })
}

interface Shape {
  readonly ours: LinkOptions['ours']
  readonly weListen: boolean
  readonly pairs: number
  readonly mergeable: boolean
}

/** Without mergeable buffers a packet must fit one buffer, so they are large then. */
function linkOptions({ mergeable, ...shape }: Shape): LinkOptions {
  if (mergeable) return { ...shape, peer: { forward: 'rxonly' } }
  // Who says that there are none: the virtio side, or a back end that does not offer it. DPDK's always offers it.
  const weSay = shape.ours === 'net_virtio_user' || shape.weListen
  return {
    ...shape,
    ...(weSay ? { ourArgs: ',mrg_rxbuf=0' } : { theirArgs: ',mrg_rxbuf=0' }),
    pool: { count: 4096, bufferSize: 10240 },
    peer: { forward: 'rxonly', mbufSize: 10240, mbufs: 4096 },
  }
}

const flags = [true, false] as const
const shapes: readonly Shape[] = (['net_virtio_user', 'net_vhost'] as const).flatMap((ours) =>
  flags.flatMap((weListen) =>
    [1, 2].flatMap((pairs) => flags.map((mergeable) => ({ ours, weListen, pairs, mergeable }))),
  ),
)

for (const shape of shapes) {
  const { ours, weListen, pairs, mergeable } = shape
  const words = [weListen ? 'server' : 'client', `${pairs} queue pair${pairs > 1 ? 's' : ''}`]
  words.push(mergeable ? 'mergeable buffers' : 'no mergeable buffers')
  needs(test, 'dpdk')(`${ours} (${words.join(', ')}) and DPDK: nothing is lost`, async (t) => {
    await using link = await Link.up(linkOptions(shape))
    const { features } = link.port.info
    t.is(features.includes('MRG_RXBUF'), mergeable)
    t.is(features.includes('MQ'), pairs > 1)
    link.receiver.start('rxonly', link.rx)
    for (const [txpkts, bursts] of mergeable ? chains : whole) await exchange(t, link, txpkts, bursts)
    await flood(t, link)
    await circle(t, link)
    t.deepEqual(await link.end(), { missing: 0, code: 0 })
  })
}

needs(test, 'dpdk')(
  'what no buffer of the peer’s can hold is dropped by name, and the rest arrives',
  async (t) => {
    const small = { ours: 'net_vhost', weListen: true, theirArgs: ',mrg_rxbuf=0' } as const
    await using link = await Link.up({ ...small, peer: { forward: 'rxonly' } })
    const { port, dpdk, sender, tx } = link
    await dpdk.command('start')
    sender.start('txonly', tx, { txpkts: [1800, 1800], limit: 32 })
    await sender.wait()
    sender.start('txonly', tx, { limit: 32 })
    await sender.wait()
    const received = await dpdk.waitForStats('what fits', (stats) => stats.rxPackets >= 32)
    t.like(received, { rxPackets: 32, rxBytes: 32 * 64, rxErrors: 0 })
    t.like(port.stats(), { txPackets: 32, txErrors: 32, drops: { tx_too_big: 32 } })
    t.deepEqual(await link.end(), { missing: 0, code: 0 })
  },
)

const cpus = allowedCpus()

for (const ours of ['net_virtio_user', 'net_vhost'] as const) {
  needs(test, 'dpdk')(`\`vring testpmd\` with ${ours} and dpdk-testpmd: their tables agree`, async (t) => {
    using folder = scratch()
    const { our, their } = devices({ ours, weListen: ours === 'net_vhost', pairs: 2 }, folder.path('s0'))
    const queues = { rxq: 2, txq: 2 }
    const start = {
      vring: () => Testpmd.vring({ vdevs: [our], ...queues, cpus: [cpus[0]!] }),
      dpdk: () => Testpmd.dpdk({ vdevs: [their], ...queues, cpus: [cpus.at(-1)!] }),
    }
    // The one that listens first.
    await using vhost = await (ours === 'net_vhost' ? start.vring() : start.dpdk())
    await using user = await (ours === 'net_vhost' ? start.dpdk() : start.vring())
    await vhost.waitForLink()
    for (const [tx, rx] of [
      [user, vhost],
      [vhost, user],
    ] as const) {
      for (const end of [tx, rx]) await end.command('clear port stats all')
      await rx.command('set fwd rxonly')
      await rx.command('start')
      await tx.command('set fwd txonly')
      await tx.command('start')
      await tx.waitForStats('many are sent', (stats) => stats.txPackets >= MANY)
      const report = await tx.stop()
      const sent = await tx.portStats()
      const received = await rx.waitForStats('all', (stats) => stats.rxPackets >= sent.txPackets)
      t.like(received, { rxPackets: sent.txPackets, rxBytes: sent.txBytes, rxErrors: 0, rxMissed: 0 })
      t.is(report.total.txPackets, sent.txPackets)
      t.is(report.total.txTotal, report.total.txPackets + report.total.txDropped)
      t.is((await rx.stop()).total.rxPackets, sent.txPackets)
    }
    for (const end of [vhost, user]) await end.command('set fwd io')
    for (const end of [vhost, user]) await end.command('clear port stats all')
    await vhost.command('start')
    await user.command('start tx_first 2')
    await user.waitForStats('packets go round', (stats) => stats.rxPackets >= MANY)
    await user.stop()
    const back = await vhost.waitForQuiet()
    const atUser = await user.portStats()
    t.is(back.rxPackets, atUser.txPackets)
    t.is(back.txPackets, back.rxPackets)
    t.is(back.txPackets - atUser.rxPackets, 2 * 2 * PACKETS_OF_A_BURST)
    t.is(await user.quit(), 0)
    t.is(await vhost.quit(), 0)
  })
}
