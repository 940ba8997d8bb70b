// Runs in a guest. Promise: a port on vhost in the kernel moves every packet, whatever device of the kernel's it is on.
import { once } from 'node:events'
import test from 'ava'
import { Lcore, Mempool, type QueueConfig, type QueueStats } from 'vring'
import { LARGE, sendLarge } from '../../kernel/large.ts'
import {
  Bridge,
  counter,
  echoOverTcp,
  mtuOf,
  NO_SOCKET_HEADERS,
  openFar,
  openOn,
  pktgen,
  release,
  remove,
  sh,
  shell,
  startFar,
  until,
  WIRES,
} from './wires.ts'

/** The older kernel is for what it does otherwise. */
const PACKETS = NO_SOCKET_HEADERS ? 100_000 : 1_000_000
const OFFLOADS: Partial<QueueConfig> = {
  rxOffloads: ['checksum', 'lro'],
  txOffloads: ['checksum', 'tcp-tso', 'udp-tso'],
}

/** A counter of all queues, for each packet. */
const sum = (queues: readonly QueueStats[], name: 'notifications' | 'notified'): number =>
  queues.reduce((total, queue) => total + queue[name], 0) / PACKETS

const alive = setInterval(() => {}, 1000) // a port does not keep this process
test.after.always(() => clearInterval(alive))

let stopFar: () => void
test.before(async () => {
  shell('modprobe -a vhost_net tun macvtap veth bridge af_packet 8021q')
  // What is counted is what the tests send, and nothing of the kernel's own.
  shell('sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1')
  stopFar = await startFar()
})
test.after.always(() => stopFar())
test.afterEach.always(() => {
  for (const wire of WIRES) remove(wire)
  shell('ip link del br0 2>/dev/null || true')
})

