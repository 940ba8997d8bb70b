// A guest that keeps its NICs behind an IOMMU: each buffer is mapped only as long as the device has it, and net_vhost asks QEMU for every page.
import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { Mempool, Port } from '../../ts/index.ts'
import { needs, scratch } from '../rig/index.ts'
import { Guest, vhostUserNic } from './rig/index.ts'

const KINDS = { split: {}, packed: { packed: 'on' } } as const
const ENDS = ['a', 'b'] as const
/** Not much: each page of it is a question that QEMU answers, and an invalidation, on an emulated processor. */
const KiB = 96

/** Gives each NIC a network namespace of its own, named after its end. */
const SET_UP = `modprobe virtio_net
  for end in a b; do
    [ $end = a ] && n=1 || n=2
    device=$(grep -l 02:00:00:00:00:0$n /sys/class/net/*/address | cut -d/ -f5)
    /sbin/ip netns add $end
    /sbin/ip link set $device netns $end
    /sbin/ip netns exec $end /sbin/ip link set lo up
    /sbin/ip netns exec $end /sbin/ip addr add 10.0.0.$n/24 dev $device
    /sbin/ip netns exec $end /sbin/ip link set $device up
  done`

const SERVER = `$s = IO::Socket::INET->new(Listen => 1, LocalPort => 5000, ReuseAddr => 1) or die;
  $c = $s->accept; print while read $c, $_, 65536`
const CLIENT = `$to = shift; until ($s = IO::Socket::INET->new($to)) { select undef, undef, undef, 0.1 }
  print $s $_ while read STDIN, $_, 65536`

/** Sends random bytes by TCP from one namespace to the other, and compares them at both ends. */
const bulk = (from: string, to: string, address: string): string => `
  set -e; cd /run
  dd if=/dev/urandom of=sent bs=1k count=${KiB} 2>/dev/null
  /sbin/ip netns exec ${to} perl -MIO::Socket::INET -e '${SERVER}' >got & server=$!
  /sbin/ip netns exec ${from} perl -MIO::Socket::INET -e '${CLIENT}' ${address}:5000 <sent
  wait $server
  cmp sent got && wc -c <got`

/** What comes in at one port goes out at the other; it sleeps while nothing comes. */
async function carry(from: Port, to: Port, signal: AbortSignal): Promise<void> {
  for await (const burst of from.rxQueues[0]!.bursts({ signal })) {
    // What has no translation yet stays in the burst.
    while (burst.length > 0 && !signal.aborted) {
      to.txQueues[0]!.txBurst(burst)
      if (burst.length > 0) await setImmediate()
    }
    burst.free()
  }
}

for (const [kind, device] of Object.entries(KINDS)) {
  needs(test, 'guest')(
    `${kind}: ping and bulk both ways arrive whole, though their pages come and go`,
    async (t) => {
      using folder = scratch()
      using mempool = new Mempool({ count: 4096 })
      const open = (end: string): Promise<Port> =>
        Port.open({ driver: 'net_vhost', iface: folder.path(end), iommuSupport: true }, { mempool })
      await using a = await open('a')
      await using b = await open('b')
      const nics = ENDS.flatMap((id, i) => {
        const iommu = { iommu_platform: 'on', ats: 'on', 'disable-legacy': 'on' }
        return vhostUserNic({
          id,
          socket: folder.path(id),
          mac: `02:00:00:00:00:0${i + 1}`,
          device: { ...iommu, ...device },
        })
      })
      await using guest = await Guest.start({
        machine: 'q35',
        append: 'intel_iommu=on iommu=nopt iommu.strict=1',
        args: ['-device', 'intel-iommu,intremap=off,caching-mode=on,device-iotlb=on', ...nics],
      })
      const errors: string[] = []
      for (const port of [a, b]) port.on('error', ({ message }) => errors.push(message))
      await guest.run(SET_UP)
      await Promise.all([a.waitForLink(), b.waitForLink()])
      for (const { info } of [a, b]) {
        t.true(info.features.includes('ACCESS_PLATFORM'))
        t.is(info.features.includes('RING_PACKED'), kind === 'packed')
      }
      const stop = new AbortController()
      const wire = Promise.all([carry(a, b, stop.signal), carry(b, a, stop.signal)])
      t.regex(await guest.run('/sbin/ip netns exec a /run/guest/ping -c 3 10.0.0.2'), / 0% packet loss/)
      t.is(await guest.run(bulk('a', 'b', '10.0.0.2')), String(KiB << 10))
      t.is(await guest.run(bulk('b', 'a', '10.0.0.1')), String(KiB << 10))
      for (const port of [a, b]) {
        const { rx, tx, drops, rxPackets } = port.stats()
        t.deepEqual(drops, {})
        t.log(
          `${rxPackets} packets received, pages asked for: rx ${rx[0]!.iotlbMisses}, tx ${tx[0]!.iotlbMisses}`,
        )
        // A mapping lasts no longer than its buffer is with the device: far more pages are asked for than the guest has buffers.
        t.true(rx[0]!.iotlbMisses > 100 && tx[0]!.iotlbMisses > 100)
      }
      t.deepEqual(errors, [])
      t.is(await guest.quit(), 0)
      stop.abort()
      await wire
      await Promise.all([a.close(), b.close()])
      t.is(mempool.freeCount, mempool.count)
    },
  )
}
