/** Side by side with `dpdk-testpmd`, each engine: `npm run bench -- dpdk`. See compare.ts for how. */
import { compare, type Scenario } from './compare.ts'

const scenarios: readonly Scenario[] = [
  {
    name: 'virtio txonly → vhost rxonly',
    counted: 'vhost',
    vhost: { forward: 'rxonly' },
    user: { forward: 'txonly' },
    goal: 0.9,
  },
  {
    name: 'vhost txonly → virtio rxonly',
    counted: 'user',
    vhost: { forward: 'txonly' },
    user: { forward: 'rxonly' },
    goal: 0.9,
  },
  {
    name: 'io ⇄ io',
    counted: 'vhost',
    vhost: { forward: 'io' },
    user: { forward: 'io' },
    txFirst: 8,
    goal: 0.9,
  },
  {
    name: 'macswap ⇄ io',
    counted: 'vhost',
    vhost: { forward: 'macswap' },
    user: { forward: 'io' },
    txFirst: 8,
    goal: 0.9,
  },
  {
    name: 'macswap in TypeScript ⇄ io (DPDK: macswap in C)',
    counted: 'vhost',
    vhost: { forward: 'macswap' },
    user: { forward: 'io' },
    txFirst: 8,
    script: new URL('../examples/macswap.ts', import.meta.url).pathname,
    goal: 0.7,
  },
]

/** Runs them, prints a table and writes `bench-results/dpdk.json`. */
export const dpdk = (argv: readonly string[]): Promise<void> => compare('dpdk', scenarios, argv)
