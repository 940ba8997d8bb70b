// Guests for tests: a Debian kernel under QEMU without KVM, on any machine.
export { Guest, Job, type Result } from './guest.ts'
export { declareInside, type InsideTest, readTap, runInside } from './inside.ts'
export { bind, type Binding, GuestTestpmd, pciAddress, reserveHugepages } from './pci.ts'
export { type GuestOptions, vhostUserNic, type VhostUserNic } from './options.ts'
export { numbered, Wire } from './wire.ts'
