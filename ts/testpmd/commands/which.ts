/** Which port a command means. */
import type { Port } from '../../index.ts'
import type { Scene } from './grammar.ts'

/** Runs `then` on the port of that number, or says that there is none, with those that there are. */
export function onShownPort({ session, output }: Scene, id: number, then: (port: Port) => void): void {
  const port = session.ports.find((one) => one.id === id)
  if (port !== undefined) {
    then(port)
    return
  }
  output.err(`Invalid port ${id}\n`)
  output.out(`The valid ports array is [ ${session.ports.map((one) => `${one.id} `).join('')}]\n`)
}

/** Runs `then` on the port of that number, or says that there is none. */
export function onPort<T>({ session, output }: Scene, id: number, then: (port: Port) => T): T | undefined {
  const port = session.ports.find((one) => one.id === id)
  if (port === undefined) output.err(`Invalid port ${id}\n`)
  return port === undefined ? undefined : then(port)
}

/** A MAC address as a line has it, or undefined. */
export const macOf = (word: string): string | undefined =>
  /^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(word)
    ? word
        .split(':')
        .map((part) => part.padStart(2, '0').toLowerCase())
        .join(':')
    : undefined
