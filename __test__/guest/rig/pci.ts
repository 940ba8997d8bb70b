// Virtio devices of a guest, taken from its kernel, and testpmd on them.
import { type Job, type Guest } from './guest.ts'

export type Binding = 'uio_pci_generic' | 'vfio-pci' | 'virtio-pci' | 'none'

/** `0000:00:03.0` for slot 3 of the first bus. */
export function pciAddress(slot: number, bus = 0): string {
  const hex = (number: number): string => number.toString(16).padStart(2, '0')
  return `0000:${hex(bus)}:${hex(slot)}.0`
}

/** Binds the devices at these addresses to a driver, or to none. */
export async function bind(guest: Guest, addresses: readonly string[], driver: Binding): Promise<void> {
  if (driver === 'vfio-pci') await guest.run('modprobe vfio_iommu_type1 allow_unsafe_interrupts=1')
  if (driver !== 'none') await guest.run(`modprobe ${driver.replaceAll('-', '_')}`)
  const commands = addresses.flatMap((address) => {
    const device = `/sys/bus/pci/devices/${address}`
    return [
      `if [ -e ${device}/driver ]; then echo ${address} >${device}/driver/unbind; fi`,
      ...(driver === 'none'
        ? []
        : [
            `echo ${driver} >${device}/driver_override`,
            `echo ${address} >/sys/bus/pci/drivers/${driver}/bind`,
          ]),
    ]
  })
  await guest.run(`set -e; ${commands.join('; ')}`)
}

/** Hugepages of 2 MiB, as many as MiB are asked for. */
export async function reserveHugepages(guest: Guest, mib: number): Promise<void> {
  const file = '/proc/sys/vm/nr_hugepages'
  await guest.run(`echo ${mib / 2} >${file}; test $(cat ${file}) = ${mib / 2}`)
}

/** Printed for a command that is none: all before it has been done then. */
const UNKNOWN = 'Command not found'
let started = 0

/** `vring testpmd -i` in a guest. */
export class GuestTestpmd implements AsyncDisposable {
  readonly job: Job
  readonly #guest: Guest
  readonly #input: string
  #asked = 0

  private constructor(guest: Guest, input: string, argv: string) {
    this.#guest = guest
    this.#input = input
    this.job = guest.start(`exec 4<>${input}; exec node dist/cli.js testpmd ${argv} <&4`)
  }

  /** Starts it with that command line, and waits until it takes commands. */
  static async start(guest: Guest, argv: string): Promise<GuestTestpmd> {
    const input = `/run/testpmd-${++started}`
    await guest.run(`mkfifo ${input}`)
    const testpmd = new GuestTestpmd(guest, input, argv)
    await testpmd.command('show port summary all')
    return testpmd
  }

  /** Types a command and gives what it printed. */
  async command(text: string): Promise<string> {
    const from = this.job.output.length
    this.#asked += 1
    await this.#guest.run(`printf '%s\\n' '${text}' nothing >${this.#input}`)
    await this.job.until(new RegExp(`(?:[^]*?${UNKNOWN}){${this.#asked}}`))
    return this.job.output.slice(from)
  }

  /** Ends it in order; gives all that it printed. */
  async quit(): Promise<string> {
    await this.#guest.run(`echo quit >${this.#input}`)
    await this.job.ended()
    return this.job.output
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.job.signal('KILL')
    await this.job.ended()
  }
}
