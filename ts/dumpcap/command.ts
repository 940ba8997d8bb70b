/** `vring dumpcap`: captures on the ports of a running program, in the words of dpdk-dumpcap. */
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Host } from '../command.ts'
import { fromFailure, VringError } from '../errors.ts'
import { runtimeDirectory } from '../telemetry/runtime.ts'
import { type Bounds, Files, timeStamp } from './files.ts'
import { type Answer, type InterfaceStats, parseLine, type Request, SOCKET } from './protocol.ts'
import { Records } from './records.ts'

interface Given {
  readonly interface?: readonly string[]
  readonly listInterfaces: boolean
  readonly queue?: readonly number[]
  readonly direction: 'in' | 'out' | 'both'
  readonly filter?: string
  readonly write?: string
  readonly count?: number
  readonly snapshotLength?: number
  readonly autostop?: Bounds
  readonly ringBuffer?: Bounds
  readonly pcap: boolean
  readonly quiet: boolean
  readonly statistics: boolean
  readonly bufferSize?: number
  readonly filePrefix: string
}

const append = (text: string, list: readonly string[] = []): readonly string[] => [...list, text]

function positive(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : 0
  if (value > 0) return value
  throw new InvalidArgumentError('expected a number above 0.')
}

/** `filesize:1000` (kB), `duration:10`, `packets:100`, `files:3`; again for more. */
function bound(text: string, before: Bounds = {}): Bounds {
  const [, name, digits] = /^(filesize|duration|interval|packets|files):(\d+)$/.exec(text) ?? []
  const value = Number(digits)
  if (!(value > 0)) {
    throw new InvalidArgumentError('expected filesize:kB, duration:seconds, packets:number or files:number.')
  }
  if (name === 'filesize') return { ...before, bytes: value * 1000 }
  if (name === 'packets') return { ...before, packets: value }
  return name === 'files' ? { ...before, files: value } : { ...before, seconds: value }
}

function describe(command: Command): Command {
  return command
    .addOption(
      new Option(
        '-i, --interface <port>',
        'by name or number; again for more; any for all (default: the first)',
      ).argParser(append),
    )
    .option('-D, --list-interfaces', 'list the ports, and end', false)
    .option(
      '--queue <n>',
      'only this queue of each port; again for more',
      (text: string, list: readonly number[] | undefined) => {
        if (/^\d+$/.test(text)) return [...(list ?? []), Number(text)]
        throw new InvalidArgumentError('expected the number of a queue.')
      },
    )
    .addOption(
      new Option('--direction <which>', 'what the ports receive, send, or both')
        .choices(['in', 'out', 'both'])
        .default('both'),
    )
    .option('-f, --filter <expression>', 'only packets that this pcap filter takes')
    .option('-s, --snapshot-length <bytes>', 'at most so much of a packet', positive)
    .option(
      '-w, --write <file>',
      'write to this file, - for the standard output (default: a new one in the temporary folder)',
    )
    .option('-c, --count <n>', 'end after so many packets', positive)
    .option(
      '-a, --autostop <bound>',
      'end after duration:s, filesize:kB, packets:n or files:n; again for more',
      bound,
    )
    .option(
      '-b, --ring-buffer <bound>',
      'another file after filesize:kB, duration:s or packets:n; with files:n only the last n are kept',
      bound,
    )
    .option('-P, --pcap', 'write pcap, with nanoseconds, instead of pcapng', false)
    .option('-q, --quiet', 'do not show how many packets there are', false)
    .option('-S, --statistics', 'print counts of the ports once a second', false)
    .option('-B, --buffer-size <MiB>', 'memory between a queue and the writer (default: 4)', positive)
    .option('--file-prefix <name>', "the program's, as it was given to it", 'rte')
    .addHelpText(
      'after',
      `
Examples:
  vring dumpcap -D
  vring dumpcap -i net_vhost0 -f 'udp port 53' -w dns.pcapng
  vring dumpcap -i any -w - | wireshark -k -i -
  vring dumpcap -i 0 -w ring.pcapng -b filesize:10000 -b files:5`,
    )
}

/** Asks the program; resolves with its answer, and the socket if it goes on. */
async function ask(
  prefix: string,
  request: Request,
): Promise<{ answer: Answer; socket: Socket; rest: Buffer }> {
  const path = join(runtimeDirectory(prefix), SOCKET)
  const socket = connect({ path, allowHalfOpen: true })
  try {
    await new Promise<void>((resolve, reject) =>
      socket.once('connect', () => resolve()).once('error', reject),
    )
  } catch (cause) {
    const advice = 'start vring testpmd, or name the running one by its --file-prefix'
    throw new VringError(
      'ERR_VRING_NO_SUCH_PATH',
      `no program lets itself be captured at ${path} (${(cause as Error).message}); ${advice}`,
      { cause },
    )
  }
  socket.write(`${JSON.stringify(request)}\n`)
  let bytes: Buffer = Buffer.alloc(0)
  for (;;) {
    const chunk = socket.read() as Buffer | null
    if (chunk !== null) bytes = Buffer.concat([bytes, chunk])
    const end = bytes.indexOf('\n')
    if (end >= 0) {
      const answer = parseLine(bytes.toString('utf8', 0, end)) as Answer | undefined
      if (answer === undefined)
        throw new VringError('ERR_VRING_PEER', `expected JSON from ${path}, got something else`)
      if ('error' in answer) throw fromFailure(answer.error)
      return { answer, socket, rest: bytes.subarray(end + 1) }
    }
    if (chunk !== null) continue
    if (socket.readableEnded || socket.destroyed)
      throw new VringError('ERR_VRING_DISCONNECTED', `${path} ended without an answer`)
    await new Promise<void>((resolve) => {
      const done = (): void => {
        for (const name of ['readable', 'end', 'error', 'close']) socket.off(name, done)
        resolve()
      }
      for (const name of ['readable', 'end', 'error', 'close']) socket.once(name, done)
    })
  }
}

