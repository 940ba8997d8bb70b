// Promise: `vring doctor` says of each port whether it can be opened here, by this user, and what it names as a cure is one.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Mempool, Port, VringError } from '../ts/index.ts'
import { needs, unprivileged } from './rig/index.ts'

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))

interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
  readonly fix: readonly string[]
}

interface Report {
  readonly machine: {
    readonly user: { readonly id: number }
    readonly capabilities: Readonly<Record<string, boolean>>
    readonly cpus: { readonly allowed: readonly number[] }
    readonly hugepages: readonly { readonly size: number; readonly total: number; readonly free: number }[]
  }
  readonly checks: readonly Check[]
  readonly ports: readonly {
    readonly id: string
    readonly state: 'ok' | 'part' | 'no'
    readonly missing: readonly string[]
    readonly fix: readonly string[]
  }[]
}

function doctor(names: readonly string[], wrapper: readonly string[] = []) {
  const [command, ...args] = [...wrapper, process.execPath, CLI, 'doctor', ...names]
  const { status, stdout, stderr } = spawnSync(command!, args, { encoding: 'utf8' })
  return { status, stdout, stderr }
}

const report = (wrapper: readonly string[] = []): Report =>
  JSON.parse(doctor(['--json'], wrapper).stdout) as Report
const check = ({ checks }: Report, name: string): Check => checks.find((one) => one.name === name)!
const way = ({ ports }: Report, id: string) => ports.find((one) => one.id === id)!

async function opens(device: string): Promise<boolean> {
  using mempool = new Mempool({ count: 1024, pages: '4K' })
  try {
    await using port = await Port.open(device, { mempool })
    return port.driver.length > 0
  } catch (error) {
    if (error instanceof VringError) return false
    throw error
  }
}

test('what it says of ports is what happens when they are opened', async (t) => {
  const found = report()
  t.is(way(found, 'net_tap').state === 'ok', await opens('net_tap9,iface=vringdoctor'))
  t.is(way(found, 'net_af_packet').state === 'ok', await opens('net_af_packet9,iface=lo'))
  t.is(
    way(found, 'vhost-net').state === 'ok',
    await opens('net_virtio_user9,path=/dev/vhost-net,iface=vringd'),
  )
  for (const driver of ['net_vhost', 'vhost-user', 'net_null', 'net_ring', 'net_pcap']) {
    t.is(way(found, driver).state, 'ok')
  }
})

test('it counts what the kernel counts', (t) => {
  const { machine, checks } = report()
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const total = (field: string): number => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(meminfo)?.[1] ?? 0)
  const size = total('Hugepagesize')
  const pages = machine.hugepages.filter((pool) => pool.size === size)
  t.is(
    pages.reduce((sum, pool) => sum + pool.total, 0),
    total('HugePages_Total'),
  )
  t.is(machine.user.id, process.getuid!())
  const cpus = execFileSync('nproc', { encoding: 'utf8' })
  t.is(machine.cpus.allowed.length, Number(cpus))
  for (const { ok, fix, name } of checks) t.is(fix.length === 0, ok, name)
})

test('people get a table; the exit status answers for the ports that were asked for', (t) => {
  const all = doctor([])
  t.is(all.status, 0)
  t.regex(all.stdout, /^This machine\n {2}ok {4}shared memory/m)
  t.regex(all.stdout, /^Ports\n {2}ok {4}net_vhost/m)
  t.is(doctor(['net_vhost', 'net_null']).status, 0)
  const vhost = doctor(['vhost-net', 'net_vhost'])
  t.is(vhost.status, existsSync('/dev/vhost-net') ? 0 : 1)
  t.notRegex(vhost.stdout, /net_pcap/)
  const unknown = doctor(['net_tun'])
  t.is(unknown.status, 1)
  t.regex(unknown.stderr, /expected any of net_vhost, .*got 'net_tun'/)
})

needs(test, 'unprivileged')(
  'a user without privileges is told which capability is missing, and how to get it',
  (t) => {
    const nobody = report(unprivileged.wrapper)
    t.deepEqual(Object.values(nobody.machine.capabilities).filter(Boolean), [])
    t.is(way(nobody, 'net_vhost').state, 'ok')
    t.is(way(nobody, 'net_af_packet').state, 'no')
    t.deepEqual(way(nobody, 'net_af_packet').missing, ['packet-socket'])
    t.regex(check(nobody, 'packet-socket').detail, /AF_PACKET.*EPERM/)
    t.regex(check(nobody, 'packet-socket').fix.join(), /cap_net_raw\+ep .*node|--cap-add=NET_RAW/)
    t.regex(check(nobody, 'physical-address').detail, /pagemap: EPERM/)
    t.is(doctor(['net_af_packet'], unprivileged.wrapper).status, 1)
    t.is(doctor(['net_vhost'], unprivileged.wrapper).status, 0)
  },
)

needs(test, 'unprivileged')('with the capability that was named, it works', (t) => {
  const caps = ['--inh-caps=+net_raw,+net_admin', '--ambient-caps=+net_raw,+net_admin']
  const [setpriv, ...user] = unprivileged.wrapper
  const found = report([setpriv, ...caps, ...user])
  t.true(found.machine.capabilities['CAP_NET_RAW'])
  t.is(way(found, 'net_af_packet').state, 'ok')
  t.is(check(found, 'packet-socket').fix.length, 0)
  t.false(found.machine.capabilities['CAP_SYS_ADMIN'])
})

needs(
  test,
  'unprivileged',
  'tun',
)('a tap of one’s own is what there is without CAP_NET_ADMIN', (t) => {
  // The device is everybody's on most systems; where it is not, that is the first thing that is missing.
  const { ports, checks } = report(unprivileged.wrapper)
  const tap = ports.find(({ id }) => id === 'net_tap')!
  const open = checks.find(({ name }) => name === 'tun')!.ok
  t.is(tap.state, open ? 'part' : 'no')
  t.regex(tap.fix.join('\n'), open ? /ip tuntap add tap0 mode tap user/ : /\/dev\/net\/tun/)
})
