// Runs in a guest. Promise: whatever happens to the device or the kernel's side of a port, it is told by name, and nothing is left behind.
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { Lcore, Mempool, Port, VringError } from 'vring'
import { counter, device, openOn, release, remove, sh, shell, until, WIRES } from './wires.ts'

const alive = setInterval(() => {}, 1000) // a port does not keep this process
test.after.always(() => clearInterval(alive))
test.before(() => {
  shell('modprobe -a vhost_net tun macvtap veth bridge af_packet 8021q')
  shell('sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1')
  shell('ip netns add far')
})
test.afterEach.always(() => {
  for (const wire of WIRES) remove(wire)
  shell('for each in tap0 own0 held0 here; do ip link del $each 2>/dev/null || true; done')
})

/** The code of what an open is refused with, which says what to do. */
async function refused(t: ExecutionContext, args: string, says: RegExp): Promise<string> {
  using mempool = new Mempool({ count: 2048 })
  const error = await t.throwsAsync(Port.open(args, { mempool }), { instanceOf: VringError })
  t.regex(error.message, says)
  t.is(mempool.freeCount, mempool.count)
  return error.code
}

for (const wire of WIRES) {
  const isTap = wire.name.startsWith('tap')

  test.serial(
    `${wire.name}: deleted under a port that sends: the error is told, each packet is accounted for`,
    async (t) => {
      using mempool = new Mempool({ count: 8192 })
      await using port = await openOn(wire, { mempool })
      await using lcore = new Lcore()
      lcore.start('txonly', [{ tx: port.txQueues[0]! }])
      await until(() => port.stats().txPackets > 1000)
      const lost = once(port, 'error')
      shell(`ip link del ${wire.iface}`)
      t.is(((await lost)[0] as VringError).code, 'ERR_VRING_DEVICE_LOST')
      await port.waitForLink(false)
      const { streams } = await lcore.stop()
      const { txPackets, drops } = port.stats()
      t.is(streams[0]!.tx, txPackets)
      t.deepEqual(
        Object.keys(drops).filter((name) => name !== 'tx_unconfirmed' && name !== 'rx_missed'),
        [],
      )
      using burst = mempool.createBurst(4)
      burst.push(new Uint8Array(60))
      t.deepEqual([port.txQueues[0]!.txBurst(burst), port.rxQueues[0]!.rxBurst(burst)], [0, 0])
      burst.free()
      await port.close()
      t.is(mempool.freeCount, mempool.count)
    },
  )

  test.serial(
    `${wire.name}: moved to another namespace: ${isTap ? 'the port goes on there' : 'the error is told'}`,
    async (t) => {
      using mempool = new Mempool({ count: 4096 })
      await using port = await openOn(wire, { mempool })
      const lost = once(port, 'error')
      shell(`ip link set ${wire.iface} netns far`)
      await port.waitForLink(false)
      if (!isTap) {
        t.is(((await lost)[0] as VringError).code, 'ERR_VRING_DEVICE_LOST')
        shell(`ip -n far link del ${wire.iface}`)
        return
      }
      shell(`ip -n far link set ${wire.iface} up`)
      await port.waitForLink(true, { timeout: 20_000 })
      t.is(port.info.details['namespace'], 'far')
      port.setMtu(1300)
      t.regex(shell(`ip -n far link show ${wire.iface}`), /mtu 1300/)
      await using lcore = new Lcore()
      lcore.start('txonly', [{ tx: port.txQueues[0]! }], { limit: 1000 })
      await lcore.wait()
      const received = `ip netns exec far cat /sys/class/net/${wire.iface}/statistics/rx_packets`
      await until(() => Number(shell(received)) >= 1000)
      shell(`ip -n far link set ${wire.iface} netns ${process.pid}; ip link set ${wire.iface} up`)
      await port.waitForLink(true, { timeout: 20_000 })
      t.true(existsSync(`/sys/class/net/${wire.iface}`))
    },
  )
}

test.serial('a namespace whose name is deleted stays with the port, and goes with it', async (t) => {
  using mempool = new Mempool({ count: 4096 })
  shell('ip netns add short; ip link add here type veth peer name there netns short; ip link set here up')
  const port = await Port.open(device(0, 'tap0', ',netns=short,ip=10.0.60.1/24'), { mempool })
  await port.waitForLink(true, { timeout: 20_000 })
  shell('ip netns del short')
  await using lcore = new Lcore()
  lcore.start('txonly', [{ tx: port.txQueues[0]! }], { limit: 1000 })
  t.is((await lcore.wait()).streams[0]!.tx, 1000)
  t.true(port.link.up && existsSync('/sys/class/net/here'))
  await port.close()
  await until(() => !existsSync('/sys/class/net/here'))
  t.is(await refused(t, device(0, 'tap0', ',netns=short'), /ip netns add/), 'ERR_VRING_NO_NAMESPACE')
})

test.serial('a tap that is held, a device that is none, a name that cannot be', async (t) => {
  using mempool = new Mempool({ count: 2048 })
  await using held = await Port.open(device(0, 'held0'), { mempool })
  t.is(await refused(t, device(1, 'held0'), /in use/), 'ERR_VRING_DEVICE_IN_USE')
  t.true(held.link.up)
  t.is(await refused(t, device(1, 'x'.repeat(16)), /1 to 15 bytes/), 'ERR_VRING_DEVICE_NAME')
  t.is(
    await refused(t, 'net_virtio_user1,path=/dev/vhost-net,fd=0', /descriptor 0/),
    'ERR_VRING_DESCRIPTOR_KIND',
  )
})

