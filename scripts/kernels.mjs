// Debian kernels for the guests that tests boot: fetched with apt into the user's cache, nothing is installed and the
// machine's own apt configuration is only read. A cached kernel is its vmlinuz, the few modules that a guest of ours
// needs, and their modules.dep.
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { run, which } from './run.mjs'

/** Series and the Debian suite that its kernel is the default of. 6.12 has vDPA and VDUSE, which 6.1 has not. */
const SUITES = { 6.1: 'bookworm', 6.12: 'bookworm-backports' }

/** What a guest may load; what these need in turn comes from modules.dep. Names that a kernel has not are left out. */
const MODULES = new Set([
  ...['virtio_pci', 'virtio_console', 'virtio_net', '9p', '9pnet_virtio', 'overlay', 'af_packet', 'ipv6'],
  ...[
    'tun',
    'tap',
    'vhost_net',
    'veth',
    'bridge',
    'macvlan',
    'macvtap',
    '8021q',
    'dummy',
    'sch_ingress',
    'pktgen',
  ],
  ...['uio', 'uio_pci_generic', 'vfio', 'vfio_pci', 'vfio_iommu_type1', 'virtio_iommu'],
  ...['vdpa', 'vdpa_sim', 'vdpa_sim_net', 'vduse', 'vhost_vdpa', 'virtio_vdpa', 'vp_vdpa'],
])

/** Changes whenever what is kept of a kernel does, so that an older cache is not taken for a whole one. */
const EDITION = createHash('sha256')
  .update([...MODULES].join())
  .digest('hex')
  .slice(0, 8)

export const SERIES = Object.keys(SUITES).toSorted((a, b) => Number(a.slice(2)) - Number(b.slice(2)))

const cache = () => join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'vring', 'kernels')

/** The folder of a fetched kernel (`vmlinuz`, `lib/modules/VERSION`), or undefined. */
export function kernelFolder(series) {
  const folder = join(cache(), `${series}-${EDITION}`)
  return fs.existsSync(join(folder, 'vmlinuz')) ? folder : undefined
}

/** Where this machine gets Debian from, so that a mirror is honoured. */
async function mirror() {
  const wanted = ['--format', '$(REPO_URI)', 'Created-By: Packages', 'Component: main', 'Origin: Debian']
  const { output } = await run('apt-get', ['indextargets', ...wanted], { quiet: true })
  const found = output.split('\n').find((line) => /\/debian\/?$/.test(line))
  if (found === undefined) throw new Error("apt knows no mirror of Debian's packages here")
  return found
}

/** apt with a sources file and a state of its own in `folder`. It needs no root. */
async function privateApt(folder, suite) {
  fs.mkdirSync(join(folder, 'lists/partial'), { recursive: true })
  fs.mkdirSync(join(folder, 'archives/partial'), { recursive: true })
  const source = [
    'Types: deb',
    `URIs: ${await mirror()}`,
    `Suites: ${suite}`,
    'Components: main',
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg',
  ]
  fs.writeFileSync(join(folder, 'debian.sources'), `${source.join('\n')}\n`)
  const settings = {
    'Dir::State': folder,
    'Dir::State::status': '/dev/null',
    'Dir::Cache': folder,
    'Dir::Etc::SourceList': join(folder, 'debian.sources'),
    'Dir::Etc::SourceParts': '/dev/null',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '2',
    'Acquire::http::Timeout': '30',
    'APT::Sandbox::User': '',
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  return (command, ...args) => must('timeout', ['300', command, ...options, ...args], folder)
}

async function must(command, args, cwd) {
  const { code, output } = await run(command, args, { quiet: true, cwd })
  if (code !== 0)
    throw new Error(`${command} ${args.at(-1)}: ${output.trim().split('\n').slice(-3).join(' ')}`)
  return output
}

/** The lines of a modules.dep: a module's path, and those of what it needs. */
function dependencies(modules) {
  const lines = fs.readFileSync(join(modules, 'modules.dep'), 'utf8').trim().split('\n')
  return new Map(
    lines.map((line) => {
      const [path = '', needed = ''] = line.split(':')
      return [path, needed.split(' ').filter(Boolean)]
    }),
  )
}

const moduleName = (path) => /([^/]+)\.ko/.exec(path)[1].replaceAll('-', '_')

/** Copies the wanted modules and what they need, unpacked: not every modprobe reads the compressed ones. */
async function keepModules(from, to) {
  const all = dependencies(from)
  const kept = new Set()
  for (const [path, needed] of all) {
    if (MODULES.has(moduleName(path))) for (const one of [path, ...needed]) kept.add(one)
  }
  for (const path of kept) {
    fs.mkdirSync(dirname(join(to, path)), { recursive: true })
    fs.cpSync(join(from, path), join(to, path))
    if (path.endsWith('.xz')) await must('busybox', ['xz', '-d', join(to, path)])
  }
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order'])
    fs.cpSync(join(from, name), join(to, name))
}

async function fetchInto(folder, suite) {
  const apt = await privateApt(join(folder, 'apt'), suite)
  await apt('apt-get', 'update')
  const named = /Depends: (linux-image-\S+)/.exec(await apt('apt-cache', 'depends', 'linux-image-amd64'))?.[1]
  if (named === undefined) throw new Error(`linux-image-amd64 of ${suite} names no kernel`)
  await apt('apt-get', 'download', named)
  const deb = fs.readdirSync(join(folder, 'apt')).find((name) => name.endsWith('.deb'))
  const unpacked = join(folder, 'unpacked')
  await must('dpkg-deb', ['-x', join(folder, 'apt', deb), unpacked])
  const version = named.replace('linux-image-', '')
  await must('busybox', ['depmod', '-b', unpacked, version])
  await keepModules(join(unpacked, 'lib/modules', version), join(folder, 'lib/modules', version))
  await must('busybox', ['depmod', '-b', folder, version])
  fs.cpSync(join(unpacked, 'boot', `vmlinuz-${version}`), join(folder, 'vmlinuz'))
  for (const name of ['apt', 'unpacked']) fs.rmSync(join(folder, name), { recursive: true })
  return version
}

/** Fetches a kernel that is not in the cache. Gives its folder; throws with the reason when it cannot be had. */
export async function fetchKernel(series) {
  const have = kernelFolder(series)
  if (have !== undefined) return have
  for (const tool of ['apt-get', 'dpkg-deb', 'busybox'])
    if (which(tool) === undefined) throw new Error(`there is no ${tool}`)
  const folder = join(cache(), `${series}-${EDITION}`)
  const draft = `${folder}.${process.pid}`
  try {
    fs.mkdirSync(draft, { recursive: true })
    console.log(`fetching Debian's kernel ${series}`)
    const version = await fetchInto(draft, SUITES[series])
    if (!version.startsWith(`${series}.`)) throw new Error(`${SUITES[series]} has ${version}`)
    if (kernelFolder(series) === undefined) {
      fs.rmSync(folder, { recursive: true, force: true })
      fs.renameSync(draft, folder)
    }
    return folder
  } finally {
    fs.rmSync(draft, { recursive: true, force: true })
  }
}
