// Promise: the commands that `vring doctor` prints are those that help.
import { execSync } from 'node:child_process'
import test from 'ava'
import { asNobody, sh, vring } from './run.ts'

interface Report {
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[]
  readonly ports: readonly { readonly id: string; readonly state: string; readonly fix: readonly string[] }[]
}

function report(doctor = vring) {
  const { stdout, stderr } = doctor('doctor', '--json')
  if (stdout === '') throw new Error(stderr)
  const { checks, ports } = JSON.parse(stdout) as Report
  return {
    check: (name: string) => checks.find((one) => one.name === name)!,
    port: (id: string) => ports.find((one) => one.id === id)!,
  }
}

/** Runs the commands, as a person would copy them. */
function follow(fix: readonly string[], only: RegExp): string[] {
  const commands = fix.filter((one) => only.test(one))
  for (const command of commands) execSync(command)
  return commands
}

export function declareDoctor(): void {
  test('a bare kernel: what is missing, and the module that would give it', (t) => {
    for (const name of ['vfio-pci', 'uio_pci_generic']) sh(`modprobe -r ${name}`)
    const { check, port } = report()
    t.is(port('vhost-net').state, 'no')
    t.true(port('vhost-net').fix.includes('modprobe vhost_net'), port('vhost-net').fix.join('\n'))
    t.true(port('vfio-pci').fix.includes('modprobe vfio-pci'), port('vfio-pci').fix.join('\n'))
    t.true(port('uio_pci_generic').fix.includes('modprobe uio_pci_generic'))
    t.true(check('iommu').ok, check('iommu').detail)
    t.regex(check('isolation').detail, /^isolcpus 1,/)
    t.true(check('physical-address').ok)
    t.true(check('port-io').ok, check('port-io').detail)
    t.false(check('hugepages-2M').ok)
  })

  test('its commands, run as they stand, make the ports possible', (t) => {
    const before = report()
    const commands = ['vhost-net', 'net_tap', 'vfio-pci', 'uio_pci_generic'].flatMap((id) =>
      follow(before.port(id).fix, /^modprobe /),
    )
    t.deepEqual([...new Set(commands)].toSorted(), [
      'modprobe tun',
      'modprobe uio_pci_generic',
      'modprobe vfio-pci',
      'modprobe vhost_net',
    ])
    const { check, port } = report()
    t.regex(check('vhost-net').detail, /^features 0x[0-9a-f]+$/)
    for (const id of ['vhost-net', 'vhost-net-packet', 'net_tap', 'net_af_packet', 'vfio-pci']) {
      t.is(port(id).state, 'ok', JSON.stringify(port(id)))
    }
    t.true(check('uio').ok, check('uio').detail)
  })

  test('a user without rights to the device gets them by the command for it', (t) => {
    const { port } = report(asNobody)
    t.is(port('vhost-net').state, 'no')
    const commands = port('vhost-net').fix.filter((one) =>
      /^sudo (setfacl|chown|usermod) .*\/dev\//.test(one),
    )
    t.true(commands.some((one) => one.includes('/dev/vhost-net')))
    for (const command of commands) execSync(command.replace('sudo ', ''))
    // Still not a new tap, but one that root made for it.
    t.is(report(asNobody).port('vhost-net').state, 'part')
  })
}
