// `npm test`: everything, in order. `npm test -- cargo` (or types, ava) runs one part. The output of each part comes
// as it is; the last line is the total of all: `N passed, N failed` and, when there are any, `, N skipped`.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ensurePeers } from './peers.mjs'
import { heading, root, run } from './run.mjs'

const inCi = Boolean(process.env['CI'])
const chosen = process.argv.slice(2)
const skipped = []
const total = { passed: 0, failed: 0, skipped: 0 }

/** Adds up all the numbers that a pattern's first group finds. */
function sum(text, pattern) {
  return [...text.matchAll(pattern)].reduce((count, match) => count + Number(match[1]), 0)
}

/** A part that ended badly without a failed test (it did not compile, it crashed) is one failure. */
function count(part, { passed, failed, skipped: left = 0 }, code) {
  const failures = failed === 0 && code !== 0 ? 1 : failed
  console.log(`\n${part}: ${passed} passed, ${failures} failed${left > 0 ? `, ${left} skipped` : ''}`)
  total.passed += passed
  total.failed += failures
  total.skipped += left
}

async function build() {
  const { code } = await run('node', ['scripts/build.mjs', '--if-needed'])
  if (code !== 0) count('build', { passed: 0, failed: 1 }, code)
  return code === 0
}

async function cargo() {
  const args = ['test', '--workspace', '--no-fail-fast', '--locked']
  // What is too slow for every day is marked `ignore`; CI runs it too. Doctests have no slow ones, only unfit ones.
  const targets = inCi ? [['--lib', '--bins', '--tests', '--', '--include-ignored'], ['--doc']] : [[]]
  // The rings once more, over atomics that show every order of events: such a build can run nothing else.
  const proofs = [
    'test',
    '-p',
    'vring-ring',
    '--features',
    'loom',
    '--lib',
    '--no-fail-fast',
    '--locked',
    'model::',
  ]
  for (const target of [...targets, proofs]) {
    const { code, output } = await run('cargo', target === proofs ? proofs : [...args, ...target])
    const plain = output.replaceAll(/\u001b\[[0-9;]*m/g, '')
    for (const [, name, reason] of plain.matchAll(/^test (.+?) \.\.\. ignored(?:, (.*))?$/gm)) {
      skipped.push(`cargo: ${name}: ${reason ?? 'no reason given'}`)
    }
    const result = {
      passed: sum(plain, /^test result: .*?(\d+) passed/gm),
      failed: sum(plain, /^test result: .*?(\d+) failed/gm),
      skipped: sum(plain, /^test result: .*?(\d+) ignored/gm),
    }
    const part = target === proofs ? 'cargo (the rings in every order of events)' : 'cargo'
    count(target.includes('--doc') ? 'cargo (examples in the documentation)' : part, result, code)
  }
}

/** The public declarations: each file of __test__/types is one test, and it passes when it compiles. */
async function types() {
  const folder = '__test__/types'
  const files = readdirSync(join(root, folder)).filter((name) => name.endsWith('.ts'))
  if (files.length === 0) return
  const { code, output } = await run('tsc', ['-p', folder, '--pretty', 'false'])
  const broken = files.filter((name) => output.includes(`${folder}/${name}(`))
  for (const name of files) console.log(`  ${broken.includes(name) ? 'failed' : 'ok    '} ${folder}/${name}`)
  count('types', { passed: files.length - broken.length, failed: broken.length }, code)
}

async function ava() {
  const { code, output } = await run('ava', ['--no-color'], { extraEnv: { NO_COLOR: '1', FORCE_COLOR: '0' } })
  // Ava sums up only what went wrong, so its one line per test is counted; what comes after the rule is detail.
  const list = output.split(/^\s+─$/m)[0] ?? ''
  const lines = (pattern) => [...list.matchAll(pattern)]
  for (const [, title] of lines(/^\s+- (?:\[skip\] )?(.+)$/gm)) skipped.push(`ava: ${title}`)
  const crashes = sum(
    output,
    /^\s+(\d+) (?:uncaught exceptions?|unhandled rejections?|test files? (?:was|were) not)/gm,
  )
  const result = {
    passed: lines(/^\s+✔ /gm).length,
    failed: lines(/^\s+✘ \[fail\]: /gm).length + crashes,
    skipped: lines(/^\s+- /gm).length,
  }
  count('ava', result, code)
}

const parts = { cargo, types, ava }
const unknown = chosen.filter((name) => !Object.hasOwn(parts, name))
if (unknown.length > 0) {
  console.error(
    `there is no part ${unknown.join(', ')}: expected any of ${Object.keys(parts).join(', ')}, or nothing for all`,
  )
  process.exit(2)
}
if (!existsSync(join(root, 'node_modules/.bin/ava'))) {
  console.error('the development dependencies are missing: run `npm ci` first')
  process.exit(2)
}

heading('the peers that the tests run against')
await ensurePeers()
heading('build')
if (await build()) {
  for (const [name, part] of Object.entries(parts)) {
    if (chosen.length > 0 && !chosen.includes(name)) continue
    heading(name)
    await part()
  }
}
if (skipped.length > 0) heading(`skipped\n${skipped.map((line) => `  ${line}`).join('\n')}`)
const left = total.skipped > 0 ? `, ${total.skipped} skipped` : ''
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0
console.log(`\n${total.passed} passed, ${total.failed} failed${left}`)
