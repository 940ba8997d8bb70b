/** The groups in which dpdk-devbind shows devices: by class, and some by vendor and device. */

/** A group's name on the command line. */
export type GroupName =
  | 'net'
  | 'baseband'
  | 'crypto'
  | 'dma'
  | 'event'
  | 'mempool'
  | 'compress'
  | 'misc'
  | 'regex'

/** Two hexadecimal digits of the class, and where it matters the vendor and its devices. */
type Kind = readonly [base: string, vendor?: string, devices?: readonly string[]]

/** A group of devices. */
export interface Group {
  readonly name: GroupName
  readonly title: string
  readonly kinds: readonly Kind[]
}

const CAVIUM = '177d'
const INTEL = '8086'
const IOAT = ['6f20', '6f21', '6f22', '6f23', '6f24', '6f25', '6f26', '6f27', '6f2e', '6f2f']

/** In the order in which they are shown. */
export const GROUPS: readonly Group[] = [
  {
    name: 'net',
    title: 'Network',
    kinds: [['02'], ['08', CAVIUM, ['a0dd', 'a049']], ['05', '1af4', ['1110']], ['12', INTEL, ['0b30']]],
  },
  { name: 'baseband', title: 'Baseband', kinds: [['12']] },
  { name: 'crypto', title: 'Crypto', kinds: [['10'], ['0b', INTEL]] },
  {
    name: 'dma',
    title: 'DMA',
    kinds: [
      ['08', CAVIUM, ['a081']],
      ['08', '19e5', ['a122']],
      ['08', INTEL, ['0b25', '2021', '0b00', ...IOAT]],
    ],
  },
  {
    name: 'event',
    title: 'Eventdev',
    kinds: [
      ['08', CAVIUM, ['a04b', 'a04d', 'a051', 'a0f9', 'a0fa']],
      ['0b', INTEL, ['270b', '2710', '2714']],
    ],
  },
  { name: 'mempool', title: 'Mempool', kinds: [['08', CAVIUM, ['a053', 'a0fb', 'a0fc']]] },
  { name: 'compress', title: 'Compress', kinds: [['12', CAVIUM, ['a037']]] },
  {
    name: 'misc',
    title: 'Misc (rawdev)',
    kinds: [
      ['08', CAVIUM, ['a089', 'a059', 'a060', 'a0f0', 'a0f1']],
      ['06', INTEL, ['201c', '347e']],
      ['01', '1af4', ['1001', '1042']],
    ],
  },
  { name: 'regex', title: 'Regex', kinds: [['08', CAVIUM, ['a0f4']]] },
]

/** What a device is by. */
export interface Identity {
  /** Six hexadecimal digits. */
  readonly class: string
  readonly vendor: string
  readonly device: string
}

/** Whether a device belongs to a group. */
export const belongs = (group: Group, { class: kind, vendor, device }: Identity): boolean =>
  group.kinds.some(
    ([base, maker = vendor, devices = [device]]) =>
      kind.startsWith(base) && maker === vendor && devices.includes(device),
  )
