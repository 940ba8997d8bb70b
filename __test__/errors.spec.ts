// Whatever a caller does wrong is an error that says what was expected, with a stable code, and nothing is lost.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { errorCodes } from '../ts/errors.ts'
import { Burst, Lcore, Mempool, Port, type PortOptions, type RxQueue, VringError } from '../ts/index.ts'
import { scratch } from './rig/index.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const options = { count: 1024, pages: '4K' } as const
const config = (mempool: Mempool) => ({ mempool })

test('every code that Rust can give is in the closed list', (t) => {
  const sources = (folder: string): string[] =>
    readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return entry.name === 'target' ? [] : sources(path)
      return entry.name.endsWith('.rs') ? [readFileSync(path, 'utf8')] : []
    })
  const codes = new Set(sources(join(root, 'crates')).flatMap((text) => text.match(/"ERR_VRING_\w+"/g) ?? []))
  const listed: ReadonlySet<string> = new Set(errorCodes)
  t.deepEqual(
    [...codes].map((code) => code.slice(1, -1)).filter((code) => !listed.has(code)),
    [],
  )
  t.true(codes.size > 20)
})

test('errors are VringErrors whose stack is the caller’s', (t) => {
  const error = t.throws(() => new Mempool({ count: 0 }), {
    instanceOf: VringError,
    code: 'ERR_VRING_OUT_OF_RANGE',
  })
  t.is(error.message, 'expected count from 1 to 2147483648, got 0')
  t.is(error.name, 'VringError')
  t.regex(error.stack!.split('\n')[1]!, /mempool\.ts|errors\.spec\.ts/)
})

const badPools = [
  [{ bufferSize: 100 }, 'ERR_VRING_OUT_OF_RANGE'],
  [{ cacheSize: 1000 }, 'ERR_VRING_OUT_OF_RANGE'],
  [{ count: 1.5 }, 'ERR_VRING_OUT_OF_RANGE'],
  [{ count: -1 }, 'ERR_VRING_OUT_OF_RANGE'],
  [{ count: 2 ** 31, bufferSize: 65535 }, 'ERR_VRING_OUT_OF_RANGE'],
  [{ count: 4e6, bufferSize: 960, pages: '1G' }, 'ERR_VRING_NO_HUGEPAGES'],
] as const

test('a mempool that cannot be is refused', (t) => {
  for (const [bad, code] of badPools)
    t.throws(() => new Mempool(bad), { instanceOf: VringError, code }, JSON.stringify(bad))
  t.throws(() => new Mempool({ pages: '3K' as '4K' }), { code: 'ERR_VRING_OUT_OF_RANGE', message: /3K/ })
  t.throws(() => new Mempool({ name: 7 as unknown as string }), { code: 'ERR_VRING_INVALID_ARGUMENT' })
})

test('a burst of the wrong size, kind or mempool is refused', async (t) => {
  using pool = new Mempool(options)
  using other = new Mempool({ ...options, name: 'other' })
  for (const size of [0, 513, -1, Number.NaN]) {
    t.throws(() => pool.createBurst(size), { code: 'ERR_VRING_OUT_OF_RANGE' }, String(size))
  }
  await using port = await Port.open('net_ring0', config(pool))
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  using foreign = other.createBurst()
  foreign.push(new Uint8Array(60))
  const wrong = { instanceOf: VringError, code: 'ERR_VRING_WRONG_MEMPOOL', message: /mbuf_pool.*other/ }
  t.throws(() => rx.rxBurst(foreign), wrong)
  t.throws(() => tx.txBurst(foreign), wrong)
  t.throws(() => pool.alloc(foreign, 1), wrong)
  using own = pool.createBurst()
  t.throws(() => foreign.moveTo(own, 0), { code: 'ERR_VRING_WRONG_MEMPOOL' })
  t.is(foreign.length, 1, 'the packet is where it was')
  for (const wrong of [undefined, null, {}, 7, 'burst', Object.create(Burst.prototype)]) {
    t.throws(() => rx.rxBurst(wrong as Burst), undefined, String(wrong))
  }
  t.throws(() => rx.rxBurst({} as Burst), {
    code: 'ERR_VRING_INVALID_ARGUMENT',
    message: 'expected a Burst, got an object (Object)',
  })
})

