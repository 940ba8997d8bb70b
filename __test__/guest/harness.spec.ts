// Promise: a guest boots on any machine with QEMU, does what it is told, tells what came of it, and leaves the host alone.
import { existsSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { kernelFolder, SERIES } from '../../scripts/kernels.mjs'
import { needs } from '../rig/index.ts'
import { Guest, readTap, runInside } from './rig/index.ts'

const INSIDE = new URL('inside/demo.spec.ts', import.meta.url).pathname

test('what ava says in the guest is read test by test', (t) => {
  const output = `TAP version 13
ok 1 - late # SKIP
not ok 2 - two words
  ---
    message: '1 - 2'
  ...
ok 3 - three

1..3
# tests 3`
  const [late, failed, ok, ...more] = readTap(output)
  t.deepEqual(late, { title: 'late', outcome: 'skipped', details: '' })
  t.is(failed?.outcome, 'failed')
  t.regex(failed?.details ?? '', /message: '1 - 2'/)
  t.deepEqual([ok?.title, ok?.outcome, more.length], ['three', 'passed', 0])
})

for (const series of SERIES) {
  const need = series === '6.1' ? 'guest' : 'guest-6.12'
  needs(test, need)(
    `kernel ${series}: commands, their output and status, signals, a reset, a spec`,
    async (t) => {
      await using guest = await Guest.start({ kernel: series })
      t.true(guest.release.startsWith(`${series}.`))
      t.deepEqual(await guest.attempt('echo one; echo two >&2; printf three; exit 3'), {
        status: 3,
        output: 'one\ntwo\nthree\n',
      })
      const error = await t.throwsAsync(guest.run('echo why; false'))
      t.regex(error.message, /"echo why; false" \(status 1\) failed. Its output:\nwhy/)

      const job = guest.start('while :; do echo tick; sleep 0.1; done')
      await job.until(/tick\ntick/)
      t.is(await guest.run('echo beside'), 'beside')
      job.signal()
      t.is((await job.ended()).status, 143)

      // It sees this very file, and what it writes next to it stays in the guest.
      const note = join(process.cwd(), `guest-note-${process.pid}`)
      t.is(
        await guest.run(`echo note >${note}; wc -c <${INSIDE}; cat ${note}`),
        `${statSync(INSIDE).size}\nnote`,
      )
      t.false(existsSync(note))
      rmSync(note, { force: true })

      t.regex(await guest.run('modprobe vhost_net; ls /dev/vhost-net'), /vhost-net/)
      await guest.reset()
      t.is((await guest.attempt('ls /dev/vhost-net 2>/dev/null')).output, '')

      const tests = await runInside(guest, INSIDE)
      t.deepEqual(
        tests.map(({ outcome }) => outcome),
        ['passed'],
        JSON.stringify(tests),
      )
      t.is(await guest.quit(), 0)
    },
  )
}

needs(test, 'guest')(
  'a kernel that panics, and a guest without the host, are told as they are',
  async (t) => {
    t.truthy(kernelFolder('6.1'))
    await using guest = await Guest.start({ host: false, memory: 256 })
    t.is((await guest.attempt(`ls ${process.execPath}`)).status, 1)
    const error = await t.throwsAsync(guest.run('echo c >/proc/sysrq-trigger; sleep 60'))
    t.regex(error.message, /the kernel panicked[^]*sysrq triggered crash/)
  },
)
