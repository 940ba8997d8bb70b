// Promise: `vring kni` takes the command lines of DPDK's kni, the chapter's and the later ones, and says what is wrong with others.
import test from 'ava'
import { statsText } from '../../ts/kni/command.ts'
import { parseArguments } from '../../ts/kni/options.ts'
import { requestsBetween, requestText } from '../../ts/kni/request.ts'

const EAL = ['--vdev', 'net_null0', '--vdev', 'net_null1', '-c', '0xf', '-n', '4', '--']
const CPUS = [0, 1, 2, 3]
const parse = (...words: string[]) => parseArguments([...EAL, ...words], CPUS).config

test('the chapter’s command line: a mask of ports, of cores in and of cores out', (t) => {
  t.deepEqual(parse('-p', '0x1', '-i', '0x1', '-o', '0x2').ports, [{ port: 0, rx: 0, tx: 1 }])
  t.deepEqual(parse('-p', '3', '-i', '0x5', '-o', '0xa').ports, [
    { port: 0, rx: 0, tx: 1 },
    { port: 1, rx: 2, tx: 3 },
  ])
})

test('the later one: ports with their lcores, promiscuous, carrier', (t) => {
  const config = parse('-P', '-p', '0x3', '-m', '--config=(1,2,3),(0,0,1,0)')
  t.deepEqual(config.ports, [
    { port: 0, rx: 0, tx: 1 },
    { port: 1, rx: 2, tx: 3 },
  ])
  t.true(config.promiscuous && config.monitor)
  t.regex(config.notes.join('\n'), /kernel thread/)
  t.false(parse('-p', '1', '--config', '(0,0,1)').monitor)
})

test('options of our own', (t) => {
  const ports = ['-p', '1', '--config', '(0,0,1)']
  const config = parse(...ports, '--lo-mode', 'lo_mode_fifo', '--netns', 'far', '--vmm', '--stats-period=5')
  t.like(config, { loopback: true, netns: 'far', vmm: true, statsPeriod: 5, vhost: undefined })
  t.is(parse(...ports, '--vhost').vhost, true)
  t.is(parse(...ports, '--no-vhost').vhost, false)
  t.true(parse('--help').help)
})

const wrong: readonly (readonly [string, RegExp])[] = [
  ['-i 1 -o 2', /-p: expected the mask/],
  ['-p 0 -i 1 -o 2', /-p: expected a hexadecimal mask with a bit set, got '0'/],
  ['-p 1', /expected the lcores of the loops/],
  ['-p 1 -i 1', /expected the lcores of the loops/],
  ['-p 1 -i 1 -o 2 --config (0,0,1)', /cannot stand beside/],
  ['-p 3 -i 1 -o 2', /-i: expected as many lcores as there are ports in -p \(2\), got 1/],
  ['-p 4 -i 1 -o 2', /there is no port 2: 2 were given/],
  ['-p 1 -i 1 -o 10', /lcore 4 is not enabled: expected one of 0,1,2,3/],
  ['-p 1 -i 1 -o 1', /lcore 0 is given twice/],
  ['-p 1 --config (0,0)', /expected three or four numbers/],
  ['-p 1 --config (0,0,1,2,3)', /asks for 2 interfaces/],
  ['-p 1 --config (0,0,1', /expected \(port,lcore_rx,lcore_tx\)/],
  ['-p 1 --config (1,0,1)', /expected the ports of -p \(0\), got 1/],
  ['-p 1 -i 1 -o 2 --lo-mode lo_mode_fifo_skb', /expected lo_mode_none or lo_mode_fifo/],
  ['-p 1 -i 1 -o 2 --stats-period x', /--stats-period: expected seconds/],
  ['-p 1 -i 1 -o 2 --vhots', /nearest known option is '--vhost'/],
]
for (const [words, message] of wrong) {
  test(`refused with what is wrong: ${words}`, (t) => {
    t.throws(() => parse(...words.split(' ')), { message })
  })
}

test('the table is that of DPDK’s example, with each drop by its name', (t) => {
  const flow = { received: 5, receivedBytes: 300, sent: 4, sentBytes: 240, drops: { not_taken: 1 } }
  const stats = { ingress: flow, egress: { ...flow, sent: 5, drops: {} } }
  t.deepEqual(statsText([{ port: 0, rx: 2, tx: 3, stats }]).split('\n'), [
    '',
    '**KNI statistics**',
    '======  ==============  ============  ============  ============  ============',
    ' Port    Lcore(RX/TX)    rx_packets    rx_dropped    tx_packets    tx_dropped',
    '------  --------------  ------------  ------------  ------------  ------------',
    '      0          2/ 3             4             1             5             0',
    '======  ==============  ============  ============  ============  ============',
    '  Port 0 rx_dropped not_taken: 1',
    '',
  ])
})

test('what lies between two looks at an interface is asked for one by one, the link last', (t) => {
  const before = { up: false, mtu: 1500, mac: '02:00:00:00:00:01', promiscuous: false, allMulticast: true }
  const now = { up: true, mtu: 9000, mac: '02:00:00:00:00:02', promiscuous: true, allMulticast: false }
  const words = ['address 02:00:00:00:00:02', 'mtu 9000', 'promisc on', 'allmulticast off', 'up']
  t.deepEqual(requestsBetween(before, now).map(requestText), words)
  t.deepEqual(requestsBetween(now, now), [])
})
