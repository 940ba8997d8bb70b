// The rigs of the tests: real peers that nobody here wrote, and what this machine can run of them.
export { allowedCpus, missing, needs, reserveHugepages, type Need } from './available.ts'
export { Qemu, type QemuOptions } from './qemu.ts'
export { scratch } from './scratch.ts'
export * from './stats.ts'
export { ask, dpdkTelemetry } from './telemetry.ts'
export { Terminal } from './terminal.ts'
export { Testpmd, type TestpmdOptions, unprivileged } from './testpmd.ts'
