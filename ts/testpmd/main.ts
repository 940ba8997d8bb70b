/** The program `vring testpmd`. */
import { accessSync, constants, existsSync, readdirSync } from 'node:fs'
import { cpus } from 'node:os'
import { resolve } from 'node:path'
import { pciDevices, version } from '../index.ts'
import { allowedCpus } from '../machine/cpus.ts'
import { start, stop } from './commands/forward.ts'
import type { Command, Scene } from './commands/grammar.ts'
import { commandsFor, execute } from './commands/index.ts'
import { loadFile } from './commands/load.ts'
import { showStats } from './commands/show.ts'
import { type EalConfig, parseEal } from './eal.ts'
import { EndRequest } from './end.ts'
import { UsageError } from './getopt.ts'
import { type AppOptions, parseApp } from './options.ts'
import { FatalError, fatalText, messageOf, type Output, processOutput } from './output.ts'
import { openOutside } from './outside.ts'
import { checkLinks, createMempool, openPorts, shutDown } from './ports.ts'
import { ODD_PORTS_WARNING } from './print/config.ts'
import { STATS_PERIOD_HEADER } from './print/stats.ts'
import { Prompt } from './prompt.ts'
import { ScriptRunner } from './script/runner.ts'
import { watchScript } from './script/watch.ts'
import { Session } from './session.ts'
import { USAGE } from './usage.ts'

function numaNodes(): number {
  const nodes = '/sys/devices/system/node'
  return existsSync(nodes) ? readdirSync(nodes).filter((name) => /^node\d+$/.test(name)).length : 1
}

/** The devices on the PCI bus that this process may have. */
function usablePciDevices(): readonly string[] {
  const mayUse = (address: string): boolean => {
    try {
      accessSync(`/sys/bus/pci/devices/${address}/config`, constants.W_OK)
      return true
    } catch {
      return false
    }
  }
  const free = pciDevices().filter(({ access }) => access !== undefined)
  return free.map(({ address }) => address).filter(mayUse)
}

/** The command line, and what its halves say. */
interface Program {
  readonly argv: readonly string[]
  readonly eal: EalConfig
  readonly options: AppOptions
}

/** Both halves of the command line, checked. */
function parseArguments(argv: readonly string[]): Program {
  const dashes = argv.indexOf('--')
  const eal = parseEal(dashes < 0 ? argv : argv.slice(0, dashes), allowedCpus(), usablePciDevices())
  // Help about the second half must not depend on the first being complete.
  const ports = eal.devices.length
  const options = parseApp(dashes < 0 ? [] : argv.slice(dashes + 1), {
    forwarding: eal.lcores.map((lcore) => lcore.id).filter((id) => id !== eal.mainLcore),
    mainLcore: eal.mainLcore,
    ports,
  })
  return { argv, eal, options }
}

function printStart(eal: EalConfig, options: AppOptions, output: Output): void {
  output.err(`EAL: Detected CPU lcores: ${cpus().length}\nEAL: Detected NUMA nodes: ${numaNodes()}\n`)
  for (const note of eal.notes) output.err(`${note}\n`)
  if (eal.lcores.length < 2)
    throw new FatalError('No cores defined for forwarding\nCheck the core mask argument')
  if (eal.devices.length === 0) output.err('testpmd: No probed ethernet devices\n')
  for (const line of options.selected) output.out(`${line}\n`)
  for (const line of options.warnings) output.err(`${line}\n`)
}

/** Forwards without a prompt until Enter, the end of the input, or a signal. */
async function forwardAlone(session: Session, output: Output, end: EndRequest): Promise<void> {
  const { options } = session.parts
  output.out('No commandline core given, start packet forwarding\n')
  await start(session, output, options.txFirst ? 1 : 0)
  if (options.statsPeriod > 0) {
    const show = (): void => {
      output.out(STATS_PERIOD_HEADER)
      showStats({ session, output }, session.ports)
    }
    show()
    const timer = setInterval(show, options.statsPeriod * 1000)
    await end.promise
    clearInterval(timer)
    return
  }
  output.out('Press enter to exit\n')
  const entered = new Promise<void>((done) => {
    process.stdin
      .once('data', () => done())
      .once('end', () => done())
      .once('error', () => done())
  })
  await Promise.race([entered, end.promise])
  process.stdin.pause()
}

