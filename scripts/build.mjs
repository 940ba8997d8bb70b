// Builds the addon and the TypeScript: `build.mjs [native|ts] [--if-needed]`. With --if-needed (npm run demo, npm test,
// npm pack) the addon is left alone when nothing that it is made of is newer than it.
import { chmodSync, existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { root, run, which } from './run.mjs'

const parts = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const ifNeeded = process.argv.includes('--if-needed')
const wanted = (part) => parts.length === 0 || parts.includes(part)

function fail(message, output = '') {
  if (output) process.stderr.write(output)
  console.error(`vring: ${message}`)
  process.exit(1)
}

/** When `path` or anything in it was last changed. A folder counts too: a file that went away changes it. */
function changed(path) {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => changed(join(path, name))))
}

function isFresh() {
  const addon = readdirSync(root).find((name) => /^vring\.linux-.*\.node$/.test(name))
  if (addon === undefined || !existsSync(join(root, 'index.js'))) return false
  const sources = ['crates', 'Cargo.toml', 'Cargo.lock', 'package.json'].map((name) =>
    changed(join(root, name)),
  )
  return Math.max(...sources) < statSync(join(root, addon)).mtimeMs
}

async function native() {
  if (ifNeeded && isFresh()) return
  if (!which('cargo')) {
    fail(
      'building needs Rust 1.88 or newer, but there is no `cargo` on PATH. Install it from https://rustup.rs',
    )
  }
  const args = ['build', '--platform', '--release', '--manifest-path', 'crates/node/Cargo.toml']
  args.push('--package-json-path', 'package.json', '--output-dir', '.')
  args.push('--esm', '--js', 'index.js', '--dts', 'index.d.ts')
  const { code } = await run('napi', args)
  if (code !== 0) fail('the addon did not build, see above')
}

async function typescript() {
  const info = join(root, 'build/tsconfig.build.tsbuildinfo')
  // Without dist/ the compiler's memory of what it has written is wrong.
  if (!existsSync(join(root, 'dist'))) rmSync(info, { force: true })
  const { code, output } = await run('tsc', ['-p', 'tsconfig.build.json'], { quiet: true })
  if (code !== 0) fail('the TypeScript did not compile, see above', output)
  const cli = join(root, 'dist/cli.js')
  if (existsSync(cli)) chmodSync(cli, 0o755)
}

if (wanted('native')) await native()
if (wanted('ts')) await typescript()
