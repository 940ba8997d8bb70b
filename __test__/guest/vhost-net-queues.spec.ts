// vhost in the kernel, which only a guest has: on a tap with four queues.
import test from 'ava'
import { declareInside } from './rig/index.ts'

const inside = new URL('inside/vhost-net.spec.ts', import.meta.url).pathname
await declareInside(test, inside, 'guest-6.12', '6.12', { cpus: 3, append: 'wires=tap4' })
