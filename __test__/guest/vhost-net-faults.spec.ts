// vhost in the kernel: what is deleted, refused and used up under a port.
import test from 'ava'
import { declareInside } from './rig/index.ts'

const inside = new URL('inside/vhost-net-faults.spec.ts', import.meta.url).pathname
await declareInside(test, inside, 'guest-6.12', '6.12', { cpus: 3 })
