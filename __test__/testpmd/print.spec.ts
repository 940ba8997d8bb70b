// Promise: what testpmd prints is dpdk-testpmd's layout to the byte. The transcripts are what dpdk-testpmd 22.11 printed.
import { readFileSync } from 'node:fs'
import test from 'ava'
import type { PortStats } from '../../ts/index.ts'
import { coreList, forwardingConfig, transferConfig, txpktsConfig } from '../../ts/testpmd/print/config.ts'
import {
  linkLine,
  portInfo,
  type PortFacts,
  speedText,
  summaryHeader,
  summaryRow,
} from '../../ts/testpmd/print/info.ts'
import { nicStats, type Rates, ratesBetween, STATS_PERIOD_HEADER } from '../../ts/testpmd/print/stats.ts'
import type { ForwardCount } from '../../ts/testpmd/counts.ts'
import { forwardStats } from '../../ts/testpmd/print/forward.ts'
import { planCores, planStreams } from '../../ts/testpmd/topology.ts'
import { parsePortStats, parseStop } from '../rig/stats.ts'

const recorded = (name: string): string =>
  readFileSync(new URL(`transcripts/${name}.txt`, import.meta.url), 'utf8')

const NO_MORE = { badIp: 0, badL4: 0, cycles: 0 }
const peer = (id: number): string => `02:00:00:00:00:0${id}`

/** The rates of one port's block, as they were recorded. */
function recordedRates(text: string): Rates {
  const [rxPps, rxBps, txPps, txBps] = [...text.matchAll(/[RT]x-[pb]ps:\s+(\d+)/g)].map((match) =>
    Number(match[1]),
  )
  return { rxPps: rxPps!, rxBps: rxBps!, txPps: txPps!, txBps: txBps! }
}