const badPorts: readonly (readonly [string | PortOptions, string, RegExp])[] = [
  ['net_vhots0', 'ERR_VRING_UNKNOWN_DRIVER', /did you mean net_vhost\?/],
  ['net_vhost0,ifcae=/tmp/s', 'ERR_VRING_UNKNOWN_DEVARG', /did you mean iface\?/],
  ['net_vhost0', 'ERR_VRING_MISSING_DEVARG', /iface/],
  ['net_null0,size=7', 'ERR_VRING_BAD_DEVARG', /from 14 to \d+, got '7'/],
  ['net_ring0,size=100', 'ERR_VRING_BAD_DEVARG', /power of two/],
  ['net_ring0,peer=net_ring9', 'ERR_VRING_BAD_DEVARG', /net_ring9/],
  [{ driver: 'net_null', size: 1e9 }, 'ERR_VRING_BAD_DEVARG', /size/],
  [{ driver: 'net_nil' } as unknown as PortOptions, 'ERR_VRING_UNKNOWN_DRIVER', /net_nil/],
  [{} as PortOptions, 'ERR_VRING_INVALID_ARGUMENT', /driver/],
  [undefined as unknown as string, 'ERR_VRING_INVALID_ARGUMENT', /device string/],
]

test('a port that cannot be is refused, and what was wrong is named', async (t) => {
  using pool = new Mempool(options)
  for (const [device, code, message] of badPorts) {
    await t.throwsAsync(
      Port.open(device, config(pool)),
      { instanceOf: VringError, code, message },
      JSON.stringify(device),
    )
  }
  await t.throwsAsync(Port.open('net_null0', { mempool: pool, mtu: 10 }), { code: 'ERR_VRING_OUT_OF_RANGE' })
  await t.throwsAsync(Port.open('net_null0', { mempool: pool, rxQueues: 1e6 }), {
    code: 'ERR_VRING_OUT_OF_RANGE',
  })
  await t.throwsAsync(Port.open('net_null0', {} as { mempool: Mempool }), {
    code: 'ERR_VRING_INVALID_ARGUMENT',
  })
  await using first = await Port.open('net_null0', config(pool))
  await t.throwsAsync(Port.open('net_null0', config(pool)), {
    code: 'ERR_VRING_NAME_IN_USE',
    message: /net_null0/,
  })
  t.is(first.id, 0)
  t.is(pool.freeCount, pool.count, 'what failed to open kept nothing')
})

test('what no packet can be is refused by push, and keeps no buffer', (t) => {
  using pool = new Mempool({ ...options, bufferSize: 256 })
  using burst = pool.createBurst()
  t.throws(() => burst.push(new Uint8Array(256 * 128 + 1)), {
    instanceOf: VringError,
    code: 'ERR_VRING_OUT_OF_RANGE',
    message: /at most 32768 bytes \(256 segments in buffers of 256\), got 32769/,
  })
  t.throws(() => burst.push([1, 2, 3] as unknown as Uint8Array), { code: 'ERR_VRING_INVALID_ARGUMENT' })
  t.is(pool.freeCount, pool.count)
  t.true(burst.push(new Uint8Array(256 * 128)))
  t.is(burst.bytes(0).length, 256 * 128)
  burst.free()
  t.is(pool.freeCount, pool.count, 'the longest one comes back whole')
})

test('use after close is an error, and closing twice is none', async (t) => {
  const pool = new Mempool(options)
  const port = await Port.open('net_ring0', config(pool))
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  const burst = pool.createBurst()
  burst.push(new Uint8Array(60))
  await port.close()
  await port.close()
  const closed = { instanceOf: VringError, code: 'ERR_VRING_CLOSED' }
  t.throws(() => rx.rxBurst(burst), closed)
  t.throws(() => tx.txBurst(burst), closed)
  t.is(burst.length, 1, 'the packet is still in the burst')
  t.throws(() => rx.handOver(), closed)
  await t.throwsAsync(port.waitForLink(), closed)
  t.is(port.stats().rxPackets, 0, 'statistics can be read')
  burst.close()
  burst.close()
  t.throws(() => burst.free(), closed)
  t.throws(() => burst.push(new Uint8Array(60)), closed)
  t.throws(() => burst.truncate(0), closed)
  t.throws(() => burst.drop(0), closed)
  t.throws(() => burst.bytes(0), closed)
  t.throws(() => pool.alloc(burst, 1), closed)
  t.is(pool.freeCount, pool.count)
  const { bytes } = pool
  pool.close()
  pool.close()
  t.is(bytes.length, 0, 'memory that may be gone is not shown')
  t.throws(() => pool.bytes, closed)
  t.throws(() => pool.freeCount, closed)
  t.throws(() => pool.createBurst(), closed)
  await t.throwsAsync(Port.open('net_ring0', config(pool)), closed)
})

