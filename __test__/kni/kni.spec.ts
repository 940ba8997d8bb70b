// Promise: a port has an interface in the kernel of this machine, whose requests it follows; a virtual machine can have it as a descriptor.
import test from 'ava'
import { needs } from '../rig/index.ts'
import { inNamespace, root } from '../kernel/namespace.ts'

const node = (file: string, ...options: string[]): string =>
  [`"${process.execPath}"`, ...options, '--import=@oxc-node/core/register', file].join(' ')
const program = (name: string, ...options: string[]): string => node(`__test__/kni/${name}.ts`, ...options)
const kni = `"${process.execPath}" "${root}dist/cli.js" kni`
const veth = (n: number): string =>
  `ip link add p${n} type veth peer name g${n}; ip link set p${n} up; ip link set g${n} up;`
/** What is in the background ends with the script; `$log` is a file for one program's output. */
const start = `log=$(mktemp); started=; trap 'rm $log; kill $started 2>/dev/null || true' EXIT;`
/** Another namespace, whose process is $NAME, with `on_NAME` before what runs there. */
const other = (name: string): string => `
  unshare -n sleep 300 >/dev/null 2>&1 & ${name}=$!; started="$started $!"
  until [ "$(readlink /proc/$${name}/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
  on_${name}() { nsenter -t $${name} -n "$@"; }
`
const until = (condition: string): string => `until ${condition}; do sleep 0.1; done`

needs(test, 'netns')('what ip link does is asked about, done to the port, or undone', async (t) => {
  const output = await inNamespace(`${veth(0)} ${program('requests')}`)
  const first = '02:00:00:00:00:01'
  const set = '02:00:00:00:00:77'
  t.deepEqual(output.split('\n'), [
    `vEth7 up mtu 1500 ${first} promiscuous false`,
    '{"kind":"mtu","mtu":1400} ',
    `  started mtu 1400 ${first} false false | up mtu 1400 ${first}`,
    '  p0 mtu 1400',
    `{"kind":"mac","mac":"${set}"} `,
    `  started mtu 1400 ${set} false false | up mtu 1400 ${set}`,
    '{"kind":"promiscuous","on":true} ',
    `  started mtu 1400 ${set} true false | up mtu 1400 ${set}`,
    '{"kind":"promiscuous","on":false} ',
    `  started mtu 1400 ${set} false false | up mtu 1400 ${set}`,
    '{"kind":"allMulticast","on":true} ',
    `  started mtu 1400 ${set} false true | up mtu 1400 ${set}`,
    '{"kind":"link","up":false} ',
    `  stopped mtu 1400 ${set} false true | down mtu 1400 ${set}`,
    '{"kind":"link","up":true} ',
    `  started mtu 1400 ${set} false true | up mtu 1400 ${set}`,
    '{"kind":"mtu","mtu":9000} refused ',
    `  started mtu 1400 ${set} false true | up mtu 1400 ${set}`,
    '{"kind":"mac","mac":"02:00:00:00:00:99"} refused ',
    `  started mtu 1400 ${set} false true | up mtu 1400 ${set}`,
    '{"kind":"link","up":false} refused ',
    `  started mtu 1400 ${set} false true | up mtu 1400 ${set}`,
    '{"kind":"promiscuous","on":true} refused not today',
    `  started mtu 1400 ${set} false true | up mtu 1400 ${set}`,
    `ERR_VRING_OUT_OF_RANGE up mtu 1400 ${set}`,
    '{"kind":"promiscuous","on":true} true',
    '{"kind":"promiscuous","on":false} false',
    'carrier off, started',
    'carrier on, started',
    'ERR_VRING_DEVICE_LOST',
    'buffers left: 0',
    '',
  ])
})

needs(test, 'netns')(
  'vring kni: IPv4 and IPv6 through the port, statistics on SIGUSR1, reset on SIGUSR2, a clean end',
  async (t) => {
    const output = await inNamespace(`${start} ${other('far')} ${other('inside')}
    ip link add p0 type veth peer name g0 netns $far; ip link set p0 up
    on_far ip link set g0 up; on_far ip addr add 10.0.0.1/24 dev g0; on_far ip addr add fd00::1/64 dev g0 nodad
    ${kni} --lcores '0@(0,1),1@(0,1)' -n 4 --no-huge --vdev net_af_packet0,iface=p0 -- \
      -p 0x1 -i 0x1 -o 0x2 -m --no-vhost --netns /proc/$inside/ns/net >$log & kni=$!; started="$started $!"
    ${until('grep -q "vEth0 is there" $log')}
    on_inside ip addr add 10.0.0.2/24 dev vEth0; on_inside ip addr add fd00::2/64 dev vEth0 nodad
    on_far ping -c 3 -w 30 10.0.0.2
    on_inside ping -c 3 -w 30 -s 1400 10.0.0.1
    on_far ping -6 -c 3 -w 30 fd00::2
    kill -USR1 $kni; ${until('grep -q "rx_packets" $log')}
    kill -USR2 $kni; ${until('grep -q "reset" $log')}
    on_inside ip link set vEth0 mtu 1400; ${until('grep -q "mtu 1400" $log')}
    kill -INT $kni; wait $kni; echo "status $?"
    cat $log; ip -br link show p0
    on_inside ip link show vEth0 2>&1 || true
`)
    t.is(output.match(/ 0% packet loss/g)?.length, 3, output)
    t.regex(output, /status 0/)
    t.regex(output, /Lcore 0 is reading from port 0\nAPP: Lcore 1 is writing to port 0\n/)
    const tables = [...output.matchAll(/^ {6}0 +0\/ 1 +(\d+) +(\d+) +(\d+) +(\d+)$/gm)]
    const [[, rx, rxDropped, tx, txDropped] = [], [, rxAfter] = []] = tables.map((row) => row.map(Number))
    t.true(rx! >= 12 && tx! >= 12, output)
    t.deepEqual([rxDropped, txDropped], [0, 0], output)
    t.true(rxAfter! < 12, output)
    t.regex(output, /APP: port 0: vEth0: mtu 1400/)
    t.regex(output, /Device "vEth0" does not exist/)
  },
)

