// Promise: a TypeScript engine that is replaced while traffic runs loses no packet, brings none out of order, and leaves no memory behind.
import { readdirSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { Lcore, Mempool, Port, Traffic } from '../../ts/index.ts'
import { ScriptRunner } from '../../ts/testpmd/script/runner.ts'
import { scratch, Testpmd } from '../rig/index.ts'

/** Replacements; the 1,000 are run by `VRING_REPLACEMENTS=1000`. */
const TIMES = Number(process.env['VRING_REPLACEMENTS'] ?? 12)
const MIB = 1 << 20

const script = (n: number): string => `
import type { Burst, ScriptContext } from 'vring'
const name: string = 'engine ${n}'
export default { burst(burst: Burst, { pool }: ScriptContext): void {
  // The last byte of the destination's address says who forwarded; names are ${n % 251}.
  for (let i = 0; i < burst.length; i++) pool.bytes[burst.addr[i]! + 5] = ${n % 251} + name.length * 0
} }
`

test(`a script is replaced ${TIMES} times under traffic: nothing lost, nothing reordered, nothing kept`, async (t) => {
  t.timeout(120_000 + TIMES * 5000)
  using folder = scratch()
  const [socket, file] = [folder.path('s0'), folder.path('engine.ts')]
  using mempool = new Mempool({ count: 8192 })
  await using device = await Port.open({ driver: 'net_vhost', iface: socket }, { mempool })
  await using driver = await Port.open(
    { driver: 'net_virtio_user', path: socket, queueSize: 4096 },
    { mempool },
  )
  await Promise.all([device.waitForLink(), driver.waitForLink()])
  const plan = { rxPort: 0, rxQueue: 0, txPort: 0, txQueue: 0 }
  const said: string[] = []
  const scripts = new ScriptRunner(file, (text) => said.push(text))
  const hand = () => ({ plan, rx: device.rxQueues[0]!.handOver(), tx: device.txQueues[0]!.handOver() })
  writeFileSync(file, script(0))
  await scripts.load([{ id: 1, cpus: [] }])
  await scripts.start([{ lcore: 1, streams: [plan] }], 32, hand)

  const traffic = new Traffic({ pps: 2000, flows: 4 })
  await using sender = new Lcore()
  await using checker = new Lcore()
  checker.startTraffic(traffic, [{ rx: driver.rxQueues[0]! }])
  sender.startTraffic(traffic, [{ tx: driver.txQueues[0]!, frame: {} }])
  const moved = async (least: number): Promise<void> => {
    while ((scripts.moved()[0]?.tx ?? 0) < least) await new Promise((done) => setTimeout(done, 2))
  }
  const memory: number[] = []
  let descriptors = 0
  for (let n = 1; n <= TIMES; n++) {
    writeFileSync(file, script(n))
    await scripts.replace(file, 32, hand)
    // The new one has forwarded something: the old one is not just gone unnoticed.
    await moved(scripts.moved()[0]!.tx + 1)
    globalThis.gc?.()
    memory.push(process.memoryUsage.rss())
    if (n === Math.ceil(TIMES / 5)) descriptors = readdirSync('/proc/self/fd').length
  }
  const broken = `${script(0)}\nthrow new Error('not this one')`
  writeFileSync(file, broken)
  await t.throwsAsync(scripts.replace(file, 32, hand), { message: /not this one/ })
  await moved(scripts.moved()[0]!.tx + 1)
  const [all] = (await sender.stop()).streams
  while (checker.stats().streams[0]!.rx < all!.tx) await new Promise((done) => setTimeout(done, 2))
  await checker.stop()
  await scripts.stop()
  const [total] = scripts.moved()
  const { lost, sent, received } = traffic.report()
  await scripts.close()
  t.deepEqual(said, [])
  t.is(total!.dropped, 0)
  t.true(received!.unique > TIMES)
  t.is(total!.rx, total!.tx)
  t.is(sent[0]!.packets, received!.unique)
  t.deepEqual([lost, received!.reordered, received!.duplicated, received!.damaged], [0, 0, 0, 0])
  t.true(readdirSync('/proc/self/fd').length <= descriptors + 2)
  const growth =
    Math.min(...memory.slice(-5)) - Math.min(...memory.slice(Math.ceil(TIMES / 5), Math.ceil(TIMES / 5) + 5))
  t.true(growth < 24 * MIB, `${growth} bytes in ${TIMES} replacements`)
})

test('set fwd script FILE and --watch put a script in the place of the one that forwards', async (t) => {
  using folder = scratch()
  const [one, two] = [folder.path('one.ts'), folder.path('two.ts')]
  const named = (name: string): string =>
    `export default { setup: ({ log }) => log('this is ${name}'), burst() {} }\n`
  writeFileSync(one, named('one'))
  writeFileSync(two, named('two'))
  const args = ['--script', one, '--watch']
  await using testpmd = await Testpmd.vring({ vdevs: ['net_ring0'], mbufs: 4096, args })
  const says = (text: string): Promise<true> =>
    testpmd.terminal.until(`"${text}"`, 30_000, () => testpmd.terminal.transcript.includes(text) || undefined)
  await testpmd.command('start tx_first 2')
  await says('this is one')
  writeFileSync(one, `${named('one, changed')}// and longer\n`)
  await says('this is one, changed')
  await says('was loaded again')
  await testpmd.command(`set fwd script ${two}`)
  await says('this is two')
  t.regex(await testpmd.command('set fwd script /nowhere.ts'), /there is no file \/nowhere\.ts/)
  writeFileSync(one, 'this is no script')
  t.regex(await testpmd.command(`set fwd script ${one}`), /one\.ts/)
  await testpmd.waitForStats('packets go round', (stats) => stats.rxPackets > 1000)
  const { total } = await testpmd.stop()
  t.is(total.txDropped, 0)
  t.is(total.txPackets, total.rxPackets + 64)
  t.is(await testpmd.quit(), 0)
})
