// A bridge of two ports, as a script would write it: what one receives, the other sends. It counts what crosses. The other may be one of
// several, of which one is up at a time: a guest that moves from one machine to another.
import { setImmediate as turn } from 'node:timers/promises'
import { type Burst, PacketFlag, type Port, type RxQueue } from 'vring'

const SEGMENTS = PacketFlag.GsoTcp4 | PacketFlag.GsoTcp6 | PacketFlag.GsoUdp | PacketFlag.GsoUdpL4
/** Turns of the event loop that a packet waits for room before it is dropped, as on a switch. */
const PATIENCE = 200

/** What crossed, in both directions together. */
export interface Crossed {
  packets: number
  /** Packets whose checksum was left out. */
  partial: number
  /** Packets to be cut. */
  large: number
  /** Bytes of the longest packet. */
  longest: number
  /** Packets that the other port had no room for. */
  dropped: number
}

const nothing = (): Crossed => ({ packets: 0, partial: 0, large: 0, longest: 0, dropped: 0 })

export class Bridge implements AsyncDisposable {
  readonly #stop = new AbortController()
  readonly #running: Promise<unknown>
  #crossed = nothing()

  /** Called with each burst, and the port that it came from. */
  watch: (from: Port, burst: Burst) => void = () => {}

  constructor(trunk: Port, ...others: readonly [Port, ...Port[]]) {
    const up = (): Port => others.find(({ link }) => link.up) ?? others[0]
    this.#running = Promise.all([
      this.#forward(trunk, up),
      ...others.map((other) => this.#forward(other, () => trunk)),
    ])
  }

  /** What crossed since the last call. */
  take(): Crossed {
    const crossed = this.#crossed
    this.#crossed = nothing()
    return crossed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #forward(from: Port, to: () => Port): Promise<void> {
    await Promise.all(from.rxQueues.map((rx) => this.#queue(from, rx, to)))
  }

  async #queue(from: Port, rx: RxQueue, to: () => Port): Promise<void> {
    for await (const burst of rx.bursts({ signal: this.#stop.signal })) {
      this.#count(burst)
      this.watch(from, burst)
      for (let waited = 0; burst.length > 0 && waited < PATIENCE; waited++) {
        const { txQueues } = to()
        // A guest uses as many of its queues as it likes, but always the first.
        const sent = txQueues[rx.index]?.txBurst(burst) ?? 0
        if (sent === 0) txQueues[0]!.txBurst(burst)
        if (burst.length > 0) await turn()
      }
      this.#crossed.dropped += burst.length
      burst.free()
    }
  }

  #count(burst: Burst): void {
    const crossed = this.#crossed
    crossed.packets += burst.length
    for (let i = 0; i < burst.length; i++) {
      if ((burst.flags[i]! & PacketFlag.ChecksumPartial) !== 0) crossed.partial += 1
      if ((burst.flags[i]! & SEGMENTS) !== 0) crossed.large += 1
      crossed.longest = Math.max(crossed.longest, burst.len[i]!)
    }
  }
}
