// A virtual machine that is given a port's interface as a descriptor, and pings from and to beyond the port.
//   … handoff.ts PEER_NAMESPACE       in a namespace with a veth p0, whose other end is 10.0.0.1 in the other one
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Kni, Mempool, Port } from 'vring'
import { Guest } from '../guest/rig/index.ts'

const run = promisify(execFile)
const [peer] = process.argv.slice(2)
const alive = setInterval(() => {}, 1000)
{
  using mempool = new Mempool()
  await using port = await Port.open('net_af_packet0,iface=p0', { mempool, mtu: 1500 })
  await port.waitForLink()
  const requests: object[] = []
  await using kni = await Kni.open(port, { vmm: true, onRequest: (request) => void requests.push(request) })
  console.log(`the port is promiscuous for the machine: ${port.rxMode.promiscuous}`, JSON.stringify(requests))
  const vhost = kni.backend === 'vhost-net' ? 'on' : 'off'
  const mac = '02:00:00:00:00:aa' // not the port's: the machine gets all
  const net = [`tap,id=n0,fd=3,vhost=${vhost}`, `virtio-net-pci,netdev=n0,mac=${mac}`]
  const args = ['-netdev', net[0]!, '-device', net[1]!]
  await using guest = await Guest.start({ host: false, memory: 256, cpus: 1, args, fds: [kni.fd!] })
  await guest.run('modprobe virtio_net; ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up')
  kni.resetStats()
  const out = await run('nsenter', [
    '-t',
    peer!,
    '-n',
    'ping',
    '-c',
    '5',
    '-w',
    '60',
    '-s',
    '1400',
    '10.0.0.2',
  ])
  console.log(/\d+ packets transmitted.*loss/.exec(out.stdout)![0])
  console.log(/\d+ packets transmitted.*loss/.exec(await guest.run('ping -c 5 -w 60 10.0.0.1'))![0])
  const { ingress, egress } = kni.stats()
  const counted = [ingress, egress].map(({ received, sent }) => received === sent && sent >= 10)
  console.log(`both loops sent all that they received: ${counted.join(' ')}`)
  console.log(`drops: ${JSON.stringify([ingress.drops, egress.drops])}`)
  console.log(`qemu ends with ${await guest.quit()}`)
}
clearInterval(alive)
