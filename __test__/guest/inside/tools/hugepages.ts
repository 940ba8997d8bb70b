// Promise: `vring hugepages` does and shows what dpdk-hugepages.py does and shows.
import { readFileSync } from 'node:fs'
import ava, { type ExecutionContext } from 'ava'
import { needs } from '../../../rig/index.ts'
import { asNobody, type Ran, run, sh, vring } from './run.ts'

const hugepages = (...args: readonly string[]): Ran => vring('hugepages', ...args)

function shows(t: ExecutionContext): string {
  const ours = hugepages('--show')
  t.deepEqual(ours, run('dpdk-hugepages.py', '--show'))
  return ours.stdout
}

const total = (): number =>
  Number(/HugePages_Total:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1])

export function declareHugepages(): void {
  const test = needs(ava, 'devbind')
  test('pages are reserved, shown, mounted and given back, as by dpdk-hugepages', (t) => {
    sh('umount -a -t hugetlbfs || true')
    t.is(hugepages('--setup', '64M', '-d', '/run/huge').status, 0)
    t.is(total(), 32)
    t.regex(shows(t), /^0 {4}32 {4}2Mb {4}64Mb$/m)
    t.regex(sh('cat /proc/mounts'), /\/run\/huge hugetlbfs .*pagesize=2M/)
    t.is(hugepages('-r', '32M', '-n', '0').status, 0)
    t.is(total(), 16)
    const { pages } = JSON.parse(hugepages('--json').stdout) as { readonly pages: readonly object[] }
    t.deepEqual(
      pages.find((pool) => 'size' in pool && pool.size === 2048),
      { node: 0, size: 2048, total: 16, free: 16 },
    )
    t.is(hugepages('--clear', '--unmount', '-d', '/run/huge').status, 0)
    t.is(total(), 0)
    t.notRegex(shows(t), /run\/huge/)
  })

  test('the doctor’s command for hugepages is one', (t) => {
    interface Report {
      readonly checks: readonly {
        readonly name: string
        readonly ok: boolean
        readonly fix: readonly string[]
      }[]
    }
    const check = () => {
      const { checks } = JSON.parse(vring('doctor', '--json').stdout) as Report
      return checks.find(({ name }) => name === 'hugepages-2M')!
    }
    const [command = ''] = check().fix
    const [program, ...args] = command.split(' ')
    t.is(program, 'vring')
    t.is(vring(...args).status, 0)
    t.true(check().ok)
    t.is(hugepages('-c').status, 0)
  })

  test('what cannot be is said, and nothing is changed before', (t) => {
    t.is(hugepages('-r', '8M').status, 0)
    t.regex(hugepages('--setup', '3M').stderr, /3072kB is not a multiple of page size 2048kB/)
    t.regex(hugepages('--setup', '1G', '-p', '4M').stderr, /Invalid page size\. Valid page sizes: .*2048kB/)
    t.regex(hugepages('-c', '-r', '8M', '-n', '7').stderr, /expected a node of 0, got 7/)
    t.regex(hugepages('--setup', 'much').stderr, /much is not a valid size/)
    t.regex(hugepages().stderr, /no action specified/)
    t.is(total(), 4)
    const much = hugepages('-r', '4G', '-p', '1G')
    t.is(much.status, 1)
    t.regex(much.stderr, /^vring hugepages: Unable to set pages \(\d+ instead of 4 in .*compact_memory/)
    const nobody = asNobody('hugepages', '-c')
    t.regex(nobody.stderr, /Permission denied: need to be root!/)
  })
}
