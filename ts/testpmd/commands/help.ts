/** help. */
import type { Command } from './grammar.ts'

const TITLES = {
  control: ['Control forwarding', 'Start and stop forwarding.'],
  display: ['Display', 'Ports, statistics and what is configured.'],
  config: ['Configuration', 'What the next start forwards with.'],
} as const

type Section = keyof typeof TITLES
const SECTIONS = Object.keys(TITLES) as Section[]

function overview(): string {
  const row = (name: string, text: string): string => `    help ${name.padEnd(27)}: ${text}`
  const rows = SECTIONS.map((section) => row(section, TITLES[section][1]))
  return [
    '',
    'Help is available for the following sections:',
    '',
    ...rows,
    row('all', 'All of them.'),
    '',
    '',
  ].join('\n')
}

function sectionText(commands: readonly Command[], section: Section): string {
  const title = `${TITLES[section][0]}:`
  const rows = commands.filter((command) => command.section === section)
  const text = rows.map(
    ({ pattern, help }) => `${pattern.replaceAll(/<(\w+):\d+>/g, '<$1>')}\n    ${help}\n\n`,
  )
  return `\n${title}\n${'-'.repeat(title.length)}\n\n${text.join('')}`
}

/** `help` about `commands`. */
export const helpCommands = (commands: readonly Command[]): readonly Command[] => [
  {
    pattern: 'help',
    section: 'control',
    help: 'The sections of this help.',
    run: ({ output }) => output.out(overview()),
  },
  {
    pattern: `help ${SECTIONS.join('|')}|all`,
    section: 'control',
    help: 'The commands of a section.',
    run: ({ output }, [section]) => {
      const wanted = SECTIONS.filter((one) => section === 'all' || section === one)
      for (const one of wanted) output.out(sectionText(commands, one))
    },
  },
]
