// Promises: both halves of the command line are read as getopt_long reads them, wrong values are refused with what is
// valid, and options that mean nothing here are accepted and said so once.
import test from 'ava'
import { parseEal } from '../../ts/testpmd/eal.ts'
import { getopt, nearest, UsageError } from '../../ts/testpmd/getopt.ts'
import { parseApp } from '../../ts/testpmd/options.ts'

const CPUS = [0, 1, 2, 3, 4, 5, 6, 7]
const eal = (...argv: string[]) => parseEal(argv, CPUS)
const app = (...argv: string[]) => parseApp(argv, { forwarding: [1, 2, 3], mainLcore: 0, ports: 2 })
const wrong = (call: () => unknown): string => {
  try {
    call()
  } catch (error) {
    if (error instanceof UsageError) return error.message
    throw error
  }
  throw new Error('it was accepted')
}

test('options take values behind = or as the next word, and abbreviations that are not ambiguous', (t) => {
  t.is(app('--burst=64').burst, 64)
  t.is(app('--burst', '64').burst, 64)
  t.is(app('--bu', '64').burst, 64)
  t.is(app('--forw=macswap').mode, 'macswap')
  t.true(app('-ia').interactive)
  t.true(app('-ia').autoStart)
  t.is(eal('-l0,1').lcores.length, 2)
  t.is(app('--burst=1', '--burst=2').burst, 2)
})

test('an exact name wins over longer ones that begin with it', (t) => {
  const specs = [
    { name: 'num', value: 'none' },
    { name: 'number', value: 'none' },
  ] as const
  t.deepEqual(getopt(specs, ['--num']), [{ name: 'num', value: undefined }])
})

test('unknown, ambiguous and incomplete options are named, with the nearest known one', (t) => {
  t.regex(
    wrong(() => eal('--vdevs', 'x')),
    /unrecognized option '--vdevs'.*'--vdev'/,
  )
  t.regex(
    wrong(() => app('--brust=3')),
    /unrecognized option '--brust'.*'--burst'/,
  )
  t.regex(
    wrong(() => app('--nb=1')),
    /'--nb' is ambiguous; possibilities: '--nb-cores' '--nb-ports'/,
  )
  t.regex(
    wrong(() => app('--burst')),
    /option '--burst' requires an argument/,
  )
  t.regex(
    wrong(() => app('--interactive=yes')),
    /'--interactive' doesn't allow an argument/,
  )
  t.regex(
    wrong(() => app('-x')),
    /invalid option -- 'x'/,
  )
  t.regex(
    wrong(() => app('bar')),
    /unexpected argument 'bar'/,
  )
  t.is(nearest('macswop', ['io', 'macswap']), 'macswap')
})

test('core lists name lcores and the CPUs they run on', (t) => {
  t.deepEqual(
    eal('-l', '3,0-1').lcores,
    [0, 1, 3].map((id) => ({ id, cpus: [id] })),
  )
  t.deepEqual(
    eal('-c', '0x5').lcores,
    [0, 2].map((id) => ({ id, cpus: [id] })),
  )
  t.deepEqual(
    eal('--lcores', '(0-1)@0').lcores,
    [0, 1].map((id) => ({ id, cpus: [0] })),
  )
  t.deepEqual(eal('--lcores=0@(0,1),5@1,7').lcores, [
    { id: 0, cpus: [0, 1] },
    { id: 5, cpus: [1] },
    { id: 7, cpus: [7] },
  ])
  t.deepEqual(
    eal('--lcores=(2,3)').lcores,
    [2, 3].map((id) => ({ id, cpus: [2, 3] })),
  )
  t.deepEqual(
    eal().lcores.map((lcore) => lcore.id),
    CPUS,
  )
})

test('the lowest lcore is the main one unless another is named', (t) => {
  t.is(eal('-l', '3,2').mainLcore, 2)
  t.is(eal('-l', '3,2', '--main-lcore', '3').mainLcore, 3)
  t.regex(
    wrong(() => eal('-l', '3,2', '--main-lcore', '4')),
    /--main-lcore 4 is not one of the lcores 2,3/,
  )
})

