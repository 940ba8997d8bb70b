/** What a machine can do, one check after the other: each tries it. */
import { allowedCpus, bootCpus } from '../machine/cpus.ts'
import { hugepagePools, sizeText } from '../machine/hugepages.ts'
import { iommuGroups, NO_IOMMU, noIommuMode } from '../machine/iommu.ts'
import { moduleFix, moduleIsIn } from '../machine/modules.ts'
import { asRoot, capabilities, inUserNamespace, memlockLimit } from '../machine/process.ts'
import { list } from '../machine/sysfs.ts'
import { attemptProbe, capabilityFix, deviceFix, type Trial } from './try.ts'

/** The names of the checks. */
export type CheckName =
  | 'memory'
  | 'hugepages-2M'
  | 'hugepages-1G'
  | 'membarrier'
  | 'lock'
  | 'tun'
  | 'new-tap'
  | 'packet-socket'
  | 'vhost-net'
  | 'vfio'
  | 'iommu'
  | 'uio'
  | 'physical-address'
  | 'port-io'
  | 'cpus'
  | 'isolation'

/** One check. */
export interface Check {
  readonly name: CheckName
  /** What it is about, in a few words. */
  readonly title: string
  readonly ok: boolean
  /** What was found. */
  readonly detail: string
  /** Commands, or what to ask for, that would make it so; none where it is, or where nothing would. */
  readonly fix: readonly string[]
}

/** The bits of VFIO's extensions: type 1, type 1 v2, no IOMMU. */
const TYPE1 = (1 << 1) | (1 << 3)
const WITHOUT_IOMMU = 1 << 8
/** What a mempool of testpmd's usual size takes, roughly: VFIO locks what a device may reach. */
const LOCKED_MIB = 256
const MIB = 1 << 20

const check = (
  name: CheckName,
  title: string,
  trial: Trial,
  detail: string,
  fix: readonly string[],
): Check => ({
  name,
  title,
  ok: trial.works,
  detail: trial.works ? detail : trial.says,
  fix: trial.works ? [] : fix,
})

function memory(): Check {
  const fix = ['allow memfd_create in the seccomp filter: docker run --security-opt seccomp=unconfined …']
  return check('memory', 'shared memory', attemptProbe('memory-4K'), 'a sealed memfd of ordinary pages', fix)
}

function hugepages(size: '2M' | '1G'): Check {
  const kib = size === '2M' ? 2048 : 1 << 20
  const pools = hugepagePools().filter((pool) => pool.size === kib)
  const where = pools.map(({ node, total, free }) => {
    const count = `${free} of ${total} free`
    return node === undefined ? count : `node ${node}: ${count}`
  })
  const amount = size === '2M' ? '512M' : '2G'
  const fix =
    pools.length === 0
      ? ['boot a kernel and processor that have pages of this size']
      : [asRoot(`vring hugepages --pagesize ${size} --reserve ${amount}`)]
  const trial = attemptProbe(`memory-${size}`)
  const found = where.length === 0 ? 'this kernel has none' : where.join(', ')
  const name = size === '2M' ? 'hugepages-2M' : 'hugepages-1G'
  const tried = check(name, `hugepages of ${sizeText(kib)}`, trial, found, fix)
  return { ...tried, detail: trial.works ? found : `${found} (${trial.says})` }
}

function membarrier(): Check {
  const fix = [
    'use Linux 4.14 or newer, and allow membarrier in the seccomp filter; without, each burst takes a fence',
  ]
  return check('membarrier', 'barriers on all cores', attemptProbe('membarrier'), 'membarrier(2)', fix)
}

function lock(): Check {
  const limit = memlockLimit()
  const text = Number.isFinite(limit) ? `limit ${sizeText(limit / 1024)}` : 'no limit'
  const trial = attemptProbe('lock', LOCKED_MIB * MIB)
  const fix = [asRoot(`prlimit --pid $$ --memlock=unlimited`), capabilityFix('CAP_IPC_LOCK')]
  const tried = check('lock', 'locked memory', trial, `${LOCKED_MIB} MiB can be locked, ${text}`, fix)
  return trial.works ? tried : { ...tried, detail: `${LOCKED_MIB} MiB: ${trial.says}, ${text}` }
}

function tun(): Check {
  const trial = attemptProbe('tun')
  const fix = deviceFix('/dev/net/tun', 'tun', trial)
  return check('tun', '/dev/net/tun', trial, trial.says, fix)
}

function newTap(): Check {
  const trial = attemptProbe('new-tap')
  const fix = trial.verdict === 'denied' ? [capabilityFix('CAP_NET_ADMIN')] : []
  return check('new-tap', 'making taps', trial, 'made one', fix)
}

function packetSocket(): Check {
  const trial = attemptProbe('packet-socket')
  const fix = trial.verdict === 'denied' ? [capabilityFix('CAP_NET_RAW')] : (moduleFix('af_packet') ?? [])
  return check('packet-socket', 'packet sockets', trial, 'opened one', [fix].flat())
}

function vhostNet(): Check {
  const trial = attemptProbe('vhost-net')
  const fix = deviceFix('/dev/vhost-net', 'vhost_net', trial)
  return check('vhost-net', '/dev/vhost-net', trial, `features 0x${trial.value.toString(16)}`, fix)
}

