// Runs a spec file in a guest and brings each of its tests back as a test of this process.
import { relative } from 'node:path'
import type { TestFn } from 'ava'
import { missing, type Need } from '../../rig/available.ts'
import { Guest } from './guest.ts'
import type { GuestOptions } from './options.ts'

export interface InsideTest {
  readonly title: string
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** What ava said about it. */
  readonly details: string
}

/** Reads what `ava --tap` prints. */
export function readTap(output: string): readonly InsideTest[] {
  const point = /^(ok|not ok) \d+ - (.*?)( # (?:SKIP|TODO))?$((?:\n(?!ok |not ok |1\.\.).*)*)/gm
  return [...output.matchAll(point)].map(([, verdict, title = '', skipped, details = '']) => ({
    title,
    outcome: skipped !== undefined ? 'skipped' : verdict === 'ok' ? 'passed' : 'failed',
    details: details.trim(),
  }))
}

/** Runs the spec `file` in a guest that is there. A run that failed without a failed test is one failed test. */
export async function runInside(
  guest: Guest,
  file: string,
  timeout = 240_000,
): Promise<readonly InsideTest[]> {
  const name = relative(process.cwd(), file)
  const ava = 'node_modules/.bin/ava --tap --no-color'
  const { status, output } = await guest.attempt(`VRING_GUEST=1 NO_COLOR=1 ${ava} ${name} 2>&1`, timeout)
  const tests = readTap(output)
  if (status === 0 && tests.length > 0) return tests
  if (tests.some(({ outcome }) => outcome === 'failed')) return tests
  return [
    ...tests,
    { title: `${name} runs to its end`, outcome: 'failed', details: `status ${status}\n${output}` },
  ]
}

/** A file of its own failed to boot or to run: that is one failed test with the reason. */
async function boot(file: string, options: GuestOptions): Promise<readonly InsideTest[]> {
  try {
    await using guest = await Guest.start(options)
    return await runInside(guest, file, options.specTimeout)
  } catch (error) {
    return [{ title: `${file} runs in a guest`, outcome: 'failed', details: String(error) }]
  }
}

/**
 * Boots a guest, runs the spec `file` in it, and declares its tests with `prefix` before their titles. To be awaited at the
 * top of a spec: the tests of a file are declared before the first one runs. `need` says which kernel.
 */
export async function declareInside(
  test: TestFn,
  file: string,
  need: Extract<Need, `guest${string}`>,
  prefix: string,
  options: GuestOptions = {},
): Promise<void> {
  const reason = missing(need)
  if (reason !== undefined) {
    test.skip(`${prefix}: ${relative(process.cwd(), file)} [skipped: ${reason}]`, () => {})
    return
  }
  const kernel = need === 'guest' ? {} : { kernel: need.replace('guest-', '') }
  for (const { title, outcome, details } of await boot(file, { ...kernel, ...options })) {
    const declare = outcome === 'skipped' ? test.skip : test
    declare(`${prefix}: ${title}`, (t) => {
      if (outcome !== 'passed') return t.fail(`in the guest:\n${details}`)
      const logged = details.match(/(?<=^# +)\S.*/gm) ?? []
      if (logged.length > 0) t.log(logged.join('\n'))
      return t.pass()
    })
  }
}
