// The programs that the tests run against. As root on Debian they are installed when they are missing; elsewhere, or
// when that does not work, the tests that need them skip with the reason. This never fails a run.
import { existsSync } from 'node:fs'
import { fetchKernel, SERIES } from './kernels.mjs'
import { run, which } from './run.mjs'

/** package, what it gives, what is skipped without it */
const PEERS = [
  { packages: ['dpdk-dev'], probe: 'dpdk-testpmd', loss: 'every test against DPDK' },
  { packages: ['dpdk'], probe: 'dpdk-devbind.py', loss: 'every test against its devbind and hugepages' },
  { packages: ['pciutils'], probe: 'lspci', loss: 'every test against dpdk-devbind, which asks it' },
  { packages: ['bsdutils'], probe: 'script', loss: 'every test that drives a program through a terminal' },
  {
    packages: ['qemu-system-x86', 'ipxe-qemu', 'seabios'],
    probe: 'qemu-system-x86_64',
    loss: 'every test against QEMU',
  },
  { packages: ['busybox-static'], probe: 'busybox', loss: 'every test in a guest' },
  { packages: ['cpio'], probe: 'cpio', loss: 'every test in a guest' },
  { packages: ['ethtool'], probe: 'ethtool', loss: "every test of a guest's own driver" },
  { packages: ['iproute2'], probe: 'ip', loss: 'tests in network namespaces' },
  { packages: ['tcpdump'], probe: 'tcpdump', loss: 'tests that let tcpdump check checksums' },
  { packages: ['tshark'], probe: 'tshark', loss: 'tests that let Wireshark read our captures' },
]

const minutes = (count) => ['timeout', String(count * 60)]
const APT = [
  'apt-get',
  '-y',
  '-o',
  'DPkg::Lock::Timeout=120',
  '-o',
  'Acquire::Retries=2',
  '-o',
  'Acquire::http::Timeout=30',
]
const extraEnv = { DEBIAN_FRONTEND: 'noninteractive' }

const absent = () => PEERS.filter(({ probe }) => !which(probe))

async function install(packages) {
  const [command, ...limit] = minutes(15)
  const apt = (...args) => run(command, [...limit, ...APT, ...args], { quiet: true, extraEnv })
  const wanted = ['install', '--no-install-recommends', ...packages]
  if ((await apt(...wanted)).code === 0) return
  await apt('update') // a fresh image has no package lists, or stale ones
  const { code, output } = await apt(...wanted)
  if (code !== 0) console.log(output.split('\n').slice(-12).join('\n'))
}

/** The kernels of the guests that tests boot. They are fetched, not installed, which needs no root. */
async function ensureKernels() {
  if (['qemu-system-x86_64', 'busybox', 'cpio'].some((tool) => which(tool) === undefined)) return
  for (const series of SERIES) {
    try {
      await fetchKernel(series)
      console.log(`found   Debian's kernel ${series}`)
    } catch (error) {
      console.log(
        `missing Debian's kernel ${series} (${error.message}): skipped is every test in a guest with it`,
      )
    }
  }
}

/** Installs what can be installed and says what is missing after that. */
export async function ensurePeers() {
  const before = absent()
  const isDebian = existsSync('/etc/debian_version') && which('apt-get') !== undefined
  if (before.length > 0 && isDebian && process.getuid() === 0) {
    const packages = before.flatMap((peer) => peer.packages)
    console.log(`installing ${packages.join(' ')}`)
    await install(packages)
  }
  for (const { probe } of PEERS.filter((peer) => !absent().includes(peer))) console.log(`found   ${probe}`)
  for (const { probe, packages, loss } of absent()) {
    console.log(`missing ${probe} (Debian: ${packages.join(' ')}): skipped is ${loss}`)
  }
  await ensureKernels()
  if (process.getuid() !== 0) console.log('not root: skipped is every test that needs root')
}
