// Promise: a program that drives the prompt through a terminal or a pipe sees what it sees of dpdk-testpmd: the prompt's
// words alone, its own typing echoed behind them, the answer, the next prompt, also when it types ahead.
import { PassThrough } from 'node:stream'
import test from 'ava'
import { commandsFor } from '../../ts/testpmd/commands/index.ts'
import { cutLine, Prompt, type Terminal } from '../../ts/testpmd/prompt.ts'

interface Screen {
  readonly prompt: Prompt
  readonly input: PassThrough
  readonly ended: Promise<void>
  readonly lines: readonly string[]
  readonly text: () => string
}

function screen(isTTY: boolean, run?: (line: string) => Promise<void>): Screen {
  const [input, output] = [new PassThrough(), new PassThrough()]
  Object.assign(input, { isTTY, setRawMode: () => input })
  Object.assign(output, { isTTY, columns: 80 })
  let text = ''
  output.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  const lines: string[] = []
  const prompt: Prompt = new Prompt({ input, output } as unknown as Terminal, {
    commands: commandsFor(false),
    ports: () => [0],
    async execute(line) {
      lines.push(line)
      await run?.(line)
      if (line === 'quit') prompt.close()
      else if (line !== '') output.write(`answer to ${line}\n`)
    },
  })
  return { prompt, input, ended: prompt.run(), lines, text: () => text }
}

test('on a terminal the prompt is its words alone, and what is typed is echoed', async (t) => {
  const { input, ended, text } = screen(true)
  input.write('start\n')
  input.write('quit\n')
  await ended
  t.is(text(), 'testpmd> start\r\nanswer to start\ntestpmd> quit\r\n')
})

test('lines that are typed ahead wait for the answer to the one before', async (t) => {
  const { input, ended, text, lines } = screen(true, () => new Promise((done) => setImmediate(done)))
  input.write('one\ntwo\r\n\rquit\n')
  await ended
  t.deepEqual(lines, ['one', 'two', '', 'quit'])
  t.is(text(), 'testpmd> one\r\nanswer to one\ntestpmd> two\r\nanswer to two\ntestpmd> \r\ntestpmd> quit\r\n')
})

test('Ctrl-C throws the line away and asks again; Ctrl-D ends', async (t) => {
  const { input, ended, text, lines } = screen(true)
  input.write('sto\x03')
  input.write('stop\n')
  input.write('\x04')
  await ended
  t.deepEqual(lines, ['stop'])
  t.is(text(), 'testpmd> sto\r\ntestpmd> stop\r\nanswer to stop\ntestpmd> ')
})

test('a pipe is echoed, and its end is the end', async (t) => {
  const { input, ended, text, lines } = screen(false)
  input.end('start\nstop')
  await ended
  t.deepEqual(lines, ['start', 'stop'])
  t.is(text(), 'testpmd> start\r\nanswer to start\ntestpmd> stop\r\nanswer to stop\ntestpmd> ')
})

test('line ends of every kind end a line', (t) => {
  t.deepEqual(cutLine('a\r\nb'), ['a\r\n', 'b'])
  t.deepEqual(cutLine('a\rb\n'), ['a\r', 'b\n'])
  t.is(cutLine('abc'), undefined)
})
