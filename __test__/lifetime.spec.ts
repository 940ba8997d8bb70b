// Nothing is kept that nobody uses, and nothing goes while somebody uses it.
import { readdirSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { execFileSync } from 'node:child_process'
import test from 'ava'
import { type Burst, Mempool, Port } from '../ts/index.ts'

const options = { count: 1024, pages: '4K' } as const
const descriptors = (): number => readdirSync('/proc/self/fd').length

/** Collects garbage until `condition` holds, or for good when it never does. */
async function collectUntil(condition: () => boolean): Promise<boolean> {
  for (let i = 0; i < 100; i++) {
    if (condition()) return true
    globalThis.gc!()
    await turn()
  }
  return condition()
}

test('a burst that is forgotten gives its packets back', async (t) => {
  using pool = new Mempool(options)
  const forget = (): void => {
    for (let i = 0; i < 20; i++) pool.alloc(pool.createBurst(), 32)
  }
  forget()
  t.is(pool.freeCount, 1024 - 640)
  t.true(await collectUntil(() => pool.freeCount === pool.count))
})

test('the arrays of a burst outlive it: what one still holds can be read', async (t) => {
  const pool = new Mempool(options)
  const take = (): { addr: Uint32Array; bytes: Uint8Array } => {
    const burst = pool.createBurst()
    burst.push(new Uint8Array(60).fill(7))
    const { addr } = burst
    burst.close()
    return { addr, bytes: pool.bytes }
  }
  const { addr, bytes } = take()
  await collectUntil(() => false)
  t.is(bytes[addr[0]!], 7)
  pool.close()
  t.is(bytes.length, 0)
})

test('bursts can be made and closed without end, and too many at once are an error', (t) => {
  using pool = new Mempool(options)
  for (let i = 0; i < 20_000; i++) pool.createBurst(1).close()
  const all: Burst[] = []
  const error = t.throws(() => {
    for (let i = 0; i < 5000; i++) all.push(pool.createBurst(1))
  })
  t.is((error as Error & { code: string }).code, 'ERR_VRING_TOO_MANY_BURSTS')
  for (const burst of all) burst.close()
  pool.createBurst(1).close()
})

test('mempools that are forgotten, or closed, give their memory and descriptors back', async (t) => {
  await collectUntil(() => false)
  const before = descriptors()
  const forget = (): void => {
    for (let i = 0; i < 20; i++) new Mempool(options).createBurst()
  }
  forget()
  t.true(descriptors() >= before + 20)
  t.true(await collectUntil(() => descriptors() <= before))
  for (let i = 0; i < 20; i++) new Mempool(options).close()
  for (let i = 0; i < 20 && descriptors() > before; i++) await turn()
  t.true(descriptors() <= before, 'closed, they do not wait for the collector')
})

test('1000 ports opened, used and closed leave no descriptor and no buffer behind', async (t) => {
  using pool = new Mempool(options)
  const round = async (): Promise<void> => {
    await using port = await Port.open({ driver: 'net_ring', size: 32 }, { mempool: pool })
    using burst = pool.createBurst()
    pool.alloc(burst, 32)
    burst.len.fill(60)
    port.txQueues[0]!.txBurst(burst)
    burst.free()
    for await (const received of port.rxQueues[0]!) {
      received.drop(0)
      port.txQueues[0]!.txBurst(received)
      break
    }
  }
  await round()
  await collectUntil(() => false)
  const before = descriptors()
  for (let i = 0; i < 1000; i++) await round()
  t.true(await collectUntil(() => descriptors() <= before), `${descriptors()} descriptors, ${before} before`)
  t.is(pool.freeCount, pool.count)
})

test('a port whose mempool object is gone goes on', async (t) => {
  const open = async (): Promise<Port> => Port.open('net_null0', { mempool: new Mempool(options) })
  await using port = await open()
  await collectUntil(() => false)
  using burst = port.mempool.createBurst()
  t.is(port.rxQueues[0]!.rxBurst(burst), 32)
})

/** Runs a program in a process of its own. */
function program(body: string): string {
  const index = fileURLToPath(new URL('../ts/index.ts', import.meta.url))
  const text = `import(${JSON.stringify(index)}).then(async ({ Lcore, Mempool, Port }) => {
    const mempool = new Mempool({ count: 512, pages: '4K' })
    ${body}
  })`
  const args = ['--import=@oxc-node/core/register', '-e', text]
  return execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 })
}

test('an open port, a running lcore and a burst do not keep the process alive', (t) => {
  const body = `const port = await Port.open('net_ring0', { mempool })
    new Lcore().start('rxonly', [{ rx: port.rxQueues[0] }])
    mempool.alloc(mempool.createBurst(), 10)
    process.on('exit', () => console.log('the end'))`
  t.is(program(body), 'the end\n')
})

test('waiting for packets, for an lcore or for a link does', (t) => {
  const packets = `const port = await Port.open('net_ring0', { mempool })
    setTimeout(() => { const b = mempool.createBurst(); b.push(new Uint8Array(60)); port.txQueues[0].txBurst(b) }, 100).unref()
    const keep = setInterval(() => {}, 50)
    for await (const b of port.rxQueues[0]) { console.log(b.length); break }
    clearInterval(keep)`
  t.is(program(packets), '1\n')
  const lcore = `const port = await Port.open('net_null0', { mempool })
    const lcore = new Lcore()
    lcore.start('rxonly', [{ rx: port.rxQueues[0] }], { limit: 3e6 })
    console.log((await lcore.wait()).streams[0].rx >= 3e6)`
  t.is(program(lcore), 'true\n')
})

test('a process that ends in the middle of everything ends cleanly', (t) => {
  const body = `const port = await Port.open('net_ring0', { mempool })
    void port.rxQueues[0][Symbol.asyncIterator]().next()
    const lcore = new Lcore()
    const other = await Port.open('net_null0', { mempool })
    lcore.start('rxonly', [{ rx: other.rxQueues[0] }])
    void lcore.wait()
    setTimeout(() => { console.log('exit'); process.exit(0) }, 50)`
  t.is(program(body), 'exit\n')
})
