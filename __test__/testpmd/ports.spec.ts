// Promises: the commands that change ports and queues do what they say, refuse what is wrong with its range in dpdk-testpmd's words, and
// never say that something is so that is not.
import test, { type ExecutionContext } from 'ava'
import { needs, Testpmd } from '../rig/index.ts'

const OPTIONS = {
  vdevs: ['net_ring0,size=64'],
  mbufs: 2048,
  // Link changes would be printed in the middle of an answer.
  args: ['--no-lsc-interrupt'],
} as const

const start = (): Promise<Testpmd> => Testpmd.vring(OPTIONS)

/** Types lines and compares what each prints. */
async function dialogue(
  t: ExecutionContext,
  testpmd: Testpmd,
  lines: readonly (readonly [string, string])[],
): Promise<void> {
  for (const [line, answer] of lines) t.is(await testpmd.command(line), answer, line)
}

test('addresses, groups, VLANs and modes are set, shown and refused', async (t) => {
  await using testpmd = await start()
  await dialogue(t, testpmd, [
    ['set promisc all off', ''],
    [
      'set promisc 5 off',
      'Invalid port_id=5\nError during disabling promiscuous mode for port 5: No such device\n',
    ],
    ['set allmulti 0 on', ''],
    ['mac_addr set 0 02:00:00:00:00:07', ''],
    ['mac_addr set 0 03:00:00:00:00:07', 'mac_addr_cmd error: (Invalid argument)\n'],
    ['mac_addr add 0 zz', 'Bad arguments\n'],
    ['mac_addr add 0 02:00:00:00:00:08', ''],
    ['show port 0 macs', 'Number of MAC address added: 2\n  02:00:00:00:00:07\n  02:00:00:00:00:08\n'],
    ['mac_addr remove 0 02:00:00:00:00:08', ''],
    ['show port 0 macs', 'Number of MAC address added: 1\n  02:00:00:00:00:07\n'],
    ['mcast_addr add 0 02:00:5e:00:00:02', 'Invalid multicast addr 02:00:5E:00:00:02\n'],
    ['mcast_addr add 0 01:00:5e:00:00:01', ''],
    ['mcast_addr add 0 01:00:5e:00:00:01', 'multicast address already filtered by port\n'],
    ['show port 0 mcast_macs', 'Number of Multicast MAC address added: 1\n  01:00:5E:00:00:01\n'],
    [
      'rx_vlan add 5 0',
      'Port 0: VLAN-filtering disabled\nrte_eth_dev_vlan_filter(port_pi=0, vlan_id=5, on=1) failed diag=-38\n',
    ],
    ['vlan set filter on 0', ''],
    ['vlan set strip on 0', ''],
    ['vlan set filter on 9', 'Invalid port 9\n'],
    ['rx_vlan add 5 0', ''],
    ['rx_vlan add 5000 0', 'Invalid vlan_id 5000 (must be < 4096)\n'],
  ])
  const info = await testpmd.command('show port info 0')
  t.regex(info, /\n {2}strip on, filter on, extend off/)
  t.regex(info, /\nPromiscuous mode: disabled\nAllmulticast mode: enabled\n/)
})

test('ports stop, start and close; a port that runs is not closed, and one that is stopped forwards nothing', async (t) => {
  await using testpmd = await start()
  await testpmd.command('start')
  t.is(
    await testpmd.command('port stop 0'),
    'Stopping ports...\nPlease remove port 0 from forwarding configuration.\nDone\n',
  )
  t.is(await testpmd.command('port 0 rxq 0 stop'), 'Please stop forwarding first\n')
  await testpmd.command('stop')
  await dialogue(t, testpmd, [
    ['port close 0', 'Closing ports...\nCannot close started device (port 0)\nDone\n'],
    ['port config all rxq 1', 'Please stop all ports first\n'],
  ])
  t.regex(await testpmd.command('port stop 0'), /^Stopping ports\.\.\.\nChecking link statuses\.\.\.\nDone\n/)
  t.is(await testpmd.command('start'), 'Not all ports were started\n')
  await dialogue(t, testpmd, [
    ['port stop 0', 'Stopping ports...\nDone\n'],
    ['port config all rxq 1', ''],
    ['port config all rxq 5', "Fail: input rxq (5) can't be greater than max_rx_queues (1) of port 0\n"],
  ])
  t.regex(await testpmd.command('port start 0'), /^Configuring Port 0 \(socket 0\)\nPort 0: [0-9A-F:]+\n/)
  t.is(
    await testpmd.command('port start 0'),
    'Port 0 is now not stopped\nPlease stop the ports first\nDone\n',
  )
  await testpmd.command('port stop all')
  t.is(await testpmd.command('port close 0'), 'Closing ports...\nPort 0 is closed\nDone\n')
  t.regex(await testpmd.command('show port info 0'), /^Invalid port 0\n/)
})

