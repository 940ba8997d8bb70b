// One spec file and one test at a time: the peers of these tests poll, and a machine may have two cores.
export default {
  files: ['__test__/**/*.spec.ts'],
  extensions: { ts: 'module' },
  workerThreads: false,
  concurrency: 1,
  serial: true,
  timeout: '5m',
  nodeArguments: ['--import=@oxc-node/core/register', '--expose-gc'],
}
