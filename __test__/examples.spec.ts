// The examples do what their first lines say, run as a reader would run them.
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const root = fileURLToPath(new URL('..', import.meta.url))

function run(name: string, ...args: string[]): Promise<string> {
  const argv = ['--import=@oxc-node/core/register', `examples/${name}.ts`, ...args]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, argv, { cwd: root, timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${name}: ${error.message}\n${stderr}`))
    })
  })
}

test('each is short', (t) => {
  const files = readdirSync(`${root}examples`).filter((name) => name.endsWith('.ts'))
  t.true(files.length >= 5)
  for (const name of files) {
    const lines = readFileSync(`${root}examples/${name}`, 'utf8').split('\n').length - 1
    t.true(lines < 60, `${name} has ${lines} lines`)
  }
  t.true(readFileSync(`${root}examples/readme.ts`, 'utf8').split('\n').length - 1 <= 30)
})

test('io forwards both ways', async (t) => {
  t.regex(
    await run('io', 'net_null0', 'net_null1', '--packets', '5000'),
    /^forwarded [5-9]\d{3}, dropped 0\n$/,
  )
})

test('macswap forwards', async (t) => {
  t.regex(await run('macswap', 'net_null0,copy=1', '--packets', '1000'), /^forwarded 1\d{3}, dropped 0\n$/)
})

test('rxonly counts', async (t) => {
  t.regex(
    await run('rxonly', 'net_null0,size=100', '--packets', '1000'),
    /^received 1024 packets, 102400 bytes\n {2}0x0000: 1024\n$/,
  )
})

test('txonly sends so many', async (t) => {
  t.is(await run('txonly', 'net_null0', '--packets', '1000', '--size', '200'), 'sent 1000 packets\n')
})

test('the script of the README swaps a packet’s addresses over vhost-user', async (t) => {
  t.is(await run('readme'), '02:00:00:00:00:01 -> 02:00:00:00:00:02, 60 bytes\n')
})
