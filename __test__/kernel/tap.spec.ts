// net_tap against the kernel of this machine, in network namespaces of its own.
import test from 'ava'
import { needs } from '../rig/index.ts'
import { inNamespace, program } from './namespace.ts'

const ping = 'ping=$(command -v ping || echo busybox ping);'

needs(test, 'root')('the kernel’s ping is answered by TypeScript', async (t) => {
  const output = await inNamespace(`${ping}
    ${program('responder')} net_tap0,iface=tap0,ip=10.0.0.1/24,mac=02:00:00:00:00:77 10.0.0.2 --mtu 9000 --queues 2 &
    until ip -br link show tap0 2>/dev/null | grep -q UP; do sleep 0.1; done
    $ping -c 3 10.0.0.2
    $ping -c 3 -s 8900 10.0.0.2
    kill $!; wait`)
  t.is(output.match(/ 0% packet loss/g)?.length, 2, output)
  t.regex(output, /answered ([7-9]|\d\d)/)
})

needs(test, 'root')('every frame arrives once, in order and unchanged', async (t) => {
  const output = await inNamespace(`
    ip link add br0 type bridge; ip link set br0 up
    ${program('two')} net_tap0,iface=a,bridge=br0 net_tap1,iface=b,bridge=br0 100000`)
  t.is(output, 'sent 100000, received 100000, the same\n')
})

needs(test, 'root')('what `ip link` does is seen, and a deleted tap leaves nothing behind', async (t) => {
  const output = await inNamespace(`${program('life')} net_tap0,iface=tap0 tap0`)
  t.deepEqual(output.trim().split('\n'), [
    'up with mtu 9000',
    'told mtu 1400',
    'down',
    'up again',
    'lost: ERR_VRING_DEVICE_LOST',
    'sends 0, receives 0',
    'buffers left: 0, descriptors left: 0',
  ])
})

needs(test, 'root')('a tap in another namespace, and one that stays', async (t) => {
  const output = await inNamespace(`
    unshare -n sleep 60 & other=$!
    until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
    ${program('once')} net_tap0,iface=far,netns=/proc/$other/ns/net,persist=1
    ip link show far || echo not here
    nsenter -t $other -n ip link show far
    kill $other`)
  t.regex(output, /^net_tap0 on far, up\nnot here\n\d+: far: .*state DOWN/)
})

needs(test, 'root')('a device of another kind is refused with what to do', async (t) => {
  const output = await inNamespace(
    `ip link add v0 type veth peer name v1; ${program('once')} net_tap0,iface=v0 || true`,
  )
  t.regex(output, /^ERR_VRING_BAD_DEVARG .*net_af_packet/)
})

const bridge = 'ip link add br0 type bridge mcast_snooping 0; ip link set br0 up;'

needs(test, 'root')(
  '64 KB of TCP go through whole where both ports agreed on that, and else as right frames',
  async (t) => {
    const run = (from: number, to: number): Promise<string> =>
      inNamespace(
        `${bridge} ${program('uncut')} net_tap0,iface=a,bridge=br0 net_tap1,iface=b,bridge=br0 ${from} ${to}`,
      )
    t.is(await run(1, 1), '1 of at most 65054, uncut, the same\n')
    // The kernel cuts for a port that takes none; software for one that sends none.
    t.regex(await run(1, 0), /^\d+ of at most 1502, right, the same\n$/)
    t.regex(await run(0, 1), /^\d+ of at most 1502, right, the same\n$/)
  },
)

needs(test, 'root')('addresses and VLANs that a port does not want stay with the tap', async (t) => {
  const output = await inNamespace(`
    ip tuntap add dev tap0 mode tap vnet_hdr; ip link set tap0 up
    ${program('filters')} net_tap0,iface=tap0 tap0`)
  t.deepEqual(output.trim().split('\n'), [
    'all: - -: 3 received, 0 kept, 0 filtered',
    'own: device -: 2 received, 1 kept, 0 filtered',
    'two: device -: 3 received, 0 kept, 0 filtered',
    'vlan 7: - device: 2 received, 1 kept, 0 filtered',
    'vlan 5: - device: 3 received, 0 kept, 0 filtered',
  ])
})
