/** Devices: DPDK's strings, and typed options that say the same. */
import type { DeviceRequest } from '../index.js'
import { native } from './binding.ts'
import { attempt, invalid } from './errors.ts'

/** A driver's name, as in DPDK. */
export type DriverName =
  | 'net_virtio_user'
  | 'net_virtio_pci'
  | 'net_vhost'
  | 'net_tap'
  | 'net_af_packet'
  | 'net_pcap'
  | 'net_null'
  | 'net_ring'

/** What the options of all drivers have. */
interface DeviceOptions<D extends DriverName> {
  /** The driver. */
  readonly driver: D
  /** The device's name, which begins with the driver's; default the driver's name and the smallest number that is free. */
  readonly name?: string
}

/** The features of a vhost-user link that can be left out. All are on unless set to false, but for `packedVq`. */
interface LinkFeatures {
  /** Queue pairs, 1 to 128; default 1. */
  readonly queues?: number
  /** Ethernet address of the port, as `02:00:00:00:00:01`; default one that the driver makes up. */
  readonly mac?: string
  /** Packed rings. Offered by `net_vhost` and used by `net_virtio_pci` unless false; used by `net_virtio_user` only if true. */
  readonly packedVq?: boolean
  /** `IN_ORDER`: buffers are used in the order in which they were made available. */
  readonly inOrder?: boolean
  /** Mergeable receive buffers. */
  readonly mrgRxbuf?: boolean
  /** `EVENT_IDX`: notifications by index. */
  readonly eventIdx?: boolean
  /** Indirect descriptors. */
  readonly indirect?: boolean
  /** In-flight records, by which rings outlive the process of the back end; default true. */
  readonly inflight?: boolean
}

/** The kernel's network device that a port exchanges packets with. */
interface KernelDevice {
  /** Its network namespace, a name of `ip netns` or a path; default this process's. */
  readonly netns?: string
  /** The bridge that it becomes a port of. */
  readonly bridge?: string
  /** An address for it, as `10.0.0.1/24`. */
  readonly ip?: string
  /** True: a tap that was made for the port stays when the port is closed. */
  readonly persist?: boolean
}

/** A virtio driver on a vhost-user back end, or on vhost in the kernel. */
export interface NetVirtioUserOptions extends DeviceOptions<'net_virtio_user'>, LinkFeatures, KernelDevice {
  /** Socket of the back end, or `/dev/vhost-net`. What is a {@link KernelDevice} option, `iface`, `fd` and `busyPoll` are for the latter. */
  readonly path: string
  /** A tap, which is made if it is not there, a macvtap, or any other Ethernet device; default a new tap. */
  readonly iface?: string
  /** Descriptor of a tap, macvtap or packet socket, one for each queue pair, instead of `iface`. They stay the caller's. */
  readonly fd?: number | readonly number[]
  /** Threads of the kernel's for a queue pair, 1 (default) or, where it lets one choose, 2. */
  readonly workers?: number
  /** Microseconds that the kernel looks for work before it sleeps; default 0. */
  readonly busyPoll?: number
  /** True: make the socket and wait for the back end. False (default): connect to it, again and again. */
  readonly server?: boolean
  /** Descriptors of a ring, a power of two from 2 to 32768, packed any number from 1; default 256. */
  readonly queueSize?: number
  /** True: `ACCESS_PLATFORM` where the back end has it, which then asks for translations of addresses; default false. */
  readonly iommuPlatform?: boolean
  /** Accepted as in DPDK; vhost-user has no control queue. */
  readonly cq?: boolean
}

/** A virtio device on the PCI bus that is bound to `vfio-pci`, `uio_pci_generic` or no driver. */
export interface NetVirtioPciOptions
  extends DeviceOptions<'net_virtio_pci'>, Omit<LinkFeatures, 'queues' | 'mac'> {
  /** Its address, as `0000:00:03.0`. */
  readonly addr: string
  /** True: use the registers before version 1 of a device that has both. */
  readonly legacy?: boolean
}

/** A vhost-user back end: the device side of a guest's or container's virtio. */
export interface NetVhostOptions extends DeviceOptions<'net_vhost'>, LinkFeatures {
  /** Path of the socket. */
  readonly iface: string
  /** True: connect to the socket, again and again. False (default): make it. */
  readonly client?: boolean
  /** True: the guest may send large packets, to be cut. Default false, unless the receive offload `lro` is asked for. */
  readonly tso?: boolean
  /** True: checksums that the guest left out stay so, and the packet says it. Default false: software completes them. */
  readonly legacyOlFlags?: boolean
  /** True: offer `ACCESS_PLATFORM`, for guests with an IOMMU; default false. */
  readonly iommuSupport?: boolean
  /** True: answer front ends that ask for the configuration space; default false. */
  readonly config?: boolean
}

/** A tap or macvtap: an Ethernet device of the kernel's whose other end is the port. */
export interface NetTapOptions extends DeviceOptions<'net_tap'>, KernelDevice {
  /** A tap, which is made if it is not there, or a macvtap; default a new tap. */
  readonly iface?: string
  /** Descriptor of a tap or macvtap, one for each queue, instead of `iface`. They stay the caller's. */
  readonly fd?: number | readonly number[]
  /** Most queues of one direction, 1 to 128; default 16. */
  readonly queues?: number
  /** Ethernet address of the port and, unless it is in a bridge, of the tap; default random ones. */
  readonly mac?: string
}

