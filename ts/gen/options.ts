/** The command line of `vring gen`. */
import { type Command, Option } from 'commander'
import type { FrameOptions, TrafficSize } from '../traffic.ts'
import { number, oneOf, parsePorts, parseRate, parseSizes, type Rate } from './values.ts'

/** What the command line says. */
export interface Given {
  readonly vdev: readonly string[]
  readonly lcores?: readonly number[]
  readonly tx?: readonly number[]
  readonly rx?: readonly number[]
  readonly rxq: number
  readonly mbufs: number
  readonly mbufSize: number
  readonly linkTimeout: number
  readonly rate?: Rate
  readonly speed?: number
  readonly size: readonly TrafficSize[]
  readonly flows: number
  readonly burst: number
  readonly seconds?: number
  readonly packets?: number
  readonly vlan?: number
  readonly srcMac?: string
  readonly dstMac?: string
  readonly srcIp?: string
  readonly dstIp?: string
  readonly srcPort?: number
  readonly dstPort?: number
  readonly protocol: 'udp' | 'tcp' | 'icmp'
  readonly vary: NonNullable<FrameOptions['vary']>
  readonly replay?: string
  readonly loops: number
  readonly speedup: number
  readonly check: boolean
  readonly search: boolean
  readonly loss: number
  readonly resolution: number
  readonly json: boolean
}

const EXAMPLES = `
A port that is sent to by nobody else is expected at the other end: a device under test that sends back what it gets, such as
testpmd's macswap or a guest. Exit status: 0, 1 when something failed or, with --check, when a packet is lost, doubled, reordered or damaged.

Examples:
  vring gen --vdev net_virtio_user0,path=/tmp/s0 --rate 1Mpps --seconds 10 --check
  vring gen --vdev net_virtio_user0,path=/tmp/s0 --vdev net_virtio_user1,path=/tmp/s1 --tx 0 --rx 1 --size imix --rate 40% --speed 10000
  vring gen --vdev net_virtio_user0,path=/tmp/s0 -l 0,1 --search --seconds 10 --json
`

const append = (text: string, list: readonly string[] = []): readonly string[] => [...list, text]

/** Adds the options to the command. */
export function describe(command: Command): Command {
  const option = (flags: string, text: string, parse?: (value: string) => unknown): Option => {
    const made = new Option(flags, text)
    return parse === undefined ? made : made.argParser(parse)
  }
  const groups: readonly (readonly [string, readonly Option[]])[] = [
    [
      'Ports:',
      [
        new Option('--vdev <devargs>', 'a port, as for testpmd; again for more')
          .argParser(append)
          .makeOptionMandatory(),
        option('--tx <ports>', 'ports that send (default: all)', parsePorts),
        option('--rx <ports>', 'ports whose packets are looked at (default: all)', parsePorts),
        option('--rxq <n>', 'receive queues of each port', number(1, 128)).default(1),
        option(
          '-l, --lcores <cpus>',
          'one processor for all, or two: one to send, one to receive',
          parsePorts,
        ),
        option('--mbufs <n>', 'packet buffers', number(512, 2 ** 22)).default(16384),
        option('--mbuf-size <bytes>', 'of a buffer, with 128 of headroom', number(256, 65535)).default(2176),
        option(
          '--link-timeout <seconds>',
          'how long the links may take to come up',
          number(0, 3600, false),
        ).default(10),
      ],
    ],
    [
      'Traffic:',
      [
        option(
          '--rate <rate>',
          'of each port: 1.5Mpps, 10Gbps (on the wire), 40% (default: as fast as it goes)',
          parseRate,
        ),
        option('--speed <Mbit/s>', "what percents refer to (default: the link's speed)", number(1, 1e6)),
        option(
          '--size <sizes>',
          'bytes without check sequence: 60; 60,1514; 60:7,590:4,1514:1; imix',
          parseSizes,
        ).default([{ bytes: 60, weight: 1 }], '60'),
        option(
          '--seconds <n>',
          'how long to send (default: 10, unless --packets or --replay)',
          number(0.001, 86_400, false),
        ),
        option('--packets <n>', 'send so many packets from each port', number(1, 1e15)),
        option('--flows <n>', 'of each port, which take turns', number(1, 65535)).default(1),
        option(
          '--vary <field>',
          'what makes flows differ: src-port, dst-port, src-ip, dst-ip',
          oneOf('src-port', 'dst-port', 'src-ip', 'dst-ip'),
        ).default('src-port'),
        option('--burst <n>', 'packets of a burst', number(1, 512)).default(32),
      ],
    ],
    [
      'Packets:',
      [
        option('--protocol <name>', 'udp, tcp, icmp (echo requests)', oneOf('udp', 'tcp', 'icmp')).default(
          'udp',
        ),
        option('--src-ip <address>', 'version 4 or 6 (default: 198.18.0.1)'),
        option('--dst-ip <address>', 'of the same version (default: 198.18.0.2)'),
        option('--src-port <n>', 'of the first flow (default: 1024)', number(0, 65535)),
        option('--dst-port <n>', 'of the first flow (default: 9)', number(0, 65535)),
        option('--src-mac <address>', "(default: the port's)"),
        option('--dst-mac <address>', '(default: 02:00:00:00:00:00)'),
        option('--vlan <id>', 'a tag on each packet', number(0, 4095)),
      ],
    ],
    [
      'Captures:',
      [
        option(
          '--replay <file>',
          'send the packets of this pcap or pcapng instead, when they came; with --rate at that rate',
        ),
        option('--loops <n>', 'send it so often', number(1, 1e9)).default(1),
        option('--speedup <factor>', 'so many times as fast as it came', number(0.001, 1e6, false)).default(
          1,
        ),
      ],
    ],
    [
      'Judgement:',
      [
        option('--check', 'fail when a packet is lost, doubled, reordered or damaged').default(false),
        option('--search', 'look for the highest rate without loss, up to --rate (RFC 2544)').default(false),
        option('--loss <percent>', 'that a search allows', number(0, 99, false)).default(0),
        option('--resolution <percent>', 'at which a search ends', number(0.01, 50, false)).default(1),
        option('--json', 'print the account as JSON').default(false),
      ],
    ],
  ]
  for (const [heading, options] of groups) {
    for (const one of options) command.addOption(one.helpGroup(heading))
  }
  return command.addHelpText('after', EXAMPLES)
}