test('core lists that cannot be are refused', (t) => {
  t.regex(
    wrong(() => eal('-l', '0,9')),
    /lcore 9 unavailable: there is no CPU 9, use some of 0,1/,
  )
  t.regex(
    wrong(() => eal('-l', '0-x')),
    /invalid core list syntax in -l: 'x' is no number/,
  )
  t.regex(
    wrong(() => eal('-l', '')),
    /invalid core list syntax/,
  )
  t.regex(
    wrong(() => eal('--lcores', '(0,1')),
    /unbalanced/,
  )
  t.regex(
    wrong(() => eal('--lcores', '0@1@2')),
    /two '@'/,
  )
  t.regex(
    wrong(() => eal('--lcores', '0,0')),
    /lcore 0 is given twice/,
  )
  t.regex(
    wrong(() => eal('-l', '200')),
    /200 is not between 0 and 127/,
  )
  t.regex(
    wrong(() => eal('-c', 'xyz')),
    /'xyz' is not hexadecimal/,
  )
  t.regex(
    wrong(() => eal('-l', '0', '--lcores', '1')),
    /--lcores cannot stand beside -l/,
  )
})

test('devices are kept in order, and -m and --no-huge count', (t) => {
  const config = eal(
    '--vdev',
    'net_null1',
    '--vdev=net_vhost0,iface=/tmp/a',
    '-m',
    '512',
    '--no-huge',
    '--no-pci',
  )
  t.deepEqual(config.devices, ['net_null1', 'net_vhost0,iface=/tmp/a'])
  t.is(config.memory, 512)
  t.is(config.pages, '4K')
  t.is(eal().pages, 'auto')
  t.regex(
    wrong(() => eal('-m', 'x')),
    /-m: expected a number from 1 to/,
  )
})

test('EAL options without a meaning here are accepted, each said once, and silent when it is so anyway', (t) => {
  const ignored = [
    '--huge-dir',
    '/y',
    '--huge-dir=/x',
    '--huge-unlink=always',
    '--single-file-segments',
    '-n',
    '4',
  ]
  const { notes } = eal(
    ...ignored,
    '--log-level=8',
    '--iova-mode=va',
    '--legacy-mem',
    '--socket-mem=1',
    '--proc-type=auto',
  )
  t.is(notes.filter((note) => note.startsWith('EAL: --huge-dir has no effect here: ')).length, 1)
  t.is(notes.length, 8)
  t.deepEqual(eal('--no-pci', '--in-memory', '--no-huge').notes, [])
})

test('devices on the PCI bus come before virtual ones: those allowed, or all that were found and not blocked', (t) => {
  const found = ['0000:00:03.0', '0000:00:04.0']
  const devices = (...argv: string[]) => parseEal(argv, CPUS, found).devices
  t.deepEqual(devices('--vdev', 'net_null0'), [...found, 'net_null0'])
  t.deepEqual(devices('--no-pci', '--vdev', 'net_null0'), ['net_null0'])
  t.deepEqual(devices('-b', '0:3.0'), ['0000:00:04.0'])
  t.deepEqual(devices('-a', '00:05.0,legacy=1', '--vdev', 'net_null0', '-a', '00:04.0'), [
    ...['0000:00:05.0,legacy=1', '0000:00:04.0'],
    'net_null0',
  ])
})

test('EAL options that ask for what is not there are refused', (t) => {
  t.regex(
    wrong(() => eal('-a', 'net_null0')),
    /expected a PCI address like 0000:00:03.0, but 'net_null0'/,
  )
  t.regex(
    wrong(() => eal('-a', '00:03.0', '-b', '00:04.0')),
    /-a and -b cannot stand beside each other/,
  )
  t.regex(
    wrong(() => eal('--proc-type=secondary')),
    /secondary cannot be used here/,
  )
  t.regex(
    wrong(() => eal('--proc-type=third')),
    /expected primary or auto, but 'third'/,
  )
})

test("the defaults are testpmd's", (t) => {
  const options = app()
  t.like(options, {
    mode: 'io',
    burst: 32,
    rxq: 1,
    txq: 1,
    nbCores: 1,
    nbPorts: 2,
    mbufSize: 2176,
    topology: 'paired',
  })
  t.like(options, { interactive: false, flushRx: true, linkEvents: true, linkCheck: true, statsPeriod: 0 })
  t.deepEqual(options.txpkts, [64])
  t.deepEqual(
    [options.rxd, options.txd, options.maxPktLen, options.totalNumMbufs],
    [undefined, undefined, undefined, undefined],
  )
})

