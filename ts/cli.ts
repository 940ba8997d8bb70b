#!/usr/bin/env node
/** The command `vring`. */
import { Command, CommanderError } from 'commander'
import type { Host } from './command.ts'
import { VringError } from './errors.ts'

/** What the addon says when it cannot be loaded is an instruction; its stack would only hide it. */
function explain(error: unknown): string {
  if (error instanceof VringError) return `vring: ${error.message} (${error.code})`
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

async function runTestpmd(argv: readonly string[]): Promise<number> {
  const { testpmd } = await import('./testpmd/main.ts')
  return testpmd(argv)
}

async function runDemo(argv: readonly string[]): Promise<number> {
  const { demo } = await import('./demo.ts')
  return demo(argv)
}

async function runKni(argv: readonly string[]): Promise<number> {
  const { kni } = await import('./kni/command.ts')
  return kni(argv)
}

async function runCommander(argv: readonly string[]): Promise<number> {
  const [{ version }, { addGen }, { addDumpcap }, { addDoctor }, { addDevbind }, { addHugepages }] =
    await Promise.all([
      import('./index.ts'),
      import('./gen/command.ts'),
      import('./dumpcap/command.ts'),
      import('./doctor/command.ts'),
      import('./devbind/command.ts'),
      import('./hugepages/command.ts'),
    ])
  const program = new Command('vring')
    .description('A virtio and vhost poll-mode driver for Node.js')
    .version(version)
    .exitOverride()
  program
    .command('testpmd')
    .description('forward packets between ports, called like dpdk-testpmd (vring testpmd --help)')
  program
    .command('demo')
    .description('a vhost-user pair with a TypeScript script in the loop (vring demo --help)')
  program
    .command('kni')
    .description("kernel interfaces vEth0, … for ports, called like DPDK's kni (vring kni --help)")
  let status = 0
  const host: Host = {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    exit: (of) => (status = of),
  }
  for (const add of [addGen, addDumpcap, addDoctor, addDevbind, addHugepages]) add(program, host)
  if (argv.length === 0) {
    program.outputHelp({ error: true })
    return 1
  }
  try {
    await program.parseAsync(argv, { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode
    throw error
  }
}

/** Runs `vring` with `argv` behind the program's name; resolves with the exit status. */
async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv
  // They read their own arguments: testpmd's are EAL's way, two halves with -- between.
  if (command === 'testpmd') return runTestpmd(rest)
  if (command === 'demo') return runDemo(rest)
  if (command === 'kni') return runKni(rest)
  return runCommander(argv)
}

let status = 1
try {
  status = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`${explain(error)}\n`)
}
process.exit(status)
