// `npm run guest -- COMMAND`: runs a command in a Debian guest that sees this machine's file system; without a command,
// a shell. Options: --kernel 6.1|6.12, --net SOCKET|user (again for each device), --memory MIB, --cpus N, --machine NAME,
// --append WORDS, --qemu "MORE ARGUMENTS". Installs QEMU and fetches the kernel when it must and can.
import { spawn } from 'node:child_process'
import { fetchKernel, SERIES } from './kernels.mjs'
import { ensurePeers } from './peers.mjs'
import { env, root, which } from './run.mjs'

const args = process.argv.slice(2)
const asked = args.includes('--kernel') ? args[args.indexOf('--kernel') + 1] : SERIES[0]

function fail(message) {
  console.error(`vring: ${message}`)
  process.exit(2)
}

if (!SERIES.includes(asked)) fail(`there is no kernel ${asked}: expected one of ${SERIES.join(', ')}`)
const tools = { 'qemu-system-x86_64': 'qemu-system-x86', busybox: 'busybox-static', cpio: 'cpio' }
const absent = () => Object.keys(tools).filter((tool) => which(tool) === undefined)
if (absent().length > 0) await ensurePeers()
for (const tool of absent()) fail(`${tool} is not installed (Debian: ${tools[tool]})`)
try {
  await fetchKernel(asked)
} catch (error) {
  fail(`Debian's kernel ${asked} cannot be fetched: ${error.message}`)
}
const guest = ['--import=@oxc-node/core/register', '__test__/guest/rig/main.ts', ...args]
const child = spawn(process.execPath, guest, { cwd: root, env, stdio: 'inherit' })
child.on('close', (code) => (process.exitCode = code ?? 1))
