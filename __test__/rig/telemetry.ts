// Clients of telemetry sockets: DPDK's own program, and one for what it never sends.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

export type Answer = Readonly<Record<string, unknown>>

/** Sends each request, 16 KiB of them at most, and gives the greeting and the answers as they come. Node.js has no such sockets. */
const CLIENT = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
print(s.recv(1 << 20).decode())
for request in sys.argv[2:]:
    s.send(request.encode())
    print(s.recv(1 << 20).decode())
`

/** The greeting of the socket at `path`, and its answers to `requests`. */
export async function ask(path: string, ...requests: readonly string[]): Promise<readonly Answer[]> {
  const { stdout } = await run('python3', ['-c', CLIENT, path, ...requests])
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? {} : (JSON.parse(line) as Answer)))
}

/** What `dpdk-telemetry.py` prints for `requests` when it is given them on its input. */
export async function dpdkTelemetry(
  prefix: string,
  requests: readonly string[],
  { wrapper = [], env = {} }: { readonly wrapper?: readonly string[]; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<readonly Answer[]> {
  const [command, ...args] = [...wrapper, 'dpdk-telemetry.py', '-f', prefix]
  const running = run(command, args, { env: { ...process.env, ...env } })
  running.child.stdin!.end(requests.map((request) => `${request}\n`).join(''))
  const { stdout } = await running
  const lines = stdout.trim().split('\n')
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Answer)
}
