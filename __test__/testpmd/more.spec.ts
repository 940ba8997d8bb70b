// Promises: commands come from files too; checksums and cuts are set as in testpmd; latency and bits a second are measured when asked for.
import { writeFileSync } from 'node:fs'
import test from 'ava'
import { needs, scratch, Testpmd } from '../rig/index.ts'

test('--cmdline-file and load run the lines of a file; a missing one is named', async (t) => {
  using folder = scratch()
  const [first, later, inner] = [folder.path('first'), folder.path('later'), folder.path('inner')]
  writeFileSync(first, 'set burst 16\n# a comment\nset fwd mac\n')
  writeFileSync(inner, 'set nbcore 1\n')
  writeFileSync(later, `set burst 8\n\nload ${inner}\nload ${later}\n`)
  await using testpmd = await Testpmd.vring({ vdevs: ['net_null0'], args: [`--cmdline-file=${first}`] })
  // The lines that are shown look like prompts; the one that waits comes last.
  const { terminal } = testpmd
  const prompted = /Read CLI commands from [^]*testpmd> $/
  await terminal.until('the prompt', 60_000, () => prompted.test(terminal.transcript) || undefined)
  t.regex(
    terminal.transcript,
    /CLI commands to be read from [^]*testpmd> set burst 16\nNumber of packets per burst set to 16\n[^]*Set mac packet forwarding mode\nRead CLI commands from /,
  )
  const silent = await testpmd.command(`load ${later}`)
  t.regex(silent, /^Number of packets per burst set to 8\nNumber of forwarding cores set to 1\n/)
  // A file that loads itself comes to an end.
  t.regex(silent, /Failed to create file based cmdline context/)
  await testpmd.command(`load_echo ${first}`)
  const shown = /testpmd> load_echo [^]*testpmd> set burst 16\n[^]*Read CLI commands from [^]*testpmd> $/
  await terminal.until('the prompt', 60_000, () => shown.test(terminal.transcript) || undefined)
  t.pass()
  const missing = await testpmd.command('load /nowhere')
  t.is(missing, 'Failed to create file based cmdline context: /nowhere\n')
  t.is(await testpmd.quit(), 0)
})

test('a command file that quits ends the program', async (t) => {
  using folder = scratch()
  const file = folder.path('commands')
  writeFileSync(file, 'start\nquit\nset burst 3\n')
  await t.throwsAsync(Testpmd.vring({ vdevs: ['net_null0'], args: [`--cmdline-file-noecho=${file}`] }), {
    message: /ended with code 0 before the first prompt[^]*Accumulated forward statistics[^]*Bye\.\.\./,
  })
})

test('--latencystats and --bitrate-stats: what is shown fits what was forwarded', async (t) => {
  const args = ['--latencystats=0', '--bitrate-stats=0']
  await using testpmd = await Testpmd.vring({ vdevs: ['net_ring0'], args })
  t.regex(await testpmd.command('show latencystats'), /No packet has been forwarded/)
  await testpmd.command('start tx_first 4')
  await testpmd.waitForStats('packets go round', (stats) => stats.rxPackets > 10_000)
  const bits = async (): Promise<number> =>
    Number(/mean_bits_in: (\d+)/.exec(await testpmd.command('show bitrate'))![1])
  while ((await bits()) === 0);
  t.true((await bits()) > 0)
  const { total } = await testpmd.stop()
  const shown = new Map(
    [...(await testpmd.command('show latencystats')).matchAll(/^(\S+): (\d+)$/gm)].map(([, name, value]) => [
      name!,
      Number(value),
    ]),
  )
  // What was sent ahead was not received here.
  t.is(shown.get('samples'), total.rxPackets)
  const order = ['min_latency_ns', 'p50_latency_ns', 'p90_latency_ns', 'p99_latency_ns', 'p99.9_latency_ns']
  const values = [...order, 'max_latency_ns'].map((name) => shown.get(name)!)
  t.deepEqual(
    values,
    values.toSorted((a, b) => a - b),
  )
  t.true(shown.get('avg_latency_ns')! >= values[0]!)
  await using other = await Testpmd.vring({ vdevs: ['net_null0'] })
  t.regex(await other.command('show bitrate'), /start with --bitrate-stats/)
  t.regex(await other.command('show latencystats'), /start with --latencystats/)
})

needs(test, 'dpdk')(
  'csum, tso and gso: the words of dpdk-testpmd, with and without a stopped port',
  async (t) => {
    const commands = ['csum show 0', 'csum set tcp hw 0', 'csum set ip hw 9', 'tso set 800 0', 'tso show 0']
    commands.push(
      'set gso segsz 10',
      'set gso segsz 1000',
      'set port 7 gso on',
      'show port 0 gso',
      'port stop 0',
    )
    commands.push('csum set udp sw 0', 'csum set ip hw 0', 'csum set sctp hw 0', 'csum show 0', 'tso set 0 0')
    await using theirs = await Testpmd.dpdk({ vdevs: ['net_null0'] })
    await using ours = await Testpmd.vring({ vdevs: ['net_null0'] })
    for (const command of commands) t.is(await ours.command(command), await theirs.command(command), command)
    // Here software does what a device does not: nothing is refused for want of one.
    t.regex(await ours.command('csum set tcp hw 0'), /TCP checksum offload is hw\n/)
    t.is(await ours.command('tso set 800 0'), 'TSO segment size for non-tunneled packets is 800\n')
    await ours.command('set port 0 gso on')
    t.regex(await ours.command('show port 0 gso'), /^Max GSO'd packet size: 1000B\n/)
  },
)
