// Live migration of a Debian guest between two machines, each with net_vhost ports of ours, while it receives and sends.
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import test from 'ava'
import { ArpView, EthernetView, EtherType, Mempool, Port } from 'vring'
import { needs, scratch } from '../rig/index.ts'
import { Bridge } from './bridge.ts'
import { get, TapEnd } from './ends.ts'
import { Guest, type Job, vhostUserNic } from './rig/index.ts'

/** One that announces itself, and one for which the back end does. */
const NICS = [{ 'disable-legacy': 'on' }, { 'disable-legacy': 'on', packed: 'on', guest_announce: 'off' }]
const RARP = 0x8035

interface Status {
  readonly status: string
  readonly 'error-desc'?: string
}

/** Moves the guest; it runs in `to` when this resolves. */
async function migrate(from: Guest, to: Guest, socket: string): Promise<void> {
  const uri = `unix:${socket}`
  await to.qmp('migrate-incoming', { uri })
  await from.qmp('migrate-set-parameters', { 'max-bandwidth': 2 ** 30, 'downtime-limit': 2000 })
  await from.qmp('migrate', { uri })
  for (;;) {
    const { status, 'error-desc': error } = (await from.qmp('query-migrate')) as Status
    if (status === 'completed') break
    if (status === 'failed') throw new Error(`the migration failed: ${error}\n${to.machine.output}`)
    await pause(100)
  }
  to.adopt(from)
  while (((await to.qmp('query-status')) as Status).status !== 'running') await pause(50)
}

/** Digests that it has printed. */
const digests = (job: Job): readonly string[] => job.output.split('\n').filter(Boolean)

needs(
  test,
  'guest',
  'tun',
)(
  'a guest moves while it receives and sends: every file arrives whole, and it is announced where it is',
  async (t) => {
    using folder = scratch()
    using mempool = new Mempool({ count: 16384 })
    await using first = await TapEnd.open({ wire: 6, end: 2 }, mempool)
    await using second = await TapEnd.open({ wire: 7, end: 2 }, mempool)
    const taps = [first, second]
    const machine = async (name: string) => {
      const socket = (i: number): string => folder.path(`${name}${i}`)
      const open = (i: number): Promise<Port> =>
        Port.open({ driver: 'net_vhost', iface: socket(i) }, { mempool, rxOffloads: ['checksum', 'lro'] })
      const ports = [await open(0), await open(1)] as const
      const args = NICS.flatMap((device, i) =>
        vhostUserNic({ id: `n${i}`, socket: socket(i), mac: `02:00:00:00:0${6 + i}:01`, device }),
      )
      return { ports, options: { host: false, memory: 256, args, timeout: 240_000 } }
    }
    const [here, there] = [await machine('here'), await machine('there')]
    const bridges = taps.map((tap, i) => new Bridge(tap.port, here.ports[i]!, there.ports[i]!))

    await using source = await Guest.start(here.options)
    await using target = Guest.incoming(there.options)
    await source.run(`modprobe virtio_net; modprobe ipv6; mkdir /www; head -c 1000001 /dev/urandom >/www/data
      for i in 0 1; do ip addr add 10.$((i + 6)).0.1/24 dev eth$i; ip link set eth$i up; done
      httpd -p 80 -h /www </dev/null >/dev/null 2>&1`)
    const digest = await source.run('md5sum </www/data')
    const receives = taps.map(({ ip }) =>
      source.start(
        `while :; do printf 'GET /data HTTP/1.0\\r\\n\\r\\n' | nc ${ip} 80 | tail -c 1000001 | md5sum; done`,
      ),
    )
    const sent = [0, 0]
    const stop = new AbortController()
    const sends = taps.map(async (tap, i) => {
      for (; !stop.signal.aborted; sent[i]! += 1) await get(tap, `10.${i + 6}.0.1`, digest)
    })
    const all = async (what: string, more: number): Promise<void> => {
      const before = [...sent]
      for (const job of receives) {
        const count = digests(job).length + more
        await job.until(new RegExp(`^(.*\\n){${count}}`), 240_000)
      }
      while (!sent.every((count, i) => count >= before[i]! + more)) await pause(50)
      t.log(
        what,
        sent,
        receives.map((job) => digests(job).length),
      )
    }
    await all('before', 1)

    const announced = [new Set<string>(), new Set<string>()]
    bridges.forEach((bridge, i) => {
      const [ethernet, arp] = [new EthernetView(mempool), new ArpView(mempool)]
      bridge.watch = (from, burst) => {
        if (from !== there.ports[i]) return
        for (const addr of burst.addr.subarray(0, burst.length)) {
          const { etherType } = ethernet.at(addr)
          if (etherType === RARP) announced[i]!.add(`RARP from ${ethernet.srcText}`)
          if (etherType !== EtherType.Arp) continue
          arp.at(ethernet.end)
          if (arp.senderIp === arp.targetIp) announced[i]!.add(`ARP from ${ethernet.srcText}`)
        }
      }
    })
    const rarp = once(there.ports[1], 'rarp')
    await migrate(source, target, folder.path('migration'))
    t.deepEqual(await rarp, ['02:00:00:00:07:01'])
    await all('after', 3)
    stop.abort()
    await Promise.all(sends)
    t.deepEqual([...announced[0]!], ['ARP from 02:00:00:00:06:01'])
    t.deepEqual([...announced[1]!], ['RARP from 02:00:00:00:07:01'])
    receives.forEach((job, i) => t.deepEqual([...new Set(digests(job))], [taps[i]!.digest]))

    await source.machine.kill()
    await target.machine.kill()
    for (const bridge of bridges) await bridge[Symbol.asyncDispose]()
    for (const port of [...here.ports, ...there.ports]) await port.close()
    for (const { port } of taps) await port.close()
    t.is(mempool.freeCount, mempool.count)
  },
)
