// Promise: streams go from port to port and are dealt out to lcores as testpmd does it.
import test from 'ava'
import { firstPacket } from '../../ts/testpmd/first.ts'
import { peerOf, planCores, planStreams } from '../../ts/testpmd/topology.ts'

const peers = (ports: number, topology: 'paired' | 'chained' | 'loop'): number[] =>
  Array.from({ length: ports }, (_, i) => peerOf(i, ports, topology))

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

test('ports are paired, chained or looped; the last of an odd number is paired with itself', (t) => {
  t.deepEqual(peers(5, 'paired'), [1, 0, 3, 2, 4])
  t.deepEqual(peers(3, 'chained'), [1, 2, 0])
  t.deepEqual(peers(3, 'loop'), [0, 1, 2])
  t.deepEqual(peers(1, 'chained'), [0])
})

test('every receive queue is in one stream, and every transmit queue is the target of one', (t) => {
  for (const topology of ['paired', 'chained', 'loop'] as const) {
    for (const [ports, queues] of [
      [1, 1],
      [2, 2],
      [5, 3],
    ] as const) {
      const streams = planStreams(numbers(ports), queues, topology)
      t.is(new Set(streams.map((one) => `${one.rxPort}/${one.rxQueue}`)).size, ports * queues)
      t.is(new Set(streams.map((one) => `${one.txPort}/${one.txQueue}`)).size, ports * queues)
    }
  }
})

test('streams are dealt out evenly, the last lcores take what is left over', (t) => {
  const counts = (streams: number, lcores: number, cores: number): number[] =>
    planCores(
      planStreams(numbers(streams), 1, 'loop'),
      Array.from({ length: lcores }, (_, i) => i + 1),
      cores,
    ).map((plan) => plan.streams.length)
  t.deepEqual(counts(5, 7, 4), [1, 1, 1, 2])
  t.deepEqual(counts(5, 7, 3), [1, 2, 2])
  t.deepEqual(counts(2, 7, 7), [1, 1])
  t.deepEqual(counts(4, 1, 3), [4])
  t.deepEqual(counts(0, 1, 1), [])
})

test('the packet of tx_first before a script is a valid UDP packet of the asked length', (t) => {
  const packet = firstPacket('02:00:00:00:00:0a', '02:00:00:00:00:01', 64)
  t.is(packet.length, 64)
  t.deepEqual([...packet.subarray(0, 14)], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 10, 8, 0])
  const view = new DataView(packet.buffer)
  let sum = 0
  for (let i = 14; i < 34; i += 2) sum += view.getUint16(i)
  t.is((sum & 0xffff) + (sum >>> 16), 0xffff)
  t.is(view.getUint16(16), 50)
  t.is(view.getUint16(38), 30)
})