/** Runs the commands of `--cmdline-file`; whether one of them was `quit`. */
async function runCommandFile(
  session: Session,
  output: Output,
  commands: readonly Command[],
): Promise<boolean> {
  const { cmdlineFile } = session.parts.options
  let left = false
  if (cmdlineFile === undefined) return left
  const scene: Scene = { session, output, quit: () => void (left = true) }
  const run = async (line: string): Promise<void> => {
    if (!left) await execute(commands, scene, line)
  }
  await loadFile(scene, cmdlineFile.path, cmdlineFile.echo, run)
  return left
}

async function promptFor(session: Session, output: Output, end: EndRequest): Promise<void> {
  const { autoStart } = session.parts.options
  const commands = commandsFor(session.parts.script !== undefined)
  const left = await runCommandFile(session, output, commands)
  if (left) return
  if (autoStart && !session.forwarding) {
    output.out('Start automatic packet forwarding\n')
    await start(session, output, 0)
  }
  const prompt: Prompt = new Prompt(
    { input: process.stdin, output: process.stdout },
    {
      commands,
      ports: () => session.ports.map((port) => port.id),
      execute: (line) => execute(commands, { session, output, quit: () => prompt.close() }, line),
    },
  )
  void end.promise.then(() => prompt.close())
  await prompt.run()
}

/** Loads the script before anything else is set up: an error in it should be the first thing one sees. */
async function loadScript(
  eal: EalConfig,
  options: AppOptions,
  output: Output,
): Promise<ScriptRunner | undefined> {
  if (options.script === undefined) return undefined
  const file = resolve(options.script)
  if (!existsSync(file))
    throw new FatalError(`--script ${options.script}: there is no such file (looked for ${file})`)
  const script = new ScriptRunner(file, (text) => output.out(text))
  const lcores = eal.lcores.filter((lcore) => lcore.id !== eal.mainLcore).slice(0, options.nbCores)
  try {
    await script.load(lcores)
  } catch (error) {
    await script.close()
    throw error
  }
  return script
}

async function runSession(program: Program, output: Output, end: EndRequest): Promise<void> {
  const { eal, options } = program
  const script = await loadScript(eal, options, output)
  try {
    using mempool = createMempool(eal, options, output)
    const odd = options.nbPorts % 2 === 1 && options.topology === 'paired'
    if (odd) output.err(ODD_PORTS_WARNING)
    const ports = await openPorts(eal.devices, mempool, options, output)
    const lcores = eal.lcores.filter((lcore) => lcore.id !== eal.mainLcore)
    const session = new Session({ ports, mempool, lcores, mainLcore: eal.mainLcore, options, output, script })
    const unwatch = options.watch ? watchScript(session, output) : undefined
    try {
      await using _outside = await openOutside({ ...program, ports: () => session.ports }, output)
      await Promise.race([checkLinks(ports, options, output), end.promise])
      await (options.interactive ? promptFor(session, output, end) : forwardAlone(session, output, end))
    } finally {
      unwatch?.()
      if (session.forwarding) await stop(session, output)
      await session.close()
      await shutDown(session.ports, output)
      output.out('\nBye...\n')
    }
  } finally {
    await script?.close()
  }
}

/**
 * Runs `vring testpmd` with the arguments behind these two words; resolves with the exit status: 0 after quit, the end of
 * the input, SIGINT or SIGTERM, 1 when it could not start.
 */
export async function testpmd(argv: readonly string[], output: Output = processOutput): Promise<number> {
  const end = new EndRequest()
  try {
    const program = parseArguments(argv)
    const { eal, options } = program
    if (eal.help || options.help) output.out(USAGE)
    else if (eal.version) output.err(`EAL: RTE Version: 'vring ${version}'\n`)
    else {
      printStart(eal, options, output)
      await runSession(program, output, end)
    }
    return 0
  } catch (error) {
    if (error instanceof UsageError)
      output.err(`vring testpmd: ${error.message}\nTry: vring testpmd --help\n`)
    output.err(
      fatalText(error instanceof UsageError ? 'Command line is incomplete or incorrect' : messageOf(error)),
    )
    return 1
  } finally {
    end.dispose()
  }
}
