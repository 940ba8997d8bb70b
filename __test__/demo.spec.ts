// `vring demo` accounts for every packet, whatever ends it, and cleans up.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Mempool, Port } from '../ts/index.ts'
import { scratch } from './rig/index.ts'

interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const cli = fileURLToPath(new URL('../ts/cli.ts', import.meta.url))
const folders = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('vring-demo-'))

function demo(
  args: readonly string[],
  started?: (child: ChildProcess, output: string) => void,
): Promise<Result> {
  const child = spawn(process.execPath, ['--import=@oxc-node/core/register', cli, 'demo', ...args])
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    started?.(child, stdout)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })))
}

const numberOf = (stdout: string, name: string): number =>
  Number(new RegExp(`^ +${name} +([\\d,]+)`, 'm').exec(stdout)![1]!.replaceAll(',', ''))

test('so many packets are sent, swapped, and come back', async (t) => {
  const before = folders()
  const { code, stdout, stderr } = await demo(['--packets', '100000'])
  t.is(code, 0, stdout + stderr)
  t.is(numberOf(stdout, 'sent'), 100_000)
  t.true(numberOf(stdout, 'received') <= 100_000)
  t.regex(stdout, /every packet is accounted for/)
  t.deepEqual(folders(), before)
})

test('it ends by itself after its seconds, and prints rates meanwhile', async (t) => {
  const { code, stdout, stderr } = await demo(['--seconds', '1.5', '--size', '1500'])
  t.is(code, 0, stdout + stderr)
  t.true(numberOf(stdout, 'sent') > 0)
  t.regex(stdout, /^ +1 s +sent .*swapped .*back .*dropped 0/m)
})

test('SIGINT ends it with its account', async (t) => {
  const before = folders()
  let sent = false
  const { code, stdout, stderr } = await demo(['--seconds', '600'], (child, output) => {
    if (!sent && / 1 s /.test(output)) sent = child.kill('SIGINT')
  })
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /every packet is accounted for/)
  t.deepEqual(folders(), before)
})

test('a capture comes back with its addresses swapped, all else byte for byte', async (t) => {
  using folder = scratch()
  const [file, out] = [folder.path('in.pcap'), folder.path('back.pcap')]
  const packets = Array.from({ length: 300 }, (_, i) => frame(60 + ((i * 37) % 1400), i))
  await write(file, packets)
  const { code, stdout, stderr } = await demo(['--pcap', file, '--out', out])
  t.is(code, 0, stdout + stderr)
  t.is(numberOf(stdout, 'received'), 300)
  const expected = packets.map((packet) =>
    Buffer.concat([packet.subarray(6, 12), packet.subarray(0, 6), packet.subarray(12)]),
  )
  const came = await read(out)
  t.is(came.length, 300)
  t.deepEqual(came, expected)
})

test('a capture that is none, and options that are none, are errors that say so', async (t) => {
  using folder = scratch()
  writeFileSync(folder.path('no.pcap'), 'this is no capture')
  const bad = await demo(['--pcap', folder.path('no.pcap')])
  t.is(bad.code, 1)
  t.regex(bad.stderr, /no\.pcap.*ERR_VRING_CAPTURE/s)
  t.false(existsSync(folder.path('no.pcap.out.pcap.sock')))
  const unknown = await demo(['--secnods', '3'])
  t.is(unknown.code, 2)
  t.regex(unknown.stderr, /secnods/)
  t.is((await demo(['--seconds', '0'])).code, 2)
  t.regex((await demo(['--help'])).stdout, /--pcap FILE/)
})

function frame(length: number, seed: number): Buffer {
  const packet = Buffer.from({ length } as unknown as number[]).fill(seed & 255)
  packet.write('0200000000aa0200000000bb88b5', 'hex')
  packet.writeUInt32BE(seed, 14)
  return packet
}

/** Writes a capture by our own port. */
async function write(file: string, packets: readonly Buffer[]): Promise<void> {
  using mempool = new Mempool({ count: 1024, pages: '4K' })
  await using port = await Port.open({ driver: 'net_pcap', txPcap: file }, { mempool, rxQueues: 0 })
  using burst = mempool.createBurst(1)
  for (const packet of packets) {
    burst.push(packet)
    port.txQueues[0]!.txBurst(burst)
  }
}

async function read(file: string): Promise<Buffer[]> {
  using mempool = new Mempool({ count: 1024, pages: '4K' })
  await using port = await Port.open({ driver: 'net_pcap', rxPcap: file }, { mempool, txQueues: 0 })
  using burst = mempool.createBurst(64)
  const packets: Buffer[] = []
  while (port.rxQueues[0]!.rxBurst(burst) > 0) {
    for (let i = 0; i < burst.length; i++) packets.push(Buffer.from(burst.bytes(i)))
    burst.free()
  }
  return packets
}
