// Opens and closes an interface again and again: descriptors, mappings, threads, devices and buffers are as before.
//   … rounds.ts ROUNDS       in a namespace with a veth p0
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { Kni, Mempool, Port } from 'vring'

const rounds = Number(process.argv[2])
using mempool = new Mempool()
await using port = await Port.open('net_af_packet0,iface=p0', { mempool })
await port.waitForLink()

const link = (fd: string): string => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}
interface Held {
  readonly descriptors: number
  readonly mappings: number
  readonly threads: number
  readonly devices: string
  readonly buffers: number
}
/** An eventfd or epoll that an object sleeps on goes when the object is collected. */
async function held(): Promise<Held> {
  for (let i = 0; i < 3; i++) {
    await setImmediate()
    globalThis.gc!()
  }
  const fds = readdirSync('/proc/self/fd').map(link)
  return {
    descriptors: fds.filter((path) => path !== '' && !path.startsWith('/proc/')).length,
    mappings: readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => /memfd|\/dev\/|socket/.test(line)).length,
    threads: readdirSync('/proc/self/task').length,
    devices: readdirSync('/proc/sys/net/ipv4/conf').join(' '),
    buffers: mempool.freeCount,
  }
}

async function round(i: number): Promise<void> {
  const kni = await Kni.open(port, { vmm: i % 2 === 0, loopback: i % 3 === 0 })
  if (kni.fd !== undefined && !link(String(kni.fd)).startsWith('/dev/tap'))
    throw new Error(link(String(kni.fd)))
  await kni.close()
  await kni.close()
}

for (let i = 0; i < 12; i++) await round(i)
const before = await held()
for (let i = 0; i < rounds; i++) await round(i)
const after = await held()
console.log(
  JSON.stringify(before) === JSON.stringify(after) ? 'as before' : JSON.stringify({ before, after }),
)
