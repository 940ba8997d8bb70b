// net_af_packet against the kernel of this machine, over veth pairs in network namespaces of their own.
import test from 'ava'
import { needs } from '../rig/index.ts'
import { inNamespace, program } from './namespace.ts'

const veth = 'ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up;'
const ping = 'ping=$(command -v ping || echo busybox ping);'

needs(test, 'root')('the kernel’s ping is answered by TypeScript', async (t) => {
  const output = await inNamespace(`${veth} ${ping}
    ip link set v0 mtu 9000; ip link set v1 mtu 9000; ip addr add 10.0.0.1/24 dev v1
    ${program('responder')} net_af_packet0,iface=v0,qpairs=2,framesz=16384 10.0.0.2 --queues 2 &
    $ping -c 1 -w 20 10.0.0.2
    $ping -c 3 10.0.0.2
    $ping -c 3 -s 8900 10.0.0.2
    kill $!; wait`)
  t.is(output.match(/ 0% packet loss/g)?.length, 3, output)
})

needs(test, 'root')('checksums that the kernel left out are completed', async (t) => {
  const output = await inNamespace(`${veth} ip addr add 10.0.0.1/24 dev v1
    ${program('responder')} net_af_packet0,iface=v0 10.0.0.2 >/dev/null &
    ${program('udp')} 10.0.0.2 200
    kill $!; wait`)
  t.is(output, '200 back\n')
})

for (const options of ['', ',qdisc_bypass=1', ',framecnt=64,blocksz=65536']) {
  needs(test, 'root')(`every frame arrives once, in order and unchanged${options}`, async (t) => {
    const output = await inNamespace(`${veth}
      ${program('two')} net_af_packet0,iface=v0${options} net_af_packet1,iface=v1,framecnt=1024 100000`)
    t.is(output, 'sent 100000, received 100000, the same\n')
  })
}

needs(test, 'root')('what nobody polls in time is counted, and the sums agree', async (t) => {
  const output = await inNamespace(`${veth}
    ${program('missed')} net_af_packet0,iface=v0 net_af_packet1,iface=v1,framecnt=64`)
  const [, sent, received, missed] = /^sent (\d+), received (\d+), missed (\d+)\n$/.exec(output) ?? []
  t.true(Number(missed) > 0, output)
  t.is(Number(sent), Number(received) + Number(missed), output)
})

needs(test, 'root')('what `ip link` does is seen, and a deleted device leaves nothing behind', async (t) => {
  const output = await inNamespace(
    `${veth} ip link set v0 mtu 9000; ${program('life')} net_af_packet0,iface=v0 v0`,
  )
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

needs(test, 'root')('a packet socket filters VLANs in the kernel, and addresses in software', async (t) => {
  const output = await inNamespace(`${veth} ${program('filters')} net_af_packet0,iface=v0 v1`)
  t.deepEqual(output.trim().split('\n'), [
    'all: - -: 3 received, 0 kept, 0 filtered',
    'own: software -: 2 received, 0 kept, 1 filtered',
    'two: software -: 3 received, 0 kept, 0 filtered',
    'vlan 7: - device: 2 received, 0 kept, 0 filtered',
    'vlan 5: - device: 3 received, 0 kept, 0 filtered',
  ])
})