function printAgain(text: string): string {
  const blocks = text.split(/(?<=#{76}\n)/)
  return blocks
    .map((block) => {
      const [[id, shown]] = [...parsePortStats(block)] as [[number, Partial<PortStats>]]
      return nicStats(id, { drops: {}, rx: [], tx: [], ...shown } as PortStats, recordedRates(block))
    })
    .join('')
}

test('show port stats prints the recorded block for the recorded numbers', (t) => {
  for (const name of ['show-port-stats-0', 'show-port-stats-all'])
    t.is(printAgain(recorded(name)), recorded(name))
})

test('the statistics of --stats-period clear the screen and have a title', (t) => {
  const text = recorded('stats-period')
  t.is(STATS_PERIOD_HEADER + printAgain(text.slice(STATS_PERIOD_HEADER.length)), text)
})

/** What `stop` reported, read back from its text. */
function recordedCounts(text: string): ReadonlyMap<number, ForwardCount> {
  const nothing = { rxErrors: 0, rxNombuf: 0, badIp: 0, badL4: 0 }
  const entries = [...parseStop(text).ports].map(([id, { rxPackets, rxDropped, txPackets, txDropped }]) => {
    return [id, { rxPackets, rxMissed: rxDropped, txPackets, txDropped, ...nothing }] as const
  })
  return new Map(entries)
}

const STOPPING = 'Telling cores to stop...\nWaiting for lcores to finish...\n'

test('stop prints the recorded blocks for the recorded numbers', (t) => {
  for (const name of ['stop-two-ports', 'stop-vhost-dropped']) {
    const text = recorded(name)
    t.is(
      `${STOPPING}${forwardStats({ mode: 'io', streams: [], ports: recordedCounts(text) })}\nDone.\n`,
      text,
    )
  }
})

test('stop prints each stream when there are more streams than ports, and leaves out the idle ones', (t) => {
  const text = recorded('stop-three-ports-two-queues')
  const counted = (tx: number) =>
    planStreams([0, 1, 2], 2, 'chained').map((plan) =>
      Object.assign({ plan, rx: 0, tx, dropped: 0 }, NO_MORE),
    )
  t.is(
    `${STOPPING}${forwardStats({ mode: 'io', streams: counted(119360), ports: recordedCounts(text) })}\nDone.\n`,
    text,
  )
  t.notRegex(
    forwardStats({ mode: 'io', streams: counted(0), ports: recordedCounts(text) }),
    /Forward Stats for RX/,
  )
})

test('receive errors and missing buffers have lines of their own, only when there are some', (t) => {
  const text = recorded('stop-no-buffers')
  const counts = new Map([[0, { ...recordedCounts(text).get(0)!, rxNombuf: 36221750784 }]])
  t.is(`${STOPPING}${forwardStats({ mode: 'io', streams: [], ports: counts })}\nDone.\n`, text)
})

const queues = (ports: number, each: number, rxDesc: number, txDesc: number) =>
  Array.from({ length: ports }, (_, id) => ({ id, rxQueues: each, txQueues: each, rxDesc, txDesc }))

test('start prints who forwards what', (t) => {
  const io = planCores(planStreams([0, 1], 1, 'paired'), [1], 1)
  const txpkts = [64]
  const transfer = { mode: 'io', burst: 32, txpkts, cores: 1, forwardingPorts: 2, ports: queues(2, 1, 0, 0) }
  t.is(
    forwardingConfig({ mode: 'io', ports: 2, cores: io, peer }) + transferConfig(transfer),
    recorded('start-io-two-ports'),
  )
})

test('start prints queues, ring sizes and the segments of txonly', (t) => {
  const cores = planCores(planStreams([0, 1, 2], 2, 'chained'), [1], 1)
  const mode = 'txonly'
  const ports = queues(3, 2, 256, 1024)
  const transfer = { mode, burst: 64, txpkts: [100, 60], cores: 1, forwardingPorts: 3, ports }
  t.is(
    forwardingConfig({ mode, ports: 3, cores, peer }) + transferConfig(transfer),
    recorded('start-txonly-three-ports-two-queues'),
  )
})

test('show config prints cores, streams and segments', (t) => {
  t.is(coreList([1, 2, 3, 4, 5, 6, 7]), recorded('show-config-cores-seven'))
  t.is(txpktsConfig([64, 128], 'off'), recorded('show-config-txpkts'))
  const lcores = [1, 2, 3, 4, 5, 6, 7]
  for (const [cores, word] of [
    [4, 'four'],
    [2, 'two'],
    [3, 'three'],
  ] as const) {
    const plans = planCores(planStreams([0, 1, 2, 3, 4], 1, 'paired'), lcores, cores)
    t.is(
      forwardingConfig({ mode: 'io', ports: 5, cores: plans, peer }),
      recorded(`show-config-fwd-${word}-cores`),
    )
  }
})

const vhost: PortFacts = {
  id: 0,
  name: 'net_vhost0',
  driver: 'net_vhost',
  devargs: 'iface=/tmp/s0',
  mac: '56:48:4f:53:54:00',
  mtu: 1500,
  link: { up: true, speed: 10_000, duplex: 'full', autoneg: false },
  promiscuous: true,
  allMulticast: true,
  vlan: { strip: false, filter: false },
  macAddresses: 1,
  minRxBuffer: 0,
  maxRxLength: 4294967295,
  queues: { rx: 1, tx: 1, maxRx: 1, maxTx: 1 },
  descriptors: { min: 0, max: 65535 },
}

test('show port info prints the recorded lines for the recorded port', (t) => {
  t.is(portInfo(vhost), recorded('show-port-info-vhost'))
})

test('show port summary prints the recorded rows', (t) => {
  t.is(summaryHeader(1) + summaryRow(vhost), recorded('show-port-summary-vhost'))
  const user = { ...vhost, name: 'net_virtio_user0', driver: 'net_virtio_user', mac: 'd6:16:6f:dc:8f:c1' }
  const link = { ...vhost.link, speed: 0xffff_ffff }
  t.is(summaryHeader(1) + summaryRow({ ...user, link }), recorded('show-port-summary-virtio-user'))
})

test('link speeds are shown in words', (t) => {
  t.deepEqual([0, 10, 1000, 2500, 10_000, 0xffff_ffff].map(speedText), [
    ...['None', '10 Mbps', '1 Gbps', '2.5 Gbps', '10 Gbps', 'Unknown'],
  ])
  t.is(linkLine(0, vhost.link), 'Port 0 Link up at 10 Gbps FDX Fixed\n')
  t.is(linkLine(1, { ...vhost.link, up: false }), 'Port 1 Link down\n')
})

test('rates are zero at first and after a clear, and count bits, not bytes', (t) => {
  const sample = (at: bigint, packets: number) => ({
    at,
    stats: { rxPackets: packets, txPackets: packets * 2, rxBytes: packets * 100, txBytes: packets * 200 },
  })
  const zero = { rxPps: 0, txPps: 0, rxBps: 0, txBps: 0 }
  t.deepEqual(ratesBetween(undefined, sample(5n, 1000)), zero)
  t.deepEqual(ratesBetween(sample(0n, 1000), sample(2_000_000_000n, 0)), zero)
  t.deepEqual(ratesBetween(sample(0n, 0), sample(2_000_000_000n, 1000)), {
    ...{ rxPps: 500, txPps: 1000, rxBps: 400_000, txBps: 800_000 },
  })
})
