// `npm run lint`: every check runs, also when an earlier one failed. The last line is `lint: N passed, N failed`.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { heading, root, run } from './run.mjs'

const MOST_LINES = 500
const SOURCES = ['crates', 'ts', '__test__', 'benches', 'examples', 'scripts']

/** A file that nobody can hold in the head is two files. */
function sizes() {
  const long = SOURCES.filter((folder) => existsSync(join(root, folder))).flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true })
      .filter((name) => /\.(rs|ts|mjs|js)$/.test(name))
      .map((name) => ({
        name: `${folder}/${name}`,
        lines: readFileSync(join(root, folder, name), 'utf8').split('\n').length - 1,
      }))
      .filter(({ lines }) => lines > MOST_LINES),
  )
  for (const { name, lines } of long)
    console.log(`${name} has ${lines} lines: at most ${MOST_LINES} are wanted, split it by concern`)
  return long.length === 0 ? 0 : 1
}

/** The lock file must work everywhere: it says which packages, not where from. */
function lockfile() {
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8')
  const addresses = [...lock.matchAll(/"resolved": "(https?:[^"]+)"/g)].map((match) => match[1])
  for (const address of addresses)
    console.log(`package-lock.json names ${address}: keep .npmrc as it is, and lock again`)
  return addresses.length === 0 ? 0 : 1
}

const command =
  (name, ...args) =>
  async () =>
    (await run(name, args)).code
const checks = [
  ['cargo fmt --check', command('cargo', 'fmt', '--all', '--check')],
  [
    'cargo clippy',
    command(
      ...['cargo', 'clippy', '--workspace', '--exclude', 'vring-node', '--all-targets', '--locked'],
      ...['--', '-D', 'warnings'],
    ),
  ],
  // Its symbols come from node: there is no test binary of it, and what N-API exports looks unused in one.
  ['cargo clippy (node)', command('cargo', 'clippy', '-p', 'vring-node', '--locked', '--', '-D', 'warnings')],
  ['build the declarations', command('node', 'scripts/build.mjs', 'ts')],
  ['tsc', command('tsc', '-p', 'tsconfig.json')],
  ['oxlint', command('oxlint', '--type-aware', '--deny-warnings')],
  ['oxfmt --check', command('oxfmt', '--check')],
  ['lines per file', async () => sizes()],
  ['package-lock.json', async () => lockfile()],
]

const failed = []
for (const [name, check] of checks) {
  heading(name)
  if ((await check()) !== 0) failed.push(name)
}
if (failed.length > 0) console.log(`\nlint failed: ${failed.join(', ')}`)
console.log(`\nlint: ${checks.length - failed.length} passed, ${failed.length} failed`)
process.exitCode = failed.length > 0 ? 1 : 0
