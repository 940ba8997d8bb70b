// Promises: `vring testpmd` starts or says why it cannot, ends cleanly whatever ends it, with dpdk-testpmd's exit status,
// leaves no socket behind, and runs a typed script in the place of an engine.
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { allowedCpus, scratch, Terminal, Testpmd } from '../rig/index.ts'

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))
const SCRIPTS = fileURLToPath(new URL('scripts/', import.meta.url))
const EAL = ['--lcores', '(0-1)@0', '--no-huge', '-m', '256']
const LIMIT = 30_000

function vring(...argv: readonly string[]): Terminal {
  return new Terminal('vring', [process.execPath, CLI, ...argv])
}

const testpmd = (eal: readonly string[], app: readonly string[]): Terminal =>
  vring('testpmd', ...EAL, ...eal, '--', '--total-num-mbufs=4096', ...app)

const says = (terminal: Terminal, text: string): Promise<true> =>
  terminal.until(`"${text}"`, LIMIT, () => terminal.transcript.includes(text) || undefined)

for (const [name, end] of [
  ['SIGINT', (terminal: Terminal) => terminal.signal('SIGINT')],
  ['SIGTERM', (terminal: Terminal) => terminal.signal('SIGTERM')],
  ['the end of its input', (terminal: Terminal) => terminal.write('\x04')],
  ['quit', (terminal: Terminal) => terminal.write('quit\n')],
] as const) {
  test(`${name} ends forwarding with its statistics, and the socket is removed`, async (t) => {
    using folder = scratch()
    const iface = folder.path('s0')
    await using terminal = testpmd(['--vdev', `net_vhost0,iface=${iface}`], ['-i', '--auto-start'])
    await says(terminal, 'testpmd> ')
    t.true(existsSync(iface))
    end(terminal)
    t.is(await terminal.exited, 0)
    t.regex(
      terminal.transcript,
      /Telling cores to stop\.\.\.\n[^]*Accumulated forward statistics[^]*Done\.\n/,
    )
    t.regex(
      terminal.transcript,
      /\nStopping port 0\.\.\.\n[^]*\nShutting down port 0\.\.\.\n[^]*Port 0 is closed\nDone\n\nBye\.\.\.\n/,
    )
    t.false(existsSync(iface))
  })
}

test('without a prompt it forwards at once, and Enter ends it', async (t) => {
  await using terminal = testpmd(['--vdev', 'net_ring0'], ['--tx-first'])
  await says(terminal, 'Press enter to exit')
  terminal.write('\n')
  t.is(await terminal.exited, 0)
  t.regex(
    terminal.transcript,
    /Port 0 Link up at .*\nDone\nNo commandline core given, start packet forwarding\n/,
  )
})

test('--stats-period shows statistics until a signal', async (t) => {
  await using terminal = testpmd(['--vdev', 'net_null0'], ['--stats-period=1'])
  await terminal.until(
    'two reports',
    LIMIT,
    () => terminal.transcript.split('Port statistics ====').length > 2 || undefined,
  )
  terminal.signal('SIGINT')
  t.is(await terminal.exited, 0)
  t.notRegex(terminal.transcript, /Press enter to exit/)
})

test('what cannot start says why, with status 1', async (t) => {
  using folder = scratch()
  const cases: readonly (readonly [readonly string[], readonly string[], RegExp])[] = [
    [['--vdev', 'net_vhost0,ifac=/tmp/x'], [], /iface/],
    [['--vdev', 'net_foo0'], [], /net_foo/],
    [['--vdev', `net_vhost0,iface=${folder.path('missing/s0')}`], [], /missing/],
    [['--vdev', 'net_null0'], ['--total-num-mbufs=1000000'], /-m 2\d{3} or more/],
    [['--vdev', 'net_null0'], ['--script', folder.path('none.ts')], /no such file/],
    [
      ['--vdev', 'net_null0'],
      ['--script', `${SCRIPTS}nothing.ts`],
      /nothing\.ts: expected the default export/,
    ],
    [['--vdevs', 'net_null0'], [], /nearest known option is '--vdev'/],
    [['-l', '0'], [], /--lcores|-l/],
  ]
  for (const [eal, app, expected] of cases) {
    await using terminal = testpmd(eal, ['-i', ...app])
    t.is(await terminal.exited, 1, terminal.transcript)
    t.regex(terminal.transcript, /EAL: Error - exiting with code: 1\n {2}Cause: /)
    t.regex(terminal.transcript, expected)
  }
})

