// Mempools, bursts, ports and queues as a script uses them, on the ports that need no peer.
import test from 'ava'
import { drivers, Lcore, Mempool, PacketFlag, parseDevargs, Port, version } from '../ts/index.ts'
import { readFileSync } from 'node:fs'
import { scratch } from './rig/index.ts'

const packet = (length: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 255)
const options = { count: 2048, pages: '4K' } as const

test('the version is that of the package', (t) => {
  const { version: wanted } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  t.is(version, wanted)
})

test('a mempool says what it is, and hands every buffer out once', (t) => {
  using pool = new Mempool({ ...options, name: 'mine', bufferSize: 2048 })
  t.is(pool.name, 'mine')
  t.is(pool.count, 2048)
  t.is(pool.bufferSize, 2048)
  t.is(pool.pageSize, 4096)
  t.is(pool.freeCount, 2048)
  const bursts = Array.from({ length: 5 }, () => pool.createBurst(512))
  const got = bursts.map((burst) => pool.alloc(burst, 512))
  t.deepEqual(got, [512, 512, 512, 512, 0])
  t.is(pool.freeCount, 0)
  const addresses = new Set(bursts.flatMap((burst) => [...burst.addr.subarray(0, burst.length)]))
  t.is(addresses.size, 2048)
  for (const burst of bursts) burst.close()
  t.is(pool.freeCount, 2048)
})

test('a burst shows the packets that were pushed, byte for byte, of one segment and of several', (t) => {
  using pool = new Mempool(options)
  using burst = pool.createBurst(8)
  t.true(burst.push(packet(60)))
  t.true(burst.push(packet(9000, 3)))
  t.is(burst.length, 2)
  t.deepEqual([...burst.len.subarray(0, 2)], [60, 9000])
  t.deepEqual([...burst.flags.subarray(0, 2)], [0, PacketFlag.Multi])
  t.deepEqual(burst.bytes(0), packet(60))
  t.deepEqual(burst.bytes(1), packet(9000, 3))
  t.deepEqual(
    [...burst.segments(1)].map(({ len }) => len),
    [2048, 2048, 2048, 2048, 808],
  )
  const at = burst.addr[0]!
  pool.bytes[at] = 99
  t.is(burst.bytes(0)[0], 99, 'the mempool is the packet')
  burst.free()
  t.is(burst.length, 0)
  t.is(pool.freeCount, pool.count)
})

test('drop, truncate and moveTo keep the other packets and lose no buffer', (t) => {
  using pool = new Mempool(options)
  using burst = pool.createBurst(8)
  using other = pool.createBurst(2)
  for (let i = 0; i < 6; i++) burst.push(packet(60 + i))
  burst.drop(1)
  t.deepEqual([...burst.len.subarray(0, burst.length)], [60, 65, 62, 63, 64])
  burst.moveTo(other, 0)
  t.deepEqual([...burst.len.subarray(0, burst.length)], [64, 65, 62, 63])
  t.deepEqual([...other.len.subarray(0, other.length)], [60])
  burst.truncate(1)
  t.deepEqual([...burst.len.subarray(0, burst.length)], [64])
  t.is(pool.freeCount, pool.count - 2)
  t.throws(() => burst.drop(1), { code: 'ERR_VRING_OUT_OF_RANGE' })
  t.throws(() => burst.moveTo(other, 1), { code: 'ERR_VRING_OUT_OF_RANGE' })
  burst.moveTo(other, 0)
  t.true(burst.push(packet(60)))
  t.throws(() => burst.moveTo(other, 0), { code: 'ERR_VRING_OUT_OF_RANGE' }, 'the target is full')
})

