// The same on a kernel whose vhost workers are its own.
import test from 'ava'
import { declareInside } from './rig/index.ts'

const inside = new URL('inside/vhost-net-faults.spec.ts', import.meta.url).pathname
await declareInside(test, inside, 'guest', '6.1', { cpus: 3 })
