// Guests for tests: a Debian kernel under QEMU without KVM, on any machine.
export { Guest, Job, type Result } from './guest.ts'
export { declareInside, type InsideTest, readTap, runInside } from './inside.ts'
export { type GuestOptions, vhostUserNic, type VhostUserNic } from './options.ts'