test('metadata stands where its flag says, and stays with its packet', (t) => {
  using pool = new Mempool(options)
  using burst = pool.createBurst(8)
  using other = pool.createBurst(8)
  for (let i = 0; i < 5; i++) burst.push(packet(60 + i))
  burst.setVlan(1, 0xa064)
  burst.setChecksumPartial(2, 34, 16)
  burst.setLayers(3, PacketFlag.GsoUdpL4, 1400, 18, 40, 8)
  burst.setSegmentation(4, PacketFlag.GsoUdp, 1, 2)
  burst.setLayers(4, PacketFlag.GsoTcp6, 1440, 14, 40, 32)
  burst.flags[4]! |= PacketFlag.Hash
  burst.tag[4] = 5 << 16
  burst.hash[4] = 0xdead_beef
  burst.setVlan(4, 7)
  const seen = (of: typeof burst, i: number): unknown[] => [
    of.len[i]! - 60,
    of.flags[i],
    of.vlanOf(i),
    of.hashOf(i),
    of.hashTypeOf(i),
  ]
  const { Vlan, Hash, ChecksumPartial, GsoUdpL4, GsoTcp6 } = PacketFlag
  const plain = [0, 0, undefined, undefined, 0]
  const full = [4, GsoTcp6 | ChecksumPartial | Vlan | Hash, 7, 0xdead_beef, 5]
  t.deepEqual(seen(burst, 0), plain)
  t.deepEqual(seen(burst, 1), [1, Vlan, 0xa064, undefined, 0])
  t.deepEqual([burst.flags[2], burst.csum[2]], [ChecksumPartial, 34 | (16 << 16)])
  t.deepEqual(
    [burst.flags[3], burst.csum[3], burst.gso[3]],
    [GsoUdpL4 | ChecksumPartial, 58 | (6 << 16), 1400 | (66 << 16)],
  )
  t.deepEqual([burst.csum[4], burst.gso[4]], [54 | (16 << 16), 1440 | (86 << 16)])
  t.deepEqual(seen(burst, 4), full)

  burst.drop(1)
  t.deepEqual(seen(burst, 1), full, 'the last one took its place')
  burst.moveTo(other, 1)
  t.deepEqual([other.csum[0], other.gso[0]], [54 | (16 << 16), 1440 | (86 << 16)])
  t.deepEqual(seen(other, 0), full)
  t.deepEqual([burst.flags[1], burst.gso[1]], [GsoUdpL4 | ChecksumPartial, 1400 | (66 << 16)])
  other.clearMetadata(0)
  t.deepEqual(seen(other, 0), [4, 0, undefined, undefined, 0])
})

test('push says no when the burst is full or the mempool empty, and changes nothing', (t) => {
  using pool = new Mempool({ count: 4, pages: '4K', cacheSize: 0 })
  using small = pool.createBurst(1)
  t.true(small.push(packet(60)))
  t.false(small.push(packet(60)), 'full')
  using burst = pool.createBurst(8)
  t.false(burst.push(packet(9000)), 'five buffers of three')
  t.is(burst.length, 0)
  t.is(pool.freeCount, 3)
  t.true(burst.push(packet(4096)))
  t.is(pool.freeCount, 1)
})

test('net_ring gives back what was sent, in order, and txBurst leaves what it did not take in front', async (t) => {
  using pool = new Mempool(options)
  await using port = await Port.open({ driver: 'net_ring', size: 8 }, { mempool: pool })
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  using burst = pool.createBurst(12)
  for (let i = 0; i < 12; i++) burst.push(packet(60 + i))
  t.is(tx.txBurst(burst), 8)
  t.deepEqual([...burst.len.subarray(0, burst.length)], [68, 69, 70, 71])
  using received = pool.createBurst(32)
  t.is(rx.rxBurst(received), 8)
  t.is(rx.rxBurst(received), 0)
  t.deepEqual([...received.len.subarray(0, 8)], [60, 61, 62, 63, 64, 65, 66, 67])
  t.deepEqual(received.bytes(7), packet(67))
  const { rxPackets, txPackets, rxBytes, rx: queues } = port.stats()
  t.deepEqual([rxPackets, txPackets, rxBytes, queues[0]!.packets], [8, 8, 508, 8])
  port.resetStats()
  t.is(port.stats().rxPackets, 0)
})