for (const wire of WIRES) {
  const isTap = wire.name.startsWith('tap')
  const socketOnly = wire.name === 'packet socket' && NO_SOCKET_HEADERS

  test.serial(
    `${wire.name}: ping and TCP both ways between two stacks of the kernel, MTU 1500 and 9000`,
    async (t) => {
      using mempool = new Mempool({ count: 16384 })
      await using port = await openOn(wire, { mempool })
      {
        await using bridge = await Bridge.start(port, wire, mempool)
        const far = `10.0.${wire.net}.2`
        t.regex(await sh(`ping -c 3 -w 20 ${far}`), / 0% packet loss/)
        t.regex(await sh(`ip netns exec far ping -c 3 -w 20 10.0.${wire.net}.1`), / 0% packet loss/)
        const small = await echoOverTcp(wire.net, 1 << 20)
        t.is(small.sent, small.back)

        for (const link of wire.links.slice(0, -1)) shell(`ip link set ${link} mtu 9000`)
        for (const each of [port, bridge.far]) each.setMtu(9000)
        if (wire.kernel !== wire.iface) shell(`ip link set ${wire.kernel} mtu 9000`)
        t.deepEqual([mtuOf(wire.iface), port.mtu, port.info.appliedBy['mtu']], [9000, 9000, 'device'])
        t.regex(await sh(`ping -c 3 -w 20 -M do -s 8900 ${far}`), / 0% packet loss/)
        const large = await echoOverTcp(wire.net, 1 << 20)
        t.is(large.sent, large.back)
      }
      await port.close()
      remove(wire)
      t.is(mempool.freeCount, mempool.count)
    },
  )

  const whole = socketOnly ? test.serial.skip : test.serial
  whole(
    `${wire.name}: with offloads, 64 KB of TCP go through whole both ways; without, whoever must cuts them`,
    async (t) => {
      using mempool = new Mempool({ count: 16384 })
      shell('ip link add br0 type bridge mcast_snooping 0; ip link set br0 up')
      for (const config of [OFFLOADS, {}]) {
        const asked = config === OFFLOADS
        await using near = await openOn(wire, { mempool, ...config })
        shell(`ip addr flush dev ${wire.kernel}; ip link set ${wire.kernel} master br0`)
        await using far = await openFar(',bridge=br0', { mempool, ...OFFLOADS })
        // USO came with Linux 6.2.
        const { rx, tx } = far.offloads.asked
        const known = tx.filter((offload) => offload !== 'udp-tso' || !release.startsWith('6.1.'))
        t.deepEqual(far.offloads.device, { rx, tx: known })
        const out = await sendLarge(near, far)
        t.deepEqual([out.same, out.uncut], [true, asked])
        const back = await sendLarge(far, near)
        // A packet socket hands on what it gets.
        const uncut = asked || wire.name === 'packet socket'
        t.deepEqual([back.same, back.uncut], [true, uncut])
        for (const { uncut, lengths, right } of [out, back]) {
          if (uncut) t.deepEqual(lengths, [LARGE])
          else t.true(right && lengths.every((length) => length <= 1514))
        }
        await Promise.all([near.close(), far.close()])
        remove(wire)
      }
      shell('ip link del br0')
      t.is(mempool.freeCount, mempool.count)
    },
  )

  whole(`${wire.name}: TCP with offloads between two stacks of the kernel`, async (t) => {
    using mempool = new Mempool({ count: 16384 })
    await using port = await openOn(wire, { mempool, ...OFFLOADS })
    await using bridge = await Bridge.start(port, wire, mempool, OFFLOADS)
    const { sent, back } = await echoOverTcp(wire.net, 8 << 20)
    t.is(sent, back)
    const { rxBytes, rxPackets } = bridge.far.stats()
    t.log(`${Math.round(rxBytes / rxPackets)} bytes a packet`)
    t.true(rxBytes / rxPackets > 1514)
    await bridge[Symbol.asyncDispose]()
    await port.close()
  })

  test.serial(`${wire.name}: ${PACKETS} packets each way, counted equal at both ends`, async (t) => {
    using mempool = new Mempool({ count: 16384 })
    await using port = await openOn(wire, { mempool })
    await using lcore = new Lcore()
    const before = counter(wire.kernel, 'rx_packets')
    lcore.start('txonly', [{ tx: port.txQueues[0]! }], { limit: PACKETS })
    await lcore.wait()
    await until(() => counter(wire.kernel, 'rx_packets') - before >= PACKETS)
    t.is(port.stats().txPackets, PACKETS)

    const { notifications, notified } = port.stats().tx[0]!
    t.log(`sent: ${notifications / PACKETS} kicks and ${notified / PACKETS} calls a packet`)
    t.true(notifications < PACKETS / 4)
    // Whoever sleeps does so: nobody wakes it for nothing.
    const stop = new AbortController()
    const receiving = port.rxQueues.map(async (queue) => {
      for await (const burst of queue.bursts({ size: 256, signal: stop.signal })) burst.free()
    })
    const dropped = (): number => counter(wire.kernel, 'tx_dropped') + counter(wire.iface, 'rx_dropped')
    const lost = dropped()
    const refused = await pktgen(wire.kernel, port.mac, PACKETS, 60_000)
    await until(() => port.stats().rxPackets + dropped() - lost >= PACKETS + refused)
    t.is(port.stats().rxPackets + dropped() - lost, PACKETS + refused)
    t.log(`${port.stats().rxPackets} received, ${dropped() - lost} dropped by the kernel's devices`)
    if (isTap) t.is(port.stats().rxPackets, PACKETS)
    const received = port.stats()
    t.log(
      `received: ${sum(received.rx, 'notifications')} kicks and ${sum(received.rx, 'notified')} calls a packet`,
    )
    stop.abort()
    await Promise.all(receiving)
    await port.close()
  })

  test.serial(`${wire.name}: the link goes down and up by either side, and is told`, async (t) => {
    using mempool = new Mempool({ count: 4096 })
    await using port = await openOn(wire, { mempool })
    shell(`ip link set ${wire.iface} down`)
    await port.waitForLink(false, { timeout: 20_000 })
    shell(`ip link set ${wire.iface} up`)
    await port.waitForLink(true, { timeout: 20_000 })
    const told = once(port, 'mtu')
    shell(`ip link set ${wire.iface} mtu 1400`)
    t.deepEqual(await told, [1400])
    port.setLink(false)
    if (isTap) await until(() => /NO-CARRIER/.test(shell(`ip link show ${wire.iface}`)))
    t.false(port.link.up)
    port.setLink(true)
    await port.waitForLink(true, { timeout: 20_000 })
    await port.close()
  })
}
