// Promises: a line at the prompt means what it means in dpdk-testpmd, also when it is wrong; completion offers what fits.
import { readFileSync } from 'node:fs'
import test from 'ava'
import { commandsFor } from '../../ts/testpmd/commands/index.ts'
import { complete, readNumber, understand } from '../../ts/testpmd/commands/grammar.ts'

const commands = commandsFor(false)
const answers = { unknown: 'Command not found', bad: 'Bad arguments' } as const

const meaning = (line: string) => understand(commands, line)

test('wrong lines are refused with the words that dpdk-testpmd has for them', (t) => {
  const recorded = readFileSync(new URL('transcripts/refused.txt', import.meta.url), 'utf8').trimEnd()
  for (const row of recorded.split('\n')) {
    const [line = '', answer] = row.split('\t')
    const { kind } = meaning(line)
    const said: string = kind === 'unknown' || kind === 'bad' ? answers[kind] : kind
    t.is(said, answer ?? '', `"${line}"`)
  }
})

test('blank lines and comments mean nothing, and spaces do not matter', (t) => {
  for (const line of ['', '   ', '# a comment']) t.is(meaning(line).kind, 'nothing')
  for (const line of ['  show   port  stats   0  ', 'show port stats 0 # x'])
    t.is(meaning(line).kind, 'command')
})

test('every command of the issue is there', (t) => {
  const lines = [
    'start',
    'start tx_first',
    'start tx_first 3',
    'stop',
    'show port stats all',
    'show port info 0',
  ]
  lines.push(
    'show port summary all',
    'show config rxtx',
    'show config fwd',
    'show config cores',
    'clear port stats all',
  )
  lines.push(
    'clear port stats 1',
    'set fwd macswap',
    'set burst 16',
    'set txpkts 64,128',
    'set nbcore 1',
    'help',
    'quit',
  )
  for (const line of lines) t.is(meaning(line).kind, 'command', line)
})

test('set fwd takes the script only when there is one', (t) => {
  t.is(meaning('set fwd script').kind, 'bad')
  t.is(understand(commandsFor(true), 'set fwd script').kind, 'command')
})

test('numbers are decimal, hexadecimal, binary or octal, and must fit', (t) => {
  const texts = ['0', '10', '0x10', '0b11', '010', '65535']
  t.deepEqual(
    texts.map((text) => readNumber(text, 16)),
    [0, 10, 16, 3, 8, 65535],
  )
  for (const text of ['65536', '-1', '1x', '', '09', '1.5']) t.is(readNumber(text, 16), undefined, text)
})

test('completion offers words that can follow, and the numbers of ports', (t) => {
  t.deepEqual(complete(commands, 'sto', [0]), ['stop'])
  t.deepEqual(complete(commands, 'show port su', [0]), ['summary'])
  t.deepEqual(complete(commands, 'show port stats ', [0, 1]), ['all', '0', '1'])
  t.deepEqual(complete(commands, 'set fwd m', [0]), ['mac', 'macswap'])
  t.deepEqual(complete(commands, 'set fwd io ', [0]), ['retry'])
  t.deepEqual(complete(commands, 'nonsense ', [0]), [])
})