test('net_ring hands a packet on with its hash, and without one that another packet had', async (t) => {
  using pool = new Mempool(options)
  await using port = await Port.open('net_ring0', { mempool: pool })
  const [tx, rx] = [port.txQueues[0]!, port.rxQueues[0]!]
  using burst = pool.createBurst(4)
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 3; i++) burst.push(packet(60))
    burst.flags[round]! |= PacketFlag.Hash
    burst.tag[round] = 2 << 16
    burst.hash[round] = 0xffff_fff0 + round
    t.is(tx.txBurst(burst), 3)
    t.is(rx.rxBurst(burst), 3)
    const expected = [0, 1, 2].map((i) => (i === round ? 0xffff_fff0 + round : undefined))
    t.deepEqual(
      [0, 1, 2].map((i) => burst.hashOf(i)),
      expected,
    )
    burst.free()
  }
})

test('typed options and device strings open the same port', async (t) => {
  using pool = new Mempool(options)
  await using one = await Port.open('net_null7,size=100,no-rx=1', { mempool: pool })
  await using two = await Port.open(
    { driver: 'net_null', name: 'net_null8', size: 100, noRx: true },
    { mempool: pool },
  )
  using burst = pool.createBurst()
  for (const port of [one, two]) t.is(port.rxQueues[0]!.rxBurst(burst), 0)
  t.deepEqual([one.name, two.name, one.driver], ['net_null7', 'net_null8', 'net_null'])
  const { name, driver, args } = parseDevargs('net_vhost0,iface=/tmp/s,queues=1,queues=2')
  t.deepEqual(
    { name, driver, args },
    { name: 'net_vhost0', driver: 'net_vhost', args: { iface: '/tmp/s', queues: '2' } },
  )
  t.true(drivers.net_virtio_user.some(({ key, help }) => key === 'queue_size' && help.includes('32768')))
})

test('ports have the smallest free number and name', async (t) => {
  using pool = new Mempool(options)
  const [a, b] = [
    await Port.open({ driver: 'net_ring' }, { mempool: pool }),
    await Port.open('net_null5', { mempool: pool }),
  ]
  t.deepEqual([a.id, b.id, a.name], [0, 1, 'net_ring0'])
  await a.close()
  await using c = await Port.open({ driver: 'net_null' }, { mempool: pool })
  t.deepEqual([c.id, c.name], [0, 'net_null0'])
  await b.close()
})

test('for await yields bursts, counts what is left in them, and ends with the port', async (t) => {
  using pool = new Mempool(options)
  const port = await Port.open({ driver: 'net_ring' }, { mempool: pool })
  using burst = pool.createBurst()
  let turns = 0
  for (let i = 0; i < 10; i++) burst.push(packet(60))
  port.txQueues[0]!.txBurst(burst)
  // Sleeps when there is nothing; wakes when a packet comes.
  const timer = setTimeout(() => {
    burst.push(packet(61))
    port.txQueues[0]!.txBurst(burst)
  }, 50)
  const lengths: number[] = []
  for await (const received of port.rxQueues[0]!) {
    turns++
    lengths.push(received.length)
    // The first burst is left as it is, the second one freed.
    if (turns === 2) {
      t.is(received.len[0], 61)
      received.free()
      setTimeout(() => void port.close(), 20)
    }
  }
  clearTimeout(timer)
  t.deepEqual(lengths, [10, 1])
  t.deepEqual(port.stats().drops, { rx_unhandled: 10 })
  t.is(pool.freeCount, pool.count)
})

