// The tarball of `npm pack` installs and runs where there is no Rust, and says what to do where it has no binary.
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { existsSync } from 'node:fs'
import test from 'ava'
import { scratch } from './rig/index.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function run(command: string, args: readonly string[], cwd: string, path?: string): Promise<Result> {
  // The variables that npm sets for its scripts belong to the outer npm.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_|^NODE_OPTIONS$/i.test(name)),
  )
  return new Promise((resolve) => {
    const options = { cwd, env: path === undefined ? env : { ...env, PATH: path }, timeout: 240_000 }
    const child = execFile(command, args, options, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode ?? 1, stdout, stderr })
    })
  })
}

/** A folder to use as the whole PATH: node, npm and a shell, nothing else. */
function pathWithoutCargo(folder: string): string {
  mkdirSync(folder)
  for (const name of ['node', 'npm', 'npx', 'sh', 'env']) {
    const found = (process.env['PATH'] ?? '').split(delimiter).find((entry) => existsSync(join(entry, name)))
    if (found === undefined) throw new Error(`${name} is not on PATH`)
    symlinkSync(join(found, name), join(folder, name))
  }
  return folder
}

test('the tarball installs and runs without cargo, and without its binary says what to do', async (t) => {
  using folder = scratch()
  const app = folder.path('app')
  mkdirSync(app)
  const packed = await run('npm', ['pack', '--json', '--pack-destination', app], root)
  t.is(packed.code, 0, packed.stderr)

  const tarball = readdirSync(app).find((name) => name.endsWith('.tgz'))
  t.truthy(tarball)
  const path = pathWithoutCargo(folder.path('bin'))
  t.not((await run('sh', ['-c', 'command -v cargo'], app, path)).code, 0, 'cargo is still on PATH')
  writeFileSync(join(app, 'package.json'), '{"name":"app","private":true,"type":"module"}')
  const installed = await run('npm', ['install', '--no-audit', '--no-fund', `./${tarball}`], app, path)
  t.is(installed.code, 0, installed.stderr)

  const contents = readdirSync(join(app, 'node_modules/vring'))
  for (const name of ['dist', 'index.js', 'index.d.ts', 'LICENSE-MIT', 'LICENSE-APACHE', 'README.md']) {
    t.true(contents.includes(name), `${name} is not in the tarball`)
  }
  t.deepEqual(
    contents.filter((name) => ['crates', 'ts', '__test__', 'scripts', 'target'].includes(name)),
    [],
  )

  const program = `
    import { Mempool } from 'vring'
    const pool = new Mempool({ count: 1024, pages: '4K' })
    console.log(pool.count, pool.freeCount)
    pool.close()`
  const used = await run('node', ['--input-type=module', '-e', program], app, path)
  t.is(used.stdout, '1024 1024\n', used.stderr)
  const required = await run('node', ['-p', "typeof require('vring').Mempool"], app, path)
  t.regex(required.stdout, /function/, required.stderr)
  const version = await run('npx', ['--no-install', 'vring', '--version'], app, path)
  t.regex(version.stdout, /^\d+\.\d+\.\d+\n$/, version.stderr)

  for (const name of contents.filter((file) => file.endsWith('.node'))) {
    rmSync(join(app, 'node_modules/vring', name))
  }
  const without = await run('npx', ['--no-install', 'vring', '--version'], app, path)
  t.not(without.code, 0)
  t.regex(without.stderr, /linux/, 'names the platform')
  t.regex(without.stderr, /npm run build/, 'says what to do')
  t.notRegex(without.stderr, /^\s+at /m, 'is no stack trace')
  const load = `import('vring').then(() => 'loaded', (error) => error.code).then(console.log)`
  const code = await run('node', ['-e', load], app, path)
  t.regex(code.stdout, /^ERR_VRING_\w+\n$/, code.stderr)
})
