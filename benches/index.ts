/** `npm run bench [-- micro | dpdk [options]]`: the micro-benchmarks, the comparison with `dpdk-testpmd`, or both. */
import { dpdk } from './dpdk.ts'
import { micro } from './micro.ts'

const [which, ...rest] = process.argv.slice(2)
if (which === undefined || which === 'micro') await micro()
if (which === undefined || which === 'dpdk') await dpdk(rest)
if (which !== undefined && which !== 'micro' && which !== 'dpdk') {
  console.error(`expected micro, dpdk or nothing, got '${which}'`)
  process.exitCode = 2
}