async function once(prefix: string, request: Request): Promise<Answer> {
  const { answer, socket } = await ask(prefix, request)
  socket.destroy()
  return answer
}

async function interfacesOf({ filePrefix, interface: given }: Given): Promise<readonly string[]> {
  const answer = await once(filePrefix, { ask: 'list' })
  const known = 'interfaces' in answer ? answer.interfaces : []
  if (known.length === 0)
    throw new VringError('ERR_VRING_INVALID_ARGUMENT', 'expected a program with ports, but it has none')
  if (given === undefined) return [known[0]!.name]
  return given.flatMap((name) => (name === 'any' ? known.map((one) => one.name) : [name]))
}

async function list(prefix: string): Promise<number> {
  const answer = await once(prefix, { ask: 'list' })
  if ('interfaces' in answer)
    for (const { id, name } of answer.interfaces) process.stdout.write(`${id}. ${name}\n`)
  return 0
}

function statsLines(stats: readonly InterfaceStats[]): string {
  return stats
    .map(({ name, captured, dropped }) => {
      const all = captured + dropped
      const share = all > 0 ? ((captured / all) * 100).toFixed(1) : '0.0'
      return `Packets received/dropped on interface '${name}': ${captured}/${dropped} (${share}%)\n`
    })
    .join('')
}

function defaultFile(interfaces: readonly string[], pcap: boolean): string {
  return join(
    tmpdir(),
    `vring_dumpcap_${interfaces[0]}_${timeStamp()}_${process.pid}.${pcap ? 'pcap' : 'pcapng'}`,
  )
}

/** Writes what comes until it ends; the first error of writing is thrown. */
async function receive(socket: Socket, rest: Buffer, files: Files, records: Records): Promise<void> {
  records.push(rest, files)
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    records.push(chunk, files)
    if (files.isFull) await files.drained()
  }
}

async function capture(given: Given): Promise<number> {
  const say = (text: string): void => void (given.quiet || process.stderr.write(text))
  const interfaces = await interfacesOf(given)
  const { count, autostop = {}, ringBuffer: ring, filePrefix } = given
  const limit = Math.min(count ?? Infinity, autostop.packets ?? Infinity)
  const path = given.write ?? defaultFile(interfaces, given.pcap)
  const format = given.pcap ? 'pcap' : 'pcapng'
  const { answer, socket, rest } = await ask(filePrefix, {
    ask: 'capture',
    interfaces,
    direction: given.direction,
    format,
    ...(given.queue === undefined ? {} : { queues: given.queue }),
    ...(given.snapshotLength === undefined ? {} : { snaplen: given.snapshotLength }),
    ...(given.filter === undefined ? {} : { filter: given.filter }),
    ...(given.bufferSize === undefined ? {} : { buffer: given.bufferSize << 20 }),
    ...(Number.isFinite(limit) ? { limit } : {}),
  })
  const id = 'id' in answer ? answer.id : 0
  let failed: Error | undefined
  const stop = (): void => void socket.end()
  const records = new Records(format)
  const files = new Files(path, records, ring, autostop, (error) => {
    failed ??= error
    stop()
  })
  process.on('SIGINT', stop).on('SIGTERM', stop)
  const timers: NodeJS.Timeout[] = []
  if (autostop.seconds !== undefined) timers.push(setTimeout(stop, autostop.seconds * 1000))
  const shown = (): Promise<Answer> => once(filePrefix, { ask: 'stats', id })
  const print = (what: Answer): void => void ('stats' in what && process.stderr.write(statsLines(what.stats)))
  if (given.statistics) timers.push(setInterval(() => void shown().then(print, () => {}), 1000))
  else if (process.stderr.isTTY) timers.push(setInterval(() => say(`\rPackets: ${files.packets} `), 250))
  say(`Capturing on ${interfaces.map((name) => `'${name}'`).join(' and ')}\n`)
  if (path !== '-' && ring === undefined) say(`File: ${path}\n`)
  try {
    await receive(socket, rest, files, records)
  } finally {
    for (const timer of timers) clearTimeout(timer)
    process.off('SIGINT', stop).off('SIGTERM', stop)
    await files.end()
  }
  if (failed !== undefined) {
    throw new VringError('ERR_VRING_SYSTEM', `cannot write the capture: ${failed.message}`, { cause: failed })
  }
  say(`${process.stderr.isTTY ? '\r' : ''}Packets captured: ${files.packets}\n`)
  const last = await shown().catch(() => undefined)
  if (last !== undefined && 'stats' in last) say(statsLines(last.stats))
  return 0
}

/** Adds `dumpcap` to the program. */
export function addDumpcap(program: Command, host: Pick<Host, 'exit'>): void {
  const command = program
    .command('dumpcap')
    .description('capture packets on the ports of a running vring testpmd')
  describe(command).action(async (given: Given) => {
    host.exit(await (given.listInterfaces ? list(given.filePrefix) : capture(given)))
  })
}