test('values out of range are refused with the range', (t) => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['--burst=0', /burst must be between 1 and 512/],
    ['--burst=513', /burst must be between 1 and 512/],
    ['--burst=abc', /burst must be between 1 and 512/],
    ['--nb-cores=4', /nb-cores should be > 0 and <= 3, not 4/],
    ['--nb-ports=3', /Invalid port 3: there are 2 ports/],
    ['--rxq=0', /rxq 0 invalid - must be >= 1 && <= 1024/],
    ['--txq=1025', /txq 1025 invalid/],
    ['--rxd=0', /rxd\(0\) invalid - must be > 0/],
    ['--txd=70000', /txd\(70000\) invalid/],
    ['--mbuf-size=0', /mbuf-size should be > 128 and < 65536, not 0/],
    ['--mbuf-size=70000', /mbuf-size should be/],
    ['--total-num-mbufs=10', /total-num-mbufs should be > 1024, not 10/],
    ['--max-pkt-len=10', /Invalid max-pkt-len=10 - should be >= 64/],
    ['--forward-mode=max', /Invalid max packet forwarding mode - must be: io, mac, macswap, flowgen/],
    ['--txonly-flows=257', /txonly-flows must be >= 1 and <= 256/],
    ['--flowgen-flows=0', /flows must be >= 1/],
    ['--flowgen-clones=33', /clones must be >= 0 and <= current burst \(32\)/],
    ['--tx-ip=1.2.3.4', /Invalid tx-ip: 1.2.3.4, expected source,destination/],
    ['--tx-ip=1.2.3.4,5', /Invalid destination IP address: 5/],
    ['--tx-udp=9,70000', /Invalid tx-udp: 9,70000, expected src\[,dst\], 0 to 65535/],
    ['--eth-peer=0', /Invalid eth-peer: 0, expected port,address/],
    ['--eth-peer=0,foo', /Invalid ethernet address: foo/],
    ['--noisy-lkup-memory=5000', /noisy-lkup-memory must be >= 0 and <= 4096, not 5000/],
    ['--portlist=0,2', /invalid portlist: Invalid port 2; there are 2 ports/],
    ['--portlist=0,0', /duplicated port 0 at index 0 and 1/],
    ['--coremask=1', /lcore 0 cannot be masked on/],
    ['--coremask=100', /lcore 8 not enabled/],
    ['--port-topology=ring', /port-topology ring invalid - must be: paired, chained or loop/],
    ['--stats-period=x', /Invalid stats-period value/],
    ['--txpkts=20', /bad txpkts: total packet length=20 < 42 - give up/],
    ['--txpkts=64,x', /bad txpkts: character x is not a decimal digit/],
    ['--txpkts=9000', /bad txpkts: length\[0\]=9000 > mbuf_data_size=2048 - give up/],
    ['--txpkts=64,', /bad txpkts: segment lengths/],
  ]
  for (const [option, expected] of refused)
    t.regex(
      wrong(() => app(option)),
      expected,
      option,
    )
})

test('options that exclude each other are refused', (t) => {
  t.is(
    wrong(() => app('-i', '--tx-first')),
    '--tx-first cannot be used on interactive mode.',
  )
  t.regex(
    wrong(() => app('--script=a.ts', '--forward-mode=io')),
    /--script takes the place of --forward-mode/,
  )
})

test("what was selected is printed in testpmd's words", (t) => {
  t.deepEqual(app('-i', '-a', '--forward-mode=rxonly').selected, [
    'Interactive-mode selected',
    'Auto-start selected',
    'Set rxonly packet forwarding mode',
  ])
  const first = app('--tx-first')
  t.deepEqual(first.selected, ['Ports to start sending a burst of packets first'])
  t.deepEqual(first.warnings, ['Warning: lsc_interrupt needs to be off when using tx_first. Disabling.'])
  t.false(first.linkEvents)
  t.is(app('--script=a.ts').mode, 'script')
})