/** Any Ethernet device of the kernel's, by packet sockets with rings; the kernel goes on using it. */
export interface NetAfPacketOptions extends DeviceOptions<'net_af_packet'> {
  /** The device. */
  readonly iface: string
  /** Queue pairs, 1 to 128, among which the kernel spreads the flows; default 1. */
  readonly qpairs?: number
  /** Bytes of a block of the ring, a multiple of 4096; default as many as a frame needs. */
  readonly blocksz?: number
  /** Bytes of a frame with its header of up to 80 bytes, a multiple of 16; default 2048. */
  readonly framesz?: number
  /** Frames of each ring, 1 to 65536; default 512. */
  readonly framecnt?: number
  /** Send past the device's queueing discipline; default false. */
  readonly qdiscBypass?: boolean
  /** Ethernet address of the port; default the device's. */
  readonly mac?: string
  /** Network namespace of the device, a name of `ip netns` or a path; default this process's. */
  readonly netns?: string
}

/**
 * Captures: receives from files, transmits to files. Without `rxPcap` nothing is received; without `txPcap` what is sent is counted as the
 * drop `tx_no_file`.
 */
export interface NetPcapOptions extends DeviceOptions<'net_pcap'> {
  /** pcap or pcapng file to receive from, one for each receive queue. */
  readonly rxPcap?: string | readonly string[]
  /** File to transmit to, one for each transmit queue; pcapng if it ends so, else pcap. */
  readonly txPcap?: string | readonly string[]
  /** Begin again at the end of a file; default false. */
  readonly infiniteRx?: boolean
}

/** Receives packets of zeros without end, transmits to nowhere. */
export interface NetNullOptions extends DeviceOptions<'net_null'> {
  /** Bytes of a packet, from 14 to what one buffer of the mempool holds; default 64. */
  readonly size?: number
  /** Write and read the bytes; default false. */
  readonly copy?: boolean
  /** Receive nothing; default false. */
  readonly noRx?: boolean
}

/** Rings in memory: what is sent on a queue is received on it, or on the port that shares the ring. */
export interface NetRingOptions extends DeviceOptions<'net_ring'> {
  /** Packets that a ring holds, a power of two from 2 to 65536; default 1024. */
  readonly size?: number
  /** Name of an open `net_ring` port on the same mempool: its transmit queues are our receive queues, and the other way round. */
  readonly peer?: string
}

/** A device as typed options, told apart by `driver`. The names are those of the devargs, in camel case. */
export type PortOptions =
  | NetVirtioUserOptions
  | NetVirtioPciOptions
  | NetVhostOptions
  | NetTapOptions
  | NetAfPacketOptions
  | NetPcapOptions
  | NetNullOptions
  | NetRingOptions

/** One argument that a driver knows. */
export interface DevargInfo {
  /** Its name in a device string, as `queue_size`. */
  readonly key: string
  /** What it does, its values and its default. */
  readonly help: string
}

/** A device string, taken apart. */
export interface Devargs {
  /** The device's name, as `net_vhost0`. */
  readonly name: string
  /** The driver that the name means. */
  readonly driver: DriverName
  /** The arguments; of one that comes again, the last value. */
  readonly args: Readonly<Record<string, string>>
}

const table = native.driverTable()

/** The arguments that each driver knows. */
export const drivers: Readonly<Record<DriverName, readonly DevargInfo[]>> = Object.freeze(
  Object.fromEntries(table.map(({ name, args }) => [name, Object.freeze(args)])) as Record<
    DriverName,
    DevargInfo[]
  >,
)

/**
 * Takes a device string like `net_vhost0,iface=/tmp/s0,queues=2` apart. The driver is what the name begins with. Throws
 * `ERR_VRING_UNKNOWN_DRIVER` or `ERR_VRING_UNKNOWN_DEVARG`, whose message names the nearest known one.
 */
export function parseDevargs(text: string): Devargs {
  const { name, driver, args } = attempt(() => native.parseDevice(text))
  return { name, driver: driver as DriverName, args: Object.fromEntries(args) }
}

/** `queueSize` → `queue_size`, or `no-rx` where the driver writes it so. */
function devargKey(option: string, known: readonly DevargInfo[]): string {
  const words = (separator: string): string =>
    option.replaceAll(/[A-Z]/g, (letter) => separator + letter.toLowerCase())
  return known.some(({ key }) => key === words('-')) ? words('-') : words('_')
}

function devargValues(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(devargValues)
  if (typeof value === 'string') return [value]
  if (typeof value === 'number' || typeof value === 'boolean') return [String(Number(value))]
  return value === undefined
    ? []
    : invalid('a string, a number, true or false as an option of a device', value)
}

/** What typed options say, for the addon, which checks it. */
export function deviceRequest(options: PortOptions): DeviceRequest {
  if (typeof options !== 'object' || options === null || typeof options.driver !== 'string') {
    invalid('a device string or an object with a driver', options)
  }
  const { driver, name = native.freePortName(driver), ...rest } = options
  const known: readonly DevargInfo[] | undefined = drivers[driver]
  const args = Object.entries(rest).flatMap(([option, value]) =>
    devargValues(value).map((text): [string, string] => [devargKey(option, known ?? []), text]),
  )
  return { name, args }
}
