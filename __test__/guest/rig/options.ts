// What a guest is made of, as QEMU's arguments.
import { properties, qemuVersion } from '../../rig/machine.ts'

export interface GuestOptions {
  /** A series of scripts/kernels.mjs; default 6.1. */
  readonly kernel?: string
  /** MiB of memory, which vhost-user peers share; default 1024. */
  readonly memory?: number
  readonly cpus?: number
  /** The machine and its properties; default `pc`. */
  readonly machine?: string
  /** Whether commands see the host's file system; default true. Without it there is busybox, and nothing else. */
  readonly host?: boolean
  /** More of the kernel's command line. */
  readonly append?: string
  /** More of QEMU's arguments: devices, above all. */
  readonly args?: readonly string[]
  /** Descriptors that QEMU inherits, as 3, 4, … */
  readonly fds?: readonly number[]
  /** Milliseconds for the boot, and for each command that has no time of its own; default 120000. */
  readonly timeout?: number
  /** Milliseconds for a spec that runs inside; default 240000. */
  readonly specTimeout?: number
  readonly cwd?: string
}

/** The sockets that the console and the control channel are on. */
export interface Channels {
  readonly console: string
  readonly control: string
}

/** The files that QEMU boots. */
export interface Image {
  readonly kernel: string
  readonly initramfs: string
}

/** What this project's own programs need on PATH: this very node, wherever it is installed. */
const path = [
  process.execPath.replace(/\/[^/]*$/, ''),
  '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
].join(':')

/** The kernel's command line. `words` are for init.sh. */
function commandLine(options: GuestOptions, words: readonly string[]): string {
  const host = options.host === false ? [] : ['vring.host']
  const settings = [
    `vring_path="${path}"`,
    `vring_cwd="${options.cwd ?? (host.length > 0 ? process.cwd() : '/')}"`,
  ]
  const kernel = ['console=ttyS0', 'quiet', 'panic=0', 'mitigations=off', 'random.trust_cpu=on']
  return [...kernel, ...host, ...words, ...settings, options.append ?? ''].join(' ')
}

/** The machine with its memory, kernel and the host's file system, but without channels. */
export function machineArguments(
  options: GuestOptions,
  image: Image,
  words: readonly string[] = [],
): string[] {
  const size = `${options.memory ?? 1024}M`
  const share = { path: '/', mount_tag: 'host', security_model: 'none', readonly: 'on', multidevs: 'remap' }
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', String(options.cpus ?? 2), '-m', size],
    ...['-object', `memory-backend-memfd,id=memory,size=${size},share=on`],
    ...['-machine', `${options.machine ?? 'pc'},memory-backend=memory`],
    ...['-kernel', image.kernel, '-initrd', image.initramfs, '-append', commandLine(options, words)],
    ...(options.host === false ? [] : ['-virtfs', properties('local', share)]),
    ...(options.args ?? []),
  ]
}

export function channelArguments({ console, control }: Channels): string[] {
  return [
    ...['-chardev', `socket,id=console,path=${console}`, '-serial', 'chardev:console'],
    ...['-device', 'virtio-serial-pci,id=channels', '-chardev', `socket,id=control,path=${control}`],
    ...['-device', 'virtserialport,bus=channels.0,chardev=control,name=control'],
  ]
}

export interface VhostUserNic {
  /** The name of the chardev, the netdev and the device; `ID`, `ID-chardev` and `ID-netdev`. */
  readonly id: string
  /** The vhost-user socket; QEMU connects to it. */
  readonly socket: string
  readonly mac?: string
  readonly queues?: number
  /** More properties of the device, e.g. `{ packed: 'on' }`. */
  readonly device?: Readonly<Record<string, string | number>>
}

/** A virtio-net device on a vhost-user back end. */
export function vhostUserNic({ id, socket, mac, queues = 1, device = {} }: VhostUserNic): string[] {
  const multi = queues > 1 ? { mq: 'on' } : {}
  // QEMU 7 without KVM dies when a guest's kernel drives a vhost-user device by MSI-X.
  const interrupts = qemuVersion() < 8 ? { vectors: 0 } : {}
  const all = { netdev: `${id}-netdev`, id, mac, ...multi, ...interrupts, ...device }
  return [
    ...['-chardev', properties('socket', { id: `${id}-chardev`, path: socket, reconnect: 1 })],
    ...['-netdev', properties('vhost-user', { id: `${id}-netdev`, chardev: `${id}-chardev`, queues })],
    ...['-device', properties('virtio-net-pci', all)],
  ]
}