function vfio(): Check {
  const trial = attemptProbe('vfio')
  const bus = moduleFix('vfio-pci')
  if (trial.works && bus !== undefined) {
    const detail = 'the container opens, but no driver is there that gives it devices'
    return { name: 'vfio', title: 'VFIO', ok: false, detail, fix: [bus] }
  }
  const kinds = [
    ...((trial.value & TYPE1) === 0 ? [] : ['type 1']),
    ...((trial.value & WITHOUT_IOMMU) === 0 ? [] : ['without IOMMU']),
  ]
  const groups = list('/dev/vfio').filter((name) => /^(noiommu-)?\d+$/.test(name))
  const states = groups.map((name) => {
    const group = attemptProbe('vfio-group', `/dev/vfio/${name}`)
    if (!group.works) return group.says
    return `group ${name} ${(group.value & 1) === 1 ? 'can be used' : 'has devices with other drivers'}`
  })
  const detail = [`IOMMU: ${kinds.join(', ') || 'none yet (no group is bound)'}`, ...states].join('; ')
  return check('vfio', 'VFIO', trial, detail, deviceFix('/dev/vfio/vfio', 'vfio-pci', trial))
}

function iommu(): Check {
  const groups = iommuGroups()
  const without = noIommuMode()
  const title = 'IOMMU'
  if (groups.length > 0) {
    const devices = groups.reduce((sum, group) => sum + group.devices.length, 0)
    const detail = `${groups.length} groups with ${devices} devices`
    return { name: 'iommu', title, ok: true, detail, fix: [] }
  }
  if (without === true) {
    const detail = 'no groups; VFIO does without (devices can write anywhere)'
    return { name: 'iommu', title, ok: true, detail, fix: [] }
  }
  const boot =
    'switch VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on iommu=pt (AMD: iommu=pt)'
  const unsafe = without === false ? [asRoot(`sh -c 'echo 1 > ${NO_IOMMU}'`)] : []
  return { name: 'iommu', title, ok: false, detail: 'no IOMMU groups', fix: [boot, ...unsafe] }
}

function uio(): Check {
  const devices = list('/dev').filter((name) => /^uio\d+$/.test(name))
  const states = devices.map((name) => attemptProbe('open', `/dev/${name}`))
  const modules = ['uio_pci_generic', 'igb_uio'].filter((name) => moduleIsIn(name))
  const refused = states.find((state) => !state.works)
  const fix = moduleFix('uio_pci_generic')
  const ok = modules.length > 0 && refused === undefined
  const detail = [modules.join(', ') || 'uio_pci_generic is not loaded', ...states.map(({ says }) => says)]
  const path = refused === undefined ? undefined : `/dev/${devices[states.indexOf(refused)]}`
  const open = path === undefined ? [] : deviceFix(path, 'uio_pci_generic', refused!)
  const fixes = modules.length > 0 || fix === undefined ? open : [fix, ...open]
  return { name: 'uio', title: 'UIO', ok, detail: detail.join('; '), fix: ok ? [] : fixes }
}

function physicalAddress(): Check {
  const trial = attemptProbe('physical-address')
  const fix = [capabilityFix('CAP_SYS_ADMIN')]
  return check('physical-address', 'physical addresses', trial, '/proc/self/pagemap tells frame numbers', fix)
}

function portIoFix({ verdict }: Trial): string {
  if (verdict === 'absent') return 'use a kernel with CONFIG_X86_IOPL_IOPERM: this one has not'
  // A locked-down kernel refuses those too that have the capability.
  const has = capabilities().CAP_SYS_RAWIO && !inUserNamespace()
  const lockdown = 'switch kernel lockdown (secure boot) off: cat /sys/kernel/security/lockdown'
  return has ? lockdown : capabilityFix('CAP_SYS_RAWIO')
}

function portIo(): Check {
  const trial = attemptProbe('port-io')
  return check('port-io', 'I/O ports', trial, 'ioperm(2)', [portIoFix(trial)])
}

function cpus(): Check {
  const allowed = allowedCpus()
  const detail = `${allowed.length} for this process (${allowed.join(',')})`
  const fix = ['give this process two CPUs or more: one for the prompt, one for each lcore that polls']
  const ok = allowed.length > 1
  return { name: 'cpus', title: 'processors', ok, detail, fix: ok ? [] : fix }
}

function isolation(): Check {
  const [isolated, quiet] = [bootCpus('isolated'), bootCpus('nohz_full')]
  const of = (cpus: readonly number[]): string => (cpus.length === 0 ? 'none' : cpus.join(','))
  const last = allowedCpus().at(-1) ?? 0
  const fix = [
    `boot with isolcpus=${last} nohz_full=${last} rcu_nocbs=${last}, and poll there: vring testpmd -l 0,${last}`,
  ]
  const ok = isolated.length > 0
  const detail = `isolcpus ${of(isolated)}, nohz_full ${of(quiet)}`
  return { name: 'isolation', title: 'undisturbed CPUs', ok, detail, fix: ok ? [] : fix }
}

/** Every check, each tried now. */
export function runChecks(): readonly Check[] {
  return [
    memory(),
    hugepages('2M'),
    hugepages('1G'),
    membarrier(),
    lock(),
    cpus(),
    isolation(),
    tun(),
    newTap(),
    packetSocket(),
    vhostNet(),
    vfio(),
    iommu(),
    uio(),
    physicalAddress(),
    portIo(),
  ]
}
