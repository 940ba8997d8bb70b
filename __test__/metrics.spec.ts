// Promise: a Prometheus server can read the metrics, and they are the ports' own counters.
import test from 'ava'
import { Mempool, Metrics, Port, VringError } from '../ts/index.ts'

interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Reads the text format as its specification has it, and throws at the first line that is none of it. */
function parse(text: string): readonly Sample[] {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const types = new Map<string, string>()
  const samples: Sample[] = []
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const [, kind, name, rest] = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line) ?? []
    if (kind === 'TYPE') types.set(name!, rest!)
    if (kind !== undefined) continue
    const [, metric, labels = '', number] =
      /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (-?[\d.e+]+|NaN|[+-]Inf)$/.exec(line) ?? []
    if (metric === undefined) throw new Error(`no sample: ${line}`)
    const type = types.get(metric)
    if (type === undefined) throw new Error(`${metric} has no type`)
    if ((type === 'counter') !== metric.endsWith('_total')) throw new Error(`${metric} is a ${type}`)
    const pairs = labels === '' ? [] : [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\\n]|\\.)*)"(?:,|$)/g)]
    if (pairs.map(([all]) => all).join('') !== labels) throw new Error(`labels of ${line}`)
    const named = Object.fromEntries(pairs.map(([, key, value]) => [key, value])) as Record<string, string>
    samples.push({ name: metric, labels: named, value: Number(number) })
  }
  return samples
}

const scrape = async (url: string): Promise<readonly Sample[]> => parse(await (await fetch(url)).text())

function valueOf(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>>,
): number | undefined {
  const wanted = Object.entries(labels)
  return samples.find((one) => one.name === name && wanted.every(([key, value]) => one.labels[key] === value))
    ?.value
}

test('metrics are the counters at the moment of the scrape', async (t) => {
  using mempool = new Mempool({ name: 'a "pool"', count: 512, pages: '4K' })
  const port = await Port.open('net_ring0,size=64', { mempool })
  let ports: readonly Port[] = [port]
  await using metrics = await Metrics.listen({ ports: () => ports })
  t.regex(metrics.url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
  const rx = { port: 'net_ring0', direction: 'rx', queue: '0' }
  const tx = { ...rx, direction: 'tx' }
  t.is(valueOf(await scrape(metrics.url), 'vring_packets_total', tx), 0)

  using burst = mempool.createBurst(16)
  for (let i = 0; i < 16; i++) burst.push(Buffer.alloc(100, i))
  t.is(port.txQueues[0]!.txBurst(burst), 16)
  t.is(port.rxQueues[0]!.rxBurst(burst), 16)
  const now = await scrape(metrics.url)
  const stats = port.stats()
  t.is(valueOf(now, 'vring_packets_total', tx), stats.txPackets)
  t.is(valueOf(now, 'vring_packets_total', rx), 16)
  t.is(valueOf(now, 'vring_bytes_total', rx), 1600)
  t.is(valueOf(now, 'vring_link_up', { port: 'net_ring0' }), 1)
  t.is(valueOf(now, 'vring_mtu_bytes', { port: 'net_ring0' }), 1500)
  t.is(valueOf(now, 'vring_port_info', { driver: 'net_ring', mac: port.mac }), 1)
  const pool = { mempool: String.raw`a \"pool\"` }
  t.is(valueOf(now, 'vring_mempool_buffers', pool), 512)
  t.is(valueOf(now, 'vring_mempool_free_buffers', pool), 496)
  burst.free()

  // Counts do not add up over scrapes, and a port that is gone is not told of.
  t.is(valueOf(await scrape(metrics.url), 'vring_packets_total', rx), 16)
  ports = []
  await port.close()
  t.is(valueOf(await scrape(metrics.url), 'vring_packets_total', rx), undefined)
})

test('every drop has its reason', async (t) => {
  using mempool = new Mempool({ count: 512, pages: '4K' })
  await using port = await Port.open('net_ring0', { mempool })
  await using metrics = await Metrics.listen({ ports: () => [port] })
  port.setRxMode({ promiscuous: false })
  using burst = mempool.createBurst()
  burst.push(Buffer.alloc(60))
  burst.push(Buffer.alloc(60))
  port.txQueues[0]!.txBurst(burst)
  port.rxQueues[0]!.rxBurst(burst)
  t.is(burst.length, 0)
  const { drops } = port.stats()
  t.is(drops['rx_filtered'], 2)
  const samples = await scrape(metrics.url)
  for (const [reason, count] of Object.entries(drops)) {
    t.is(valueOf(samples, 'vring_drops_total', { port: 'net_ring0', reason }), count)
  }
  t.is(samples.filter(({ name }) => name === 'vring_drops_total').length, Object.keys(drops).length)
})

test('other paths and methods are answered, a taken address is an error', async (t) => {
  await using metrics = await Metrics.listen({ ports: () => [] })
  t.is((await fetch(metrics.url.replace('/metrics', '/'))).status, 404)
  t.is((await fetch(metrics.url, { method: 'POST' })).status, 404)
  const head = await fetch(metrics.url, { method: 'HEAD' })
  t.regex(head.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  const port = Number(new URL(metrics.url).port)
  const error = await t.throwsAsync(Metrics.listen({ ports: () => [], port }), { instanceOf: VringError })
  t.is(error.code, 'ERR_VRING_SYSTEM')
  t.regex(error.message, /EADDRINUSE/)
})
