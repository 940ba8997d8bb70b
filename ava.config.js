// One spec file and one test at a time: the peers of these tests poll, and a machine may have two cores.
// What is in __test__/guest/inside runs in a guest, which sets VRING_GUEST.
export default {
  files: ['__test__/**/*.spec.ts', ...(process.env['VRING_GUEST'] ? [] : ['!__test__/guest/inside/**'])],
  extensions: { ts: 'module' },
  workerThreads: false,
  concurrency: 1,
  serial: true,
  timeout: '5m',
  nodeArguments: ['--import=@oxc-node/core/register', '--expose-gc'],
}
