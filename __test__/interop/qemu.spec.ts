// Promise: a guest's boot ROM in QEMU drives a net_vhost port of ours: its frames arrive whole, and it may go, be reset and
// come again, in either role of the socket, without a buffer being lost.
import test, { type ExecutionContext } from 'ava'
import { Mempool, Port } from '../../ts/index.ts'
import { needs, Qemu, type QemuOptions, scratch } from '../rig/index.ts'
import { LIMIT, options, until } from './link.ts'

const MAC = '52:54:00:ab:cd:ef'
const macBytes = Buffer.from(MAC.replaceAll(':', ''), 'hex')
const BROADCAST = Buffer.alloc(6, 0xff)

/** Ones' complement sum of 16-bit words: 0xffff over a header with its right checksum in it. */
function checksum(data: Buffer): number {
  let sum = 0
  for (let i = 0; i + 1 < data.length; i += 2) sum += data.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

/** Whether a frame is this guest's DHCP discover: every layer is looked at, so that a frame with a byte missing is none. */
function isDiscover(frame: Buffer): boolean {
  if (frame.length < 14 + 20 + 8 + 240 || frame.readUInt16BE(12) !== 0x0800) return false
  const header = 4 * (frame[14]! & 15)
  const ip = frame.subarray(14, 14 + frame.readUInt16BE(16))
  const udp = ip.subarray(header)
  if (ip[9] !== 17 || udp.readUInt16BE(0) !== 68 || udp.readUInt16BE(2) !== 67) return false
  const dhcp = udp.subarray(8, udp.readUInt16BE(4))
  return (
    frame.subarray(0, 6).equals(BROADCAST) &&
    frame.subarray(6, 12).equals(macBytes) &&
    checksum(ip.subarray(0, header)) === 0xffff &&
    dhcp[0] === 1 &&
    dhcp.subarray(28, 34).equals(macBytes) &&
    dhcp.readUInt32BE(236) === 0x6382_5363 &&
    // The message type comes first: option 53, one byte, discover.
    dhcp.subarray(240, 243).equals(Buffer.from([53, 1, 1]))
  )
}

/** Receives until the guest has asked for an address. Every frame on the way is the guest's, of a size a frame can have. */
async function discover(t: ExecutionContext, port: Port): Promise<void> {
  const signal = AbortSignal.timeout(LIMIT)
  for await (const burst of port.rxQueues[0]!.bursts({ signal })) {
    const frames = Array.from({ length: burst.length }, (_, i) => Buffer.from(burst.bytes(i)))
    burst.free()
    for (const frame of frames) {
      t.true(frame.length >= 42 && frame.length <= 1514, `a frame of ${frame.length} bytes`)
      t.deepEqual(frame.subarray(6, 12), macBytes)
    }
    if (frames.some(isDiscover)) return
  }
  t.fail('the guest asked for no address')
}

/** The link's changes, in order. */
function watch(port: Port): string[] {
  const changes: string[] = []
  port.on('link', ({ up }) => changes.push(up ? 'up' : 'down'))
  return changes
}

async function life(t: ExecutionContext, qemu: Promise<Qemu>, port: Port, changes: string[]): Promise<void> {
  await using machine = await qemu
  await port.waitForLink(true, { timeout: LIMIT })
  await discover(t, port)
  const before = changes.length
  await machine.reset()
  await discover(t, port)
  // The ROM is told to stop and is started anew: that is a link that went and came.
  t.deepEqual(changes.slice(before), ['down', 'up'])
  t.is(await machine.quit(), 0)
  await port.waitForLink(false, { timeout: LIMIT })
}

for (const server of [false, true]) {
  for (const queues of [1, 2]) {
    const title = `QEMU as ${server ? 'server' : 'client'} of the socket, ${queues} queue pair${queues > 1 ? 's' : ''}`
    needs(test, 'qemu')(`${title}: boots, is reset, ends, and a second one boots`, async (t) => {
      using folder = scratch()
      const socket = folder.path('s0')
      using pool = new Mempool(options)
      const queueConfig = { mempool: pool, rxQueues: queues, txQueues: queues }
      await using port = await Port.open(
        { driver: 'net_vhost', iface: socket, client: server, queues },
        queueConfig,
      )
      const errors: Error[] = []
      port.on('error', (error) => errors.push(error))
      const changes = watch(port)
      const machine: QemuOptions = { socket, server, queues, mac: MAC }
      for (const _ of ['first', 'second']) {
        await life(t, Qemu.start(machine), port, changes)
        await until('all buffers back, with the port open', () => pool.freeCount === pool.count)
        t.false(port.link.up)
      }
      t.deepEqual(port.stats().drops, {})
      t.deepEqual(errors, [])
      await port.close()
      t.is(pool.freeCount, pool.count)
    })
  }
}
