/** `npm run bench [-- micro | dpdk | paths | vhost-net [options]]`: the micro-benchmarks, the comparisons with `dpdk-testpmd`, or all. */
import { dpdk } from './dpdk.ts'
import { micro } from './micro.ts'
import { paths } from './paths.ts'
import { vhostNet } from './vhost-net.ts'

const [which, ...rest] = process.argv.slice(2)
const all = { micro, dpdk: () => dpdk(rest), paths: () => paths(rest), 'vhost-net': () => vhostNet(rest) }
if (which === undefined) for (const run of Object.values(all)) await run()
else if (Object.hasOwn(all, which)) await all[which as keyof typeof all]()
else {
  console.error(`expected ${Object.keys(all).join(', ')} or nothing, got '${which}'`)
  process.exitCode = 2
}
