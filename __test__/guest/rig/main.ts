// `npm run guest`: a guest for a person. scripts/guest.mjs starts this once what it needs is there.
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { scratch } from '../../rig/scratch.ts'
import { Guest, image } from './guest.ts'
import { type GuestOptions, machineArguments, vhostUserNic } from './options.ts'

/** No time of its own: a person ends it. The longest that a timer can be. */
const FOREVER = 2 ** 31 - 1

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string' },
    memory: { type: 'string' },
    cpus: { type: 'string' },
    machine: { type: 'string' },
    append: { type: 'string' },
    net: { type: 'string', multiple: true },
    qemu: { type: 'string', multiple: true },
  },
})

/** `user` is QEMU's own network; anything else is the path of a vhost-user socket. */
function nic(what: string, index: number): string[] {
  if (what === 'user') return ['-netdev', `user,id=n${index}`, '-device', `virtio-net-pci,netdev=n${index}`]
  return vhostUserNic({ id: `n${index}`, socket: what })
}

const words = (values.qemu ?? []).flatMap((text) => text.split(' '))
const options: GuestOptions = {
  ...(values.kernel === undefined ? {} : { kernel: values.kernel }),
  ...(values.memory === undefined ? {} : { memory: Number(values.memory) }),
  ...(values.cpus === undefined ? {} : { cpus: Number(values.cpus) }),
  ...(values.machine === undefined ? {} : { machine: values.machine }),
  ...(values.append === undefined ? {} : { append: values.append }),
  args: [...(values.net ?? []).flatMap(nic), ...words],
}

/** A shell on this terminal; the guest ends with it. Ctrl-a x ends it at once. */
async function shell(): Promise<number> {
  using folder = scratch()
  const files = image(options.kernel, folder)
  const args = [...machineArguments(options, files, ['vring.shell']), '-serial', 'mon:stdio']
  const qemu = spawn('qemu-system-x86_64', ['-display', 'none', '-nodefaults', ...args], { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    qemu.on('error', reject).on('close', (code) => resolve(code ?? 1))
  })
}

/** A command, whose output is ours as it comes, and whose status is ours. */
async function command(text: string): Promise<number> {
  await using guest = await Guest.start(options)
  const job = guest.start(text)
  let shown = 0
  return await guest.until('the end of the command', FOREVER, () => {
    process.stdout.write(job.output.slice(shown))
    shown = job.output.length
    return job.status
  })
}

process.exitCode = await (positionals.length === 0 ? shell() : command(positionals.join(' ')))