test('an AbortSignal ends the iteration, asleep or polling, and timers run meanwhile', async (t) => {
  using pool = new Mempool(options)
  await using idle = await Port.open({ driver: 'net_ring' }, { mempool: pool })
  await using busy = await Port.open({ driver: 'net_null' }, { mempool: pool })
  for await (const _ of idle.rxQueues[0]!.bursts({ signal: AbortSignal.timeout(30) }))
    t.fail('nothing was sent')
  for await (const _ of idle.rxQueues[0]!.bursts({ signal: AbortSignal.timeout(30), idle: 'poll' }))
    t.fail('nothing was sent')
  let [bursts, ticks] = [0, 0]
  const timer = setInterval(() => ticks++, 1)
  for await (const burst of busy.rxQueues[0]!.bursts({ signal: AbortSignal.timeout(60), size: 64 })) {
    bursts++
    t.is(burst.capacity, 64)
    burst.free()
  }
  clearInterval(timer)
  t.true(bursts > 0)
  t.true(ticks > 0, 'a timer ran while packets came without end')
  t.is(pool.freeCount, pool.count)
})

test('for await ends by itself when a capture is through, sleeping or polling, with every packet', async (t) => {
  using folder = scratch()
  using pool = new Mempool(options)
  const file = folder.path('all.pcap')
  await using written = await Port.open({ driver: 'net_pcap', txPcap: file }, { mempool: pool, rxQueues: 0 })
  using burst = pool.createBurst()
  for (let i = 0; i < 20; i++) burst.push(packet(60 + i))
  t.is(written.txQueues[0]!.txBurst(burst), 20)
  await written.close()
  for (const idle of ['sleep', 'poll'] as const) {
    const device = { driver: 'net_pcap', rxPcap: file } as const
    await using port = await Port.open(device, { mempool: pool, txQueues: 0 })
    const lengths: number[] = []
    for await (const received of port.rxQueues[0]!.bursts({ idle, size: 8 })) {
      lengths.push(...received.len.subarray(0, received.length))
      received.free()
    }
    t.deepEqual(
      lengths,
      Array.from({ length: 20 }, (_, i) => 60 + i),
      idle,
    )
    t.true(port.link.up, 'nobody closed it')
    t.deepEqual(port.stats().drops, {})
  }
  t.is(pool.freeCount, pool.count)
})

test('a native lcore forwards, stops at its limit and gives the queues back', async (t) => {
  using pool = new Mempool(options)
  await using port = await Port.open({ driver: 'net_ring' }, { mempool: pool })
  const [rx, tx] = [port.rxQueues[0]!, port.txQueues[0]!]
  await using lcore = new Lcore({ name: 'test' })
  lcore.start('txonly', [{ tx, src: '02:00:00:00:00:07', dst: '02:00:00:00:00:09' }], {
    limit: 100,
    txpkts: [60],
  })
  t.deepEqual(await lcore.wait(), {
    streams: [{ rx: 0, tx: 100, dropped: 0, badIp: 0, badL4: 0, cycles: 0 }],
  })
  t.false(lcore.running)
  using burst = pool.createBurst(128)
  t.is(rx.rxBurst(burst), 100)
  t.is(Buffer.from(burst.bytes(0).subarray(0, 12)).toString('hex'), '020000000009020000000007')
  t.is(tx.txBurst(burst), 100)
  rx.release()
  tx.release()
  lcore.start('io', [{ rx, tx }])
  t.true(lcore.running)
  const { streams } = await lcore.stop()
  t.is(streams[0]!.rx, streams[0]!.tx)
  t.is(rx.rxBurst(burst), 100, 'the queue is this thread’s again')
  burst.free()
})

test('events are told, and waiting for a link has an end', async (t) => {
  using pool = new Mempool(options)
  const port = await Port.open({ driver: 'net_ring' }, { mempool: pool })
  await port.waitForLink()
  await t.throwsAsync(port.waitForLink(false, { timeout: 20 }), { code: 'ERR_VRING_TIMEOUT' })
  const signal = AbortSignal.abort(new Error('enough'))
  await t.throwsAsync(port.waitForLink(false, { signal }), { message: 'enough' })
  const events: string[] = []
  port.on('link', ({ up }) => events.push(up ? 'up' : 'down')).on('close', () => events.push('close'))
  const down = port.waitForLink(false)
  await port.close()
  await down
  await port.close()
  t.deepEqual(events.slice(-2), ['down', 'close'])
  t.false(port.link.up)
})
