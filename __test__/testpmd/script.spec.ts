// Promises: a script's module is a function or an object, anything else is refused; what it throws is told with file and
// line; the control block counts without allocating and stops a sleeping worker.
import test from 'ava'
import { describeThrown, placeOf, readExport } from '../../ts/testpmd/script/api.ts'
import { ControlBlock } from '../../ts/testpmd/script/protocol.ts'

test('a function or an object with burst is a script', (t) => {
  const burst = (): void => {}
  t.is(typeof readExport(burst, 'a.ts').burst, 'function')
  const whole = { burst, stop: burst }
  t.is(readExport(whole, 'a.ts'), whole)
  for (const bad of [undefined, null, 3, {}, { burst: 1 }]) {
    const error = t.throws(() => readExport(bad, '/tmp/a.ts'), { instanceOf: TypeError })
    t.regex(error.message, /^\/tmp\/a\.ts: expected the default export to be a function/)
  }
})

test('an error is told with the place in the script where it was thrown', (t) => {
  const error = new RangeError('no such packet')
  error.stack =
    'RangeError: no such packet\n    at Burst.at (/x/node_modules/y.js:1:2)\n    at f (file:///tmp/a.ts:7:22)'
  t.is(describeThrown(error, '/tmp/a.ts'), '/tmp/a.ts:7:22: RangeError: no such packet')
  t.is(placeOf(new Error('x', {}), '/tmp/a.ts').includes('script.spec.ts'), true)
  t.is(describeThrown('just text', '/tmp/a.ts'), '/tmp/a.ts: just text (not an Error)')
})

test('the control block has a flag and three counters a stream', (t) => {
  const block = ControlBlock.forStreams(2)
  const other = new ControlBlock(block.buffer)
  t.false(other.stopping)
  other.counters.set([1, 2, 3], ControlBlock.at(1))
  t.deepEqual(block.moved(1), { rx: 1, tx: 2, dropped: 3 })
  t.deepEqual(block.moved(0), { rx: 0, tx: 0, dropped: 0 })
  block.stop()
  t.true(other.stopping)
  t.is(Atomics.wait(other.flag, 0, 0), 'not-equal')
})
