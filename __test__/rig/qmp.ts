// QEMU's monitor: a line of JSON each way.
import type { Readable, Writable } from 'node:stream'

interface Reply {
  readonly return?: unknown
  readonly error?: { readonly desc: string }
  readonly event?: string
  readonly QMP?: unknown
}

/** Waits until `condition` gives something, for at most so many milliseconds; `what` is for the failure. */
export type Until = <T>(what: string, timeout: number, condition: () => T | undefined) => Promise<T>

export class Qmp {
  readonly #to: Writable
  readonly #until: Until
  readonly #timeout: number
  readonly #replies: Reply[] = []
  readonly #events: string[] = []
  #rest = ''
  #greeted = false

  /** `until` is called again after each message; the owner of the streams knows how to wait and when to give up. */
  constructor(from: Readable, to: Writable, until: Until, timeout: number, changed: () => void) {
    this.#to = to
    this.#until = until
    this.#timeout = timeout
    to.on('error', () => {}) // it has ended: the owner notices
    from.setEncoding('utf8').on('data', (data: string) => {
      const lines = (this.#rest + data).split('\n')
      this.#rest = lines.pop() ?? ''
      for (const line of lines) if (line.trim() !== '') this.#take(JSON.parse(line) as Reply)
      changed()
    })
  }

  /** The names of all events so far, oldest first. */
  get events(): readonly string[] {
    return this.#events
  }

  /** One command: `system_reset`, `set_link`, `query-status`, … Gives what it returns. */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    if (!this.#greeted) {
      await this.#until('the QMP greeting', this.#timeout, () =>
        this.#replies.shift()?.QMP === undefined ? undefined : true,
      )
      this.#greeted = true
      await this.execute('qmp_capabilities')
    }
    this.#to.write(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    const reply = await this.#until(`the answer to ${command}`, this.#timeout, () => this.#replies.shift())
    if (reply.error !== undefined) throw new Error(`${command} failed: ${reply.error.desc}`)
    return reply.return
  }

  #take(reply: Reply): void {
    if (reply.event === undefined) this.#replies.push(reply)
    else this.#events.push(reply.event)
  }
}