test('queues tell what they are, their descriptors and their state', async (t) => {
  await using testpmd = await start()
  const shown = await testpmd.command('show rxq info 0 0')
  t.regex(shown, /Infos for port 0 , RX queue 0 {2}\*+\nMempool: mb_pool_0\n/)
  t.regex(shown, /\nRx queue state: started\nNumber of RXDs: 64\nBurst mode: addresses /)
  await dialogue(t, testpmd, [
    ['port 0 rxq 0 stop', ''],
    ['port 0 rxq 9 start', 'Invalid RX queue 9 (must be < nb_rxq=1)\n'],
    ['show port 0 rxq 0 desc 5 status', 'Desc status = AVAILABLE\n'],
    ['show port 0 txq 0 desc 5 status', 'Desc status = DONE\n'],
    ['show port 0 rxq 0 desc 50000 status', 'Invalid input: queue id = 0, desc id = 50000\n'],
    ['show port 0 rxq 0 desc used count', 'Used desc count = 0\n'],
    [
      'show rxq info 0 9',
      'Invalid Rx queue_id=9\nFailed to retrieve information for port: 0, RX queue: 9\nerror desc: Invalid argument(-22)\n',
    ],
    ['port config mtu 0 1400', ''],
    ['port config mtu 0 20', 'MTU (20) < device min MTU (68) for port_id 0\n'],
    ['set link-down port 0', ''],
  ])
  t.regex(await testpmd.command('show rxq info 0 0'), /\nRx queue state: stopped\n/)
  const info = await testpmd.portInfo()
  t.deepEqual([info.get('MTU'), info.get('Link status')], ['1400', 'down'])
})

test('hashes are configured; a table is not, where nobody spreads packets', async (t) => {
  await using testpmd = await start()
  const key = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fb'
  await dialogue(t, testpmd, [
    ['show port 0 rss-hash', 'RSS disabled\n'],
    [
      'port config 0 rss-hash-key ipv4 0102',
      'key length: 4 invalid - key must be a string of 80 hexa-decimal numbers\n',
    ],
    [`port config 0 rss-hash-key ipv4 ${key}`, ''],
    [
      'show port 0 rss-hash key',
      `RSS functions:\n  ipv4  ipv4-tcp  ipv4-udp  ipv6  ipv6-tcp  ipv6-udp\nRSS key:\n${key.toUpperCase()}\n`,
    ],
    ['show port 0 rss reta 64 (0x1)', 'Failed to get RSS RETA info, return code = -22\n'],
    ['show port 0 rss reta 128 (0x1,0x0)', 'Failed to get RSS RETA info, return code = -95\n'],
    [
      'port config 0 rss reta (0,0)',
      'The reta size of port 0 is 128\nBad redirection table parameter, return code = -95 \n',
    ],
  ])
  t.regex(await testpmd.command('show port 0 rx_offload capabilities'), /\n {2}Per Port {2}:.* VLAN_STRIP/)
})

needs(test, 'dpdk')('wrong numbers are refused as dpdk-testpmd refuses them', async (t) => {
  await using ours = await Testpmd.vring({ ...OPTIONS, vdevs: ['net_null0'] })
  await using theirs = await Testpmd.dpdk({ ...OPTIONS, vdevs: ['net_null0'] })
  for (const line of [
    'set promisc 5 off',
    'set link-up port 7',
    'vlan set filter on 9',
    'rx_vlan add 5000 0',
    'rx_vlan add 5 0',
    'mac_addr set 0 03:00:00:00:00:07',
    'mac_addr add 0 zz',
    'mcast_addr add 0 02:00:5e:00:00:02',
    'port config mtu 9 1400',
    'port config mtu 0 70000',
    'port 0 rxq 9 start',
    'port config all rxq 1',
    'port start 0',
    'port close 0',
    'show rxq info 9 0',
    'show rxq info 0 9',
    'show port 0 rxq 0 desc 50000 status',
    'show port 9 macs',
    'show port 3 rx_offload capabilities',
  ])
    t.is(await ours.command(line), await theirs.command(line), line)
})
