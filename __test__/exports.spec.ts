// What is public is what was meant to be: a name comes into or out of the API only together with this list.
import { readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
import * as api from '../ts/index.ts'

const VALUES = [
  'ArpView',
  'Burst',
  'Capture',
  'EtherType',
  'EthernetView',
  'HeaderView',
  'IcmpView',
  'IpProtocol',
  'Ipv4View',
  'Ipv6View',
  'Kni',
  'Lcore',
  'Mempool',
  'Metrics',
  'PacketFlag',
  'Port',
  'RxQueue',
  'TcpFlag',
  'TcpView',
  'Telemetry',
  'Traffic',
  'TxQueue',
  'UdpView',
  'VlanView',
  'VringError',
  'checksum',
  'drivers',
  'foldSum',
  'formatIpv4',
  'formatIpv6',
  'formatMac',
  'onesSum',
  'parseDevargs',
  'parseIpv4',
  'parseMac',
  'pciDevices',
  'pseudoHeader4',
  'pseudoHeader6',
  'updateChecksum',
  'version',
]

const TYPES = [
  'BurstCount',
  'BurstFunction',
  'BurstsOptions',
  'CaptureOptions',
  'CaptureStats',
  'CsumOptions',
  'DevargInfo',
  'Devargs',
  'DriverName',
  'Drops',
  'EngineName',
  'EngineOptions',
  'ForwardScript',
  'FrameOptions',
  'KniEvents',
  'KniFlow',
  'KniHandler',
  'KniOptions',
  'KniRequest',
  'KniStats',
  'LatencyStats',
  'LcoreOptions',
  'LcoreStats',
  'LinkStatus',
  'MempoolOptions',
  'MetricsOptions',
  'NetAfPacketOptions',
  'NetNullOptions',
  'NetPcapOptions',
  'NetRingOptions',
  'NetTapOptions',
  'NetVhostOptions',
  'NetVirtioPciOptions',
  'NetVirtioUserOptions',
  'NoiseOptions',
  'OffloadInfo',
  'Offloads',
  'PciDevice',
  'PortEvents',
  'PortInfo',
  'PortOptions',
  'PortStats',
  'QueueConfig',
  'QueueInfo',
  'QueueStats',
  'QueueToken',
  'ReceivedTraffic',
  'RssConfig',
  'RssType',
  'RxMode',
  'RxOffload',
  'ScriptContext',
  'Segment',
  'SegmentationKind',
  'SentTraffic',
  'Stream',
  'StreamStats',
  'TelemetryHandler',
  'TelemetryOptions',
  'TelemetryValue',
  'TrafficLatency',
  'TrafficOptions',
  'TrafficReport',
  'TrafficSize',
  'TrafficStream',
  'TxOffload',
  'VringErrorCode',
  'WaitOptions',
]

const folder = new URL('../ts/', import.meta.url)
const read = (name: string): string => readFileSync(new URL(name, folder), 'utf8')

/** The names in the braces of a file's export statements, those of types apart. */
function exported(file: string): { readonly values: string[]; readonly types: string[] } {
  const [values, types]: [string[], string[]] = [[], []]
  for (const [, all, list] of read(file).matchAll(/^export (type )?\{([^}]*)\}/gm)) {
    for (const name of list!.split(',').map((part) => part.trim())) {
      if (name === '') continue
      if (all !== undefined || name.startsWith('type ')) types.push(name.replace(/^type /, ''))
      else values.push(name)
    }
  }
  return { values, types }
}

test('the exports are those of the list', (t) => {
  t.deepEqual(Object.keys(api).toSorted(), VALUES)
  const [index, packet] = [exported('index.ts'), exported('packet/index.ts')]
  t.deepEqual([...index.types, ...packet.types].toSorted(), TYPES)
  t.deepEqual([...index.values, ...packet.values].toSorted(), VALUES)
  // Nothing is exported in a way that the above does not see.
  const other = read('index.ts').match(/^export (?!\{|type \{).*$/gm)
  t.deepEqual(other, ["export * from './packet/index.ts'"])
  t.is(read('packet/index.ts').match(/^export (?!\{|type \{).*$/gm), null)
})

test('every export says what it is', (t) => {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  )
  const declared = new Map<string, boolean>()
  for (const text of files.map(read)) {
    const declarations = /(\*\/\n)?^export (?:abstract )?(?:class|interface|type|const|function) (\w+)/gm
    for (const [, comment, name] of text.matchAll(declarations)) declared.set(name!, comment !== undefined)
  }
  t.deepEqual(
    [...VALUES, ...TYPES].filter((name) => declared.get(name) !== true),
    [],
  )
})