needs(test, 'netns')('several ports; with loopback, what each receives goes back to it', async (t) => {
  const output = await inNamespace(`${start} ${other('far')} ${veth(0)} ${veth(1)}
    ${program('loopback')} net_af_packet0,iface=p0,qpairs=2 net_af_packet1,iface=p1 /proc/$far/ns/net >$log & loop=$!; started="$started $!"
    ${until('grep -q "are there" $log')}
    on_far ip -br link show other0
    ${program('generator')} net_af_packet0,iface=g0 20000
    ${program('generator')} net_af_packet0,iface=g1 20000
    kill $loop; wait $loop; cat $log`)
  t.regex(output, /^other0 +UNKNOWN/m)
  t.is(output.match(/^sent 20000, received 20000, the same, at \d+ packets\/s$/gm)?.length, 2, output)
  t.regex(output, /vEth0 and other0 are there, here vEth0/)
  t.is(output.match(/^(2\d{4}) \1 \1 \1 \{\}$/gm)?.length, 2, output)
  t.log(output.match(/\d+ packets\/s/g)?.join(', '))
  t.regex(output, /buffers in use by the ports alone: 0/)
})

needs(test, 'netns')('100 interfaces, one after the other, leave nothing behind', async (t) => {
  t.is(await inNamespace(`${veth(0)} ${program('rounds', '--expose-gc')} 100`), 'as before\n')
})

needs(test, 'netns')(
  'what cannot be opened is an error that says why, and leaves nothing behind',
  async (t) => {
    t.deepEqual((await inNamespace(`${veth(0)} ${veth(1)} ${program('refused')}`)).trim().split('\n'), [
      'ERR_VRING_INVALID_ARGUMENT 1 receive queues, 0 transmit queues',
      'ERR_VRING_QUEUE_BUSY a queue that is polled',
      'ERR_VRING_BAD_DEVARG a name of another device',
      'ERR_VRING_DEVICE_NAME no name',
      'ERR_VRING_NO_NAMESPACE no namespace',
      'ERR_VRING_CPU no such processor',
      'ERR_VRING_DEVICE_IN_USE a tap of somebody else',
      'ERR_VRING_NAME_IN_USE the same name twice',
      'closed with its port, devices g0 g1 lo p0 p1',
    ])
  },
)

needs(
  test,
  'netns',
  'guest',
)('a virtual machine gets a port’s interface by descriptor, and pings through it', async (t) => {
  const output = await inNamespace(`${start} ${other('far')}
    ip link add p0 type veth peer name g0 netns $far; ip link set p0 up
    on_far ip link set g0 up; on_far ip addr add 10.0.0.1/24 dev g0
    ${program('handoff')} $far; ip -br link`)
  t.regex(output, /promiscuous for the machine: true \[\{"kind":"promiscuous","on":true\}\]/)
  t.is(output.match(/ 0% packet loss/g)?.length, 2, output)
  t.regex(output, /all that they received: true true\ndrops: \[\{\},\{\}\]\nqemu ends with 0/)
  t.notRegex(output, /vEth/)
})

needs(test, 'netns')('the example refuses jumbo frames, and does the rest', async (t) => {
  const output = await inNamespace(`${start} ${veth(0)}
    ${node('examples/kni.ts')} net_af_packet0,iface=p0 --name kni0 --ip 10.0.0.1/24 >$log & example=$!; started="$started $!"
    ${until('grep -q "is there" $log')}
    ip link set kni0 mtu 9000; ${until('grep -q refused $log')}
    ip link set kni0 mtu 1400; ${until('grep -q done $log')}
    kill -INT $example; wait $example; cat $log`)
  t.regex(
    output,
    /^kni0 is there, by \S+\nrefused: \{ kind: 'mtu', mtu: 9000 \}\ndone: \{ kind: 'mtu', mtu: 1400 \}\nin \d/,
  )
})
