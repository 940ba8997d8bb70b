/**
 * Every receive and transmit path of DPDK's driver, against ours on the same features: `npm run bench -- paths`. The back end is the program's own,
 * so each row measures both halves. See compare.ts for how.
 */
import { compare, type Scenario } from './compare.ts'

const SIZES = [64, 1518]

interface Variant {
  readonly name: string
  readonly args: string
  readonly dpdkArgs?: string
  readonly dpdkEal?: readonly string[]
}

const switches = (packed: number, mergeable: number, inOrder: number): string =>
  `,packed_vq=${packed},mrg_rxbuf=${mergeable},in_order=${inOrder}`

const variants: readonly Variant[] = [
  ...[0, 1].flatMap((packed) =>
    [1, 0].flatMap((mergeable) =>
      [0, 1].map((inOrder) => ({
        name: [
          packed === 1 ? 'packed' : 'split',
          mergeable === 1 ? 'mergeable' : 'single buffers',
          ...(inOrder === 1 ? ['in order'] : []),
        ].join(', '),
        args: switches(packed, mergeable, inOrder),
      })),
    ),
  ),
  { name: 'split, single buffers (DPDK: vectorized)', args: switches(0, 0, 0), dpdkArgs: ',vectorized=1' },
  {
    name: 'packed, single buffers, in order (DPDK: vectorized, AVX-512)',
    args: switches(1, 0, 1),
    dpdkArgs: ',vectorized=1',
    dpdkEal: ['--force-max-simd-bitwidth=512'],
  },
]

const scenario = ({ name, args, ...dpdkOnly }: Variant, size: number): Scenario => ({
  name,
  counted: 'vhost',
  vhost: { forward: 'io' },
  user: { forward: 'io' },
  txFirst: 8,
  userArgs: args,
  ...dpdkOnly,
  size,
  goal: 0.9,
})

const scenarios = variants.flatMap((variant) => SIZES.map((size) => scenario(variant, size)))

/** Runs them, prints a table and writes `bench-results/paths.json`. */
export const paths = (argv: readonly string[]): Promise<void> => compare('paths', scenarios, argv)
