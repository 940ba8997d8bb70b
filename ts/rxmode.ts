/** What a port receives, and how; who does which offloads. */
import type { OffloadFacts, RxModeFacts } from '../index.js'

/** Offloads of packets that come in, by ethdev's names. */
export type RxOffload = 'checksum' | 'lro' | 'vlan-strip' | 'vlan-filter' | 'rss-hash' | 'scatter'

/** Offloads of packets that go out, by ethdev's names; `udp-tso` is the cutting of UDP into datagrams (USO). */
export type TxOffload = 'checksum' | 'tcp-tso' | 'udp-tso' | 'vlan-insert' | 'multi-segs'

/** The offloads of both directions. */
export interface Offloads {
  /** Of packets that come in. */
  readonly rx: readonly RxOffload[]
  /** Of packets that go out. */
  readonly tx: readonly TxOffload[]
}

/** Who does which offloads for a port. */
export interface OffloadInfo {
  /** What was asked for when the port was opened. */
  readonly asked: Offloads
  /** What the device does now: it depends on the peer, if there is one. */
  readonly device: Offloads
  /** What software does where the device does not. */
  readonly software: Offloads
}

/** What packets are hashed by, by ethdev's names. Those that end in `-ex` are done by devices only. */
export type RssType =
  | 'ipv4'
  | 'ipv4-tcp'
  | 'ipv4-udp'
  | 'ipv6'
  | 'ipv6-tcp'
  | 'ipv6-udp'
  | 'ipv6-ex'
  | 'ipv6-tcp-ex'
  | 'ipv6-udp-ex'

/** How packets are hashed. The hash is in a packet's `hash` word. */
export interface RssConfig {
  /** 40 bytes. */
  readonly key: Uint8Array
  /** What is hashed. A packet has the hash of the first that fits it: ports before addresses. */
  readonly types: readonly RssType[]
  /**
   * 128 receive queues, by the hash's low 7 bits. Only where the device spreads packets; a table for another is refused. Undefined: evenly,
   * or nobody spreads packets.
   */
  readonly table?: readonly number[] | undefined
}

/** What a port receives, and how. */
export interface RxMode {
  /** Packets to any address (default), or to the addresses and groups of this port and to all only. */
  readonly promiscuous: boolean
  /** Packets to any group, though not promiscuous. */
  readonly allMulticast: boolean
  /** Addresses besides the port's own, at most 63. */
  readonly macs: readonly string[]
  /** Groups, at most 64. */
  readonly multicast: readonly string[]
  /** Which VLANs pass, 0 to 4095; packets without a tag pass. Null (default): all. */
  readonly vlans: readonly number[] | null
  /** The tag is taken out of the packet and stands in its `tag` word. */
  readonly vlanStrip: boolean
  /**
   * `complete` (default): half checksums of a peer that knows no wire are completed. `off`: they are left as they are, and marked so.
   * `verify`: likewise, and all others are verified.
   */
  readonly checksum: 'off' | 'complete' | 'verify'
  /** Hashes, or none (default). */
  readonly rss: RssConfig | null
}

/** What the addon says, as the API says it. */
export function fromRxFacts({ vlans, checksum, rss, ...rest }: RxModeFacts): RxMode {
  return {
    ...rest,
    checksum: checksum as RxMode['checksum'],
    vlans: vlans ?? null,
    rss:
      rss === undefined || rss === null
        ? null
        : { key: Uint8Array.from(rss.key), types: rss.types as RssType[], table: rss.table },
  }
}

/** The other way round. */
export function toRxFacts({ macs, multicast, vlans, rss, ...rest }: RxMode): RxModeFacts {
  const { table } = rss ?? {}
  return {
    ...rest,
    macs: [...macs],
    multicast: [...multicast],
    ...(vlans === null ? {} : { vlans: [...vlans] }),
    ...(rss === null
      ? {}
      : {
          rss: {
            key: [...rss.key],
            types: [...rss.types],
            ...(table === undefined ? {} : { table: [...table] }),
          },
        }),
  }
}

const offloads = ([rx, tx]: readonly (readonly string[])[]): Offloads => ({
  rx: rx as RxOffload[],
  tx: tx as TxOffload[],
})

/** What the addon says about offloads. */
export const fromOffloadFacts = ({ asked, device, software }: OffloadFacts): OffloadInfo => ({
  asked: offloads(asked),
  device: offloads(device),
  software: offloads(software),
})
