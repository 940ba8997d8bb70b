/** What the demo prints: rates while it runs, and the account at the end. */
import type { Drops } from '../stats.ts'

/** How many packets got how far. */
export interface Progress {
  readonly sent: number
  readonly swapped: number
  readonly received: number
  /** Every drop on the way, by name. */
  readonly drops: Drops
}

/** The account of a run. */
export interface Account extends Progress {
  /** Buffers that did not come back, by mempool. */
  readonly missingBuffers: Readonly<Record<string, number>>
  readonly milliseconds: number
}

const whole = (n: number): string => Math.round(n).toLocaleString('en-US')
const total = (drops: Drops): number => Object.values(drops).reduce((sum, n) => sum + n, 0)

function rate(packets: number, milliseconds: number): string {
  const perSecond = milliseconds > 0 ? (packets * 1000) / milliseconds : 0
  if (perSecond >= 1e6) return `${(perSecond / 1e6).toFixed(2)} Mpps`
  return perSecond >= 1e3 ? `${(perSecond / 1e3).toFixed(1)} kpps` : `${perSecond.toFixed(0)} pps`
}

/** Prints the rates since it was last asked: in place on a terminal, a line each time elsewhere. */
export class LiveRates {
  readonly #out: NodeJS.WriteStream
  readonly #start = performance.now()
  #last = this.#start
  #before: Progress = { sent: 0, swapped: 0, received: 0, drops: {} }
  #inPlace = false

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  print(now: Progress): void {
    const time = performance.now()
    const took = time - this.#last
    const since = (key: 'sent' | 'swapped' | 'received'): string =>
      rate(now[key] - this.#before[key], took).padStart(11)
    const line = [
      `${((time - this.#start) / 1000).toFixed(0).padStart(4)} s`,
      `sent ${since('sent')}`,
      `swapped ${since('swapped')}`,
      `back ${since('received')}`,
      `dropped ${whole(total(now.drops))}`,
    ].join('   ')
    this.#inPlace = this.#out.isTTY
    this.#out.write(this.#inPlace ? `\r${line}\u001b[K` : `${line}\n`)
    this.#last = time
    this.#before = now
  }

  /** Ends the line that is written in place. */
  end(): void {
    if (this.#inPlace) this.#out.write('\n')
  }
}

/** Whether every packet and every buffer is accounted for. */
export function isComplete({ sent, received, drops, missingBuffers }: Account): boolean {
  return sent === received + total(drops) && total(missingBuffers) === 0 && sent > 0
}

/** The account in words. */
export function accountText(account: Account): string {
  const { sent, swapped, received, drops, missingBuffers, milliseconds } = account
  const row = (name: string, n: number, note: string): string =>
    `  ${name.padEnd(10)}${whole(n).padStart(16)}   ${note}`
  const lines = [
    '',
    row('sent', sent, `accepted by net_virtio_user, ${rate(sent, milliseconds)}`),
    row('swapped', swapped, 'changed by the script and sent back by net_vhost'),
    row('received', received, 'came back to net_virtio_user'),
    ...Object.entries(drops).map(([name, n]) => row('dropped', n, name)),
    ...Object.entries(missingBuffers)
      .filter(([, n]) => n !== 0)
      .map(([name, n]) => row('missing', n, `buffers of mempool ${name}`)),
  ]
  const difference = sent - received - total(drops)
  const verdict = isComplete(account)
    ? 'every packet is accounted for: sent = received + dropped; every buffer is back in its mempool'
    : sent === 0
      ? 'nothing was sent'
      : `the account does not add up: ${whole(difference)} packets are neither received nor dropped by name`
  return `${lines.join('\n')}\n\n${verdict}\n`
}
