// On a kernel whose packet sockets have no headers for virtio 1: every kind of device.
import test from 'ava'
import { declareInside } from './rig/index.ts'

const inside = new URL('inside/vhost-net.spec.ts', import.meta.url).pathname
await declareInside(test, inside, 'guest', '6.1', { cpus: 3 })