test.serial('more memory regions than the kernel takes', async (t) => {
  const load = (options: string): string =>
    shell(`rmmod vhost_net; rmmod vhost; modprobe vhost ${options}; modprobe vhost_net`)
  load('max_mem_regions=1')
  t.is(await refused(t, device(0, 'tap0'), /max_mem_regions/), 'ERR_VRING_VHOST_MEMORY')
  load('')
  t.false(existsSync('/sys/class/net/tap0'))
})

// Before Linux 6.4 the worker is a thread of the kernel's, which nobody's limit counts; later it is where one wants more than one.
const counted = release.startsWith('6.1.') ? test.serial.skip : test.serial
counted('a worker that the control group has no room for', async (t) => {
  using mempool = new Mempool({ count: 2048 })
  await (await Port.open(device(0, 'tap0'), { mempool })).close() // all of this program's own threads run now
  const group = '/run/cgroup/few'
  shell(
    `mkdir -p /run/cgroup; mount -t cgroup2 none /run/cgroup; echo +pids >/run/cgroup/cgroup.subtree_control; mkdir ${group}`,
  )
  writeFileSync(`${group}/cgroup.procs`, String(process.pid))
  writeFileSync(`${group}/pids.max`, '1') // what runs already may
  const error = await t.throwsAsync(Port.open(device(0, 'tap0', ',workers=2'), { mempool }), {
    instanceOf: VringError,
  })
  writeFileSync(`${group}/pids.max`, 'max')
  t.is(error.code, 'ERR_VRING_VHOST_WORKER')
  t.regex(error.message, /pids.max/)
  await (await Port.open(device(0, 'tap0'), { mempool })).close()
})

test.serial('two workers for a queue pair, where the kernel lets one choose, and else one', async (t) => {
  using mempool = new Mempool({ count: 2048 })
  await using port = await Port.open(device(0, 'tap0', ',workers=2,busy_poll=50'), { mempool })
  await using lcore = new Lcore()
  lcore.start('txonly', [{ tx: port.txQueues[0]! }], { limit: 10_000 })
  await lcore.wait()
  await until(() => counter('tap0', 'rx_packets') >= 10_000)
  t.regex(port.info.details['workers'] ?? '', /^[12] a queue pair$/)
})

/** The older kernel is for what it does otherwise. */
const ROUNDS = release.startsWith('6.1.') ? 100 : 1000

test.serial(`${ROUNDS} ports later there are as many descriptors and mappings as before`, async (t) => {
  const taps = Array.from({ length: 10 }, (_, n) => `kept${n}`)
  for (const tap of taps) shell(`ip tuntap add dev ${tap} mode tap vnet_hdr`)
  using mempool = new Mempool({ count: 8192 })
  // Ten at a time: most of it is waiting for the kernel.
  const round = async (): Promise<void> => {
    const one = async (tap: string, n: number): Promise<void> => {
      await using port = await Port.open(device(n, tap), { mempool, rxOffloads: ['checksum', 'lro'] })
      port.setRxMode({ promiscuous: false, vlans: [5] })
    }
    await Promise.all(taps.map(one))
  }
  const left = (): readonly number[] => {
    global.gc?.()
    const maps = readFileSync('/proc/self/maps', 'utf8').split('\n')
    return [
      readdirSync('/proc/self/fd').length,
      maps.filter((line) => /memfd:|anon_inode|socket/.test(line)).length,
      mempool.freeCount,
    ]
  }
  for (let i = 0; i < 5; i++) await round()
  // What a port object sleeps on goes with the object.
  const settled = async (): Promise<readonly number[]> => {
    for (let i = 0; i < 4; i++) {
      left()
      await new Promise((resolve) => setTimeout(resolve, 50)) // finalizers run in turns of the loop
    }
    return left()
  }
  const before = await settled()
  for (let i = 0; i < ROUNDS / taps.length; i++) await round()
  t.deepEqual(await settled(), before)
  for (const tap of taps) shell(`ip link del ${tap}`)
})

const as = (command: string): string => `setpriv --reuid=65534 --regid=65534 --clear-groups ${command}`
const once_ = as(`${process.execPath} --import=@oxc-node/core/register __test__/kernel/once.ts`)

test.serial(
  'without capabilities: each that is missing is named, and a tap of one’s own needs none',
  async (t) => {
    shell('chmod 600 /dev/vhost-net; chmod 666 /dev/net/tun')
    t.regex(await sh(`${once_} ${device(0, 'own0')}`), /^ERR_VRING_PERMISSION .*\/dev\/vhost-net/)
    shell('chown 65534 /dev/vhost-net')
    t.regex(await sh(`${once_} ${device(0, 'own0')}`), /^ERR_VRING_PERMISSION .*CAP_NET_ADMIN/)
    shell(
      'ip tuntap add dev own0 mode tap user 65534 vnet_hdr; ip addr add 10.0.70.1/24 dev own0; ip link set own0 up',
    )
    t.is(await sh(`${once_} ${device(0, 'own0')}`), 'net_virtio_user0 on own0, up\n')
    const responder = as(`${process.execPath} --import=@oxc-node/core/register __test__/kernel/responder.ts`)
    const output = await sh(`
    ${responder} ${device(0, 'own0')} 10.0.70.2 & until ping -c 1 -w 1 10.0.70.2; do :; done
    ping -c 3 -w 20 10.0.70.2; kill $!; wait`)
    t.regex(output, /3 received, 0% packet loss/)
    shell('ip link del own0; chown 0 /dev/vhost-net')
  },
)