test('a queue that an lcore has is busy, and the lcore says so the other way round', async (t) => {
  using pool = new Mempool(options)
  await using port = await Port.open('net_ring0', config(pool))
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  using burst = pool.createBurst()
  await using lcore = new Lcore()
  const busy = {
    instanceOf: VringError,
    code: 'ERR_VRING_QUEUE_BUSY',
    message: /net_ring0 rx queue 0.*another thread/,
  }
  rx.rxBurst(burst)
  t.throws(() => lcore.start('rxonly', [{ rx }]), busy)
  rx.release()
  lcore.start('rxonly', [{ rx }])
  t.throws(() => rx.rxBurst(burst), busy)
  t.throws(() => lcore.start('rxonly', [{ rx }]), { code: 'ERR_VRING_LCORE_RUNNING' })
  await lcore.stop()
  t.throws(() => lcore.start('io', [{ rx }]), { code: 'ERR_VRING_STREAM' })
  t.throws(() => lcore.start('oi' as 'io', [{ rx, tx }]), {
    code: 'ERR_VRING_UNKNOWN_ENGINE',
    message: /'oi'/,
  })
  t.throws(() => lcore.start('io', [{ rx, tx }], { burst: 1000 }), { code: 'ERR_VRING_OUT_OF_RANGE' })
  t.throws(() => lcore.start('io', [{ rx: tx as unknown as RxQueue, tx }]), { code: 'ERR_VRING_STREAM' })
  t.throws(() => lcore.start('txonly', [{ tx, dst: 'nobody' }]), { code: 'ERR_VRING_INVALID_ARGUMENT' })
  t.throws(() => new Lcore({ cpu: 100_000 }), { code: 'ERR_VRING_CPU' })
  await lcore.close()
  t.throws(() => lcore.start('rxonly', [{ rx }]), { code: 'ERR_VRING_CLOSED' })
})

test('what a script writes into a burst by mistake harms no other packet', async (t) => {
  using pool = new Mempool(options)
  await using port = await Port.open('net_ring0', config(pool))
  using burst = pool.createBurst()
  for (let i = 0; i < 4; i++) burst.push(new Uint8Array(60))
  const kept = burst.addr.slice(0, 4)
  burst.addr[0] = 0xffff_fff0
  burst.len[1] = 60_000
  const sent = port.txQueues[0]!.txBurst(burst)
  burst.free()
  using received = pool.createBurst()
  const came = port.rxQueues[0]!.rxBurst(received)
  t.true(came <= sent)
  for (let i = 0; i < came; i++) t.true(received.addr[i]! < pool.bytes.length)
  t.true(kept.length === 4)
})

test('a package without its binary says what is expected, what is here and what to do', (t) => {
  using folder = scratch()
  const app = folder.path('vring')
  mkdirSync(app)
  cpSync(join(root, 'ts'), join(app, 'ts'), { recursive: true })
  cpSync(join(root, 'package.json'), join(app, 'package.json'))
  symlinkSync(join(root, 'node_modules'), join(app, 'node_modules'))
  const program = `import('./ts/index.ts').then(() => 'loaded', (e) => [e.code, e.message].join('|')).then(console.log)`
  const run = (): string =>
    execFileSync(process.execPath, ['--import=@oxc-node/core/register', '-e', program], {
      cwd: app,
      encoding: 'utf8',
    })
  t.regex(run(), /^ERR_VRING_NO_BINARY\|expected.*linux-x64.*this is linux-.*glibc.*npm run build/)
  const binary = readdirSync(root).find((name) => name.endsWith('.node'))!
  writeFileSync(join(app, binary), 'not an ELF file')
  t.regex(run(), /^ERR_VRING_NO_BINARY\|expected to load.*npm run build/)
  rmSync(join(app, binary))
  symlinkSync(join(root, binary), join(app, binary))
  const manifest = JSON.parse(readFileSync(join(app, 'package.json'), 'utf8')) as Record<string, unknown>
  writeFileSync(join(app, 'package.json'), JSON.stringify({ ...manifest, version: '99.0.0' }))
  t.regex(run(), /^ERR_VRING_NO_BINARY\|expected the native addon of vring 99\.0\.0/)
})