test('one lcore alone cannot forward', async (t) => {
  await using terminal = vring('testpmd', '-l', '0', '--vdev', 'net_null0', '--', '-i')
  t.is(await terminal.exited, 1)
  t.regex(terminal.transcript, /Cause: No cores defined for forwarding\nCheck the core mask argument\n/)
})

test('a script forwards what an engine would, and the prompt answers meanwhile', async (t) => {
  const options = { vdevs: ['net_ring0'], mbufs: 4096, args: ['--script', `${SCRIPTS}swap.ts`] }
  await using testpmd = await Testpmd.vring(options)
  t.regex(
    await testpmd.command('start tx_first 2'),
    /script packet forwarding - ports=1 - cores=1 - streams=1/,
  )
  const shown = await testpmd.waitForStats('packets go round', (stats) => stats.rxPackets > 1000)
  t.is(shown.txErrors, 0)
  const { total } = await testpmd.stop()
  t.is(total.txDropped, 0)
  // What is in the ring is what was sent first: the loop loses nothing.
  t.is(total.txPackets, total.rxPackets + 64)
  t.regex(await testpmd.command('set fwd macswap'), /Set macswap packet forwarding mode/)
  t.regex(await testpmd.command('start'), /macswap packet forwarding/)
  await testpmd.stop()
  t.regex(await testpmd.command('set fwd script'), /Set script packet forwarding mode/)
  t.regex(await testpmd.command('start'), /script packet forwarding/)
  await testpmd.stop()
  t.is(await testpmd.quit(), 0)
})

test('a script that throws is named with file and line, and the statistics still print', async (t) => {
  const options = { vdevs: ['net_null0'], mbufs: 4096, args: ['--script', `${SCRIPTS}throws.ts`] }
  await using testpmd = await Testpmd.vring(options)
  await testpmd.command('start')
  await says(testpmd.terminal, 'forwarding stopped on RX P=0/Q=0 -> TX P=0/Q=0')
  t.regex(testpmd.terminal.transcript, /setup of port 0 on lcore 1/)
  t.regex(testpmd.terminal.transcript, /script: \/.*throws\.ts:11:\d+: RangeError: the third burst/)
  const { total } = await testpmd.stop()
  t.is(total.txPackets, 64)
  t.is(total.txDropped, 32)
  t.is(await testpmd.quit(), 0)
})

test('a script runs on the processor of its lcore, and the prompt where it was', async (t) => {
  const allowed = (status: string): string => /^Cpus_allowed_list:\s+(\S+)$/m.exec(status)![1]!
  const cpu = allowedCpus().at(-1)!
  const options = {
    vdevs: ['net_null0'],
    mbufs: 4096,
    cpus: [cpu],
    args: ['--script', `${SCRIPTS}where.ts`],
  }
  await using testpmd = await Testpmd.vring(options)
  await testpmd.command('start')
  await says(testpmd.terminal, 'runs in thread')
  const thread = /runs in thread (\d+)/.exec(testpmd.terminal.transcript)![1]!
  const process = testpmd.terminal.pid!
  t.is(allowed(readFileSync(`/proc/${process}/task/${thread}/status`, 'utf8')), String(cpu))
  t.is(
    allowed(readFileSync(`/proc/${process}/task/${process}/status`, 'utf8')),
    allowed(readFileSync('/proc/self/status', 'utf8')),
  )
  await testpmd.stop()
  t.is(await testpmd.quit(), 0)
})

test('vring knows its version, its commands, and what is wrong', async (t) => {
  const run = async (...argv: readonly string[]): Promise<readonly [number, string]> => {
    await using terminal = vring(...argv)
    return [await terminal.exited, terminal.transcript]
  }
  const [code, text] = await run('--version')
  t.deepEqual([code, /\d+\.\d+\.\d+/.test(text)], [0, true])
  t.regex((await run('--help'))[1], /testpmd[^]*demo/)
  t.is((await run('nonsense'))[0], 1)
  t.regex((await run('testpmd', '--help'))[1], /EAL options:[^]*testpmd options:/)
})
