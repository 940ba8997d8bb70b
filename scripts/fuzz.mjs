// `npm run fuzz -- [TARGET…] [--seconds N] [--keep]`: runs the fuzz targets of crates/fuzz under libFuzzer, each for so many seconds (default 10). Needs no
// nightly compiler. What it finds worth keeping is added to a scratch corpus; with `--keep`, the smallest set that covers the same goes to
// crates/fuzz/corpus, which the tests replay.
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { heading, root, run } from './run.mjs'

const TARGETS = ['device', 'driver', 'vhost_user']
const TRIPLE = 'x86_64-unknown-linux-gnu'
/** What libFuzzer needs of the compiler: counters on every edge, and the operands of comparisons. */
const FLAGS = [
  '--cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks',
  '-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4',
  '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table',
  '-Cllvm-args=-sanitizer-coverage-trace-compares',
].join(' ')

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string', default: '10' }, keep: { type: 'boolean', default: false } },
})
const unknown = positionals.filter((name) => !TARGETS.includes(name))
if (unknown.length > 0 || !(Number(values.seconds) > 0)) {
  console.error(`usage: npm run fuzz -- [${TARGETS.join(' | ')}]… [--seconds N] [--keep]`)
  process.exit(2)
}
const chosen = positionals.length > 0 ? positionals : TARGETS

heading('build')
const target = join(root, 'target/fuzz')
const built = await run(
  'cargo',
  ['build', '--release', '--locked', '-p', 'vring-fuzz', '--features', 'libfuzzer', '--target', TRIPLE],
  { extraEnv: { RUSTFLAGS: FLAGS, CARGO_TARGET_DIR: target, CARGO_PROFILE_RELEASE_LTO: 'false' } },
)
if (built.code !== 0) process.exit(1)

let failed = 0
for (const name of chosen) {
  heading(`fuzz ${name} for ${values.seconds} s`)
  const program = join(target, TRIPLE, 'release', name)
  const found = join(target, 'corpus', name)
  const kept = join(root, 'crates/fuzz/corpus', name)
  for (const folder of [found, kept]) mkdirSync(folder, { recursive: true })
  const artifacts = `-artifact_prefix=${target}/${name}-`
  const limits = ['-max_len=2048', '-timeout=10', '-rss_limit_mb=2048', artifacts]
  const { code } = await run(program, [
    `-max_total_time=${values.seconds}`,
    '-print_final_stats=1',
    ...limits,
    found,
    kept,
  ])
  if (code !== 0) failed += 1
  // By covered edges alone: one input for each is enough to replay.
  const edges = ['-set_cover_merge=1', '-use_counters=0', '-use_cmp=0']
  if (values.keep) await run(program, [...edges, ...limits, kept, found])
  console.log(`${readdirSync(kept).length} inputs in ${kept.slice(root.length + 1)}`)
}
console.log(`\nfuzz: ${chosen.length - failed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
