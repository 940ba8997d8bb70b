// The control experiment: the rigs with real peers only. What holds here without any code of ours is what the other
// specs may expect of these peers.
import test from 'ava'
import {
  allowedCpus,
  needs,
  parsePortStats,
  parseStop,
  Qemu,
  scratch,
  Testpmd,
  unprivileged,
} from './rig/index.ts'

const cpus = allowedCpus()
const first = cpus[0] ?? 0
const second = cpus[1] ?? first

test('the reader of testpmd statistics keeps ports apart and finds every number', (t) => {
  const block = (port: number, rx: number): string => `
  ######################## NIC statistics for port ${port}  ########################
  RX-packets: ${rx}         RX-missed: 1          RX-bytes:  600
  RX-errors: 2
  RX-nombuf:  3
  TX-packets: 4          TX-errors: 5          TX-bytes:  240
  ############################################################################
`
  const stats = parsePortStats(block(0, 10) + block(1, 11))
  t.is(stats.size, 2)
  t.is(stats.get(1)?.rxPackets, 11)
  t.deepEqual(stats.get(0), {
    ...{ rxPackets: 10, rxMissed: 1, rxBytes: 600, rxErrors: 2, rxNombuf: 3 },
    ...{ txPackets: 4, txErrors: 5, txBytes: 240 },
  })
  t.throws(() => parseStop('nothing'), { message: /accumulated forward statistics/ })
})

needs(test, 'dpdk')('DPDK virtio_user sends, DPDK net_vhost receives: the counts are equal', async (t) => {
  using folder = scratch()
  const socket = folder.path('s0')
  await using vhost = await Testpmd.dpdk({
    vdevs: [`net_vhost0,iface=${socket}`],
    forward: 'rxonly',
    cpus: [first],
  })
  await using user = await Testpmd.dpdk({
    vdevs: [`net_virtio_user0,path=${socket}`],
    forward: 'txonly',
    cpus: [second],
  })
  await vhost.waitForLink()
  await user.waitForLink()
  await vhost.command('start')
  await user.command('start')
  await user.waitForStats('100000 packets sent', (stats) => stats.txPackets >= 100_000)
  await user.stop()
  const sent = await user.waitForQuiet()
  const received = await vhost.waitForStats(
    'all of them received',
    (stats) => stats.rxPackets >= sent.txPackets,
  )
  await vhost.stop()
  t.is(received.rxPackets, sent.txPackets)
  t.is(received.rxBytes, received.rxPackets * 64)
  t.is((await vhost.portInfo()).get('Driver name'), 'net_vhost')
  t.is(await user.quit(), 0)
  t.is(await vhost.quit(), 0)
})

needs(test, 'dpdk')(
  'two DPDK programs send a window of packets round and round, and lose none',
  async (t) => {
    using folder = scratch()
    const socket = folder.path('s0')
    await using vhost = await Testpmd.dpdk({
      vdevs: [`net_vhost0,iface=${socket}`],
      forward: 'io',
      cpus: [first],
    })
    await using user = await Testpmd.dpdk({
      vdevs: [`net_virtio_user0,path=${socket}`],
      forward: 'io',
      cpus: [second],
    })
    await vhost.waitForLink()
    await vhost.command('start')
    await user.command('start tx_first 2') // 64 packets: fewer than any ring holds
    await user.waitForStats('100000 packets back', (stats) => stats.rxPackets >= 100_000)
    await user.stop()
    const received = await vhost.waitForQuiet()
    await vhost.stop()
    const atUser = await user.portStats()
    t.is(received.rxPackets, atUser.txPackets)
    t.is(received.txPackets, received.rxPackets)
    t.true(atUser.txPackets - atUser.rxPackets <= 64)
    t.is(await user.quit(), 0)
    t.is(await vhost.quit(), 0)
  },
)

needs(
  test,
  'dpdk',
  'unprivileged',
)('two queue pairs of two unprivileged DPDK programs: the counts are equal', async (t) => {
  using folder = scratch({ owner: unprivileged.uid })
  const socket = folder.path('s0')
  const env = { XDG_RUNTIME_DIR: folder.path('') }
  const common = { rxq: 2, txq: 2, env, wrapper: unprivileged.wrapper }
  await using vhost = await Testpmd.dpdk({
    ...common,
    ...{ vdevs: [`net_vhost0,iface=${socket},queues=2`], forward: 'rxonly', cpus: [first] },
  })
  await using user = await Testpmd.dpdk({
    ...common,
    ...{ vdevs: [`net_virtio_user0,path=${socket},queues=2`], forward: 'txonly', cpus: [second] },
  })
  await vhost.waitForLink()
  await vhost.command('start')
  await user.command('start')
  await user.waitForStats('100000 packets sent', (stats) => stats.txPackets >= 100_000)
  await user.stop()
  const sent = await user.portStats()
  const received = await vhost.waitForStats('all received', (stats) => stats.rxPackets >= sent.txPackets)
  const report = await vhost.stop()
  t.is(received.rxPackets, sent.txPackets)
  t.is(report.total.rxPackets, sent.txPackets)
  t.is(await user.quit(), 0)
  t.is(await vhost.quit(), 0)
})

for (const server of [false, true]) {
  const role = server ? 'the server' : 'the client'
  needs(
    test,
    'dpdk',
    'qemu',
  )(
    `QEMU as ${role} of the socket boots from DPDK net_vhost: frames arrive, also after a reset`,
    async (t) => {
      using folder = scratch()
      const socket = folder.path('s0')
      const vdev = `net_vhost0,iface=${socket}${server ? ',client=1' : ''}`
      const start = (): Promise<Testpmd> =>
        Testpmd.dpdk({ vdevs: [vdev], forward: 'rxonly', autoStart: true })
      // Whoever listens on the socket goes first.
      await using early = server ? undefined : await start()
      await using qemu = await Qemu.start({ socket, server })
      await using late = server ? await start() : undefined
      const vhost = early ?? late!
      const booted = await vhost.waitForStats('a frame of the boot ROM', (stats) => stats.rxPackets > 0)
      t.true(booted.rxBytes >= booted.rxPackets * 60)
      await qemu.reset()
      await vhost.waitForStats('a frame after the reset', (stats) => stats.rxPackets > booted.rxPackets)
      t.is(await qemu.quit(), 0)
      await vhost.waitForLink(0, 'down')
      t.is(await vhost.quit(), 0)
    },
  )
}
