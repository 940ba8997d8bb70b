/** The demo's script in the loop: swaps the addresses of every packet and sends it back. A Worker with the two queues. */
import { parentPort, workerData } from 'node:worker_threads'
import { type Burst, EthernetView, type QueueToken, RxQueue, TxQueue } from '../index.ts'
import { Control } from './control.ts'

/** What the worker is started with. */
export interface WorkerStart {
  readonly rx: QueueToken
  readonly tx: QueueToken
  readonly control: SharedArrayBuffer
}

const start = workerData as WorkerStart
const control = new Control(start.control)
const [rx, tx] = [RxQueue.adopt(start.rx), TxQueue.adopt(start.tx)]
const ethernet = new EthernetView(rx.mempool)

/** Polls in vain after which the worker lets another thread have the processor. */
const PATIENCE = 200
/** As short as the kernel allows: about a tenth of a millisecond. */
const NAP_MILLISECONDS = 0.02
/** Naps without a packet taken after which those that wait are dropped. */
const NAPS = 10_000

function swap(burst: Burst): void {
  const { addr, length } = burst
  for (let i = 0; i < length; i++) ethernet.at(addr[i]!).swapMacs()
}

/** Sends all of the burst. When the ring stays full, nobody is there to take it: what is left is dropped. */
function send(burst: Burst): number {
  let sent = tx.txBurst(burst)
  for (let turn = 1; burst.length > 0; turn++) {
    const more = tx.txBurst(burst)
    sent += more
    if (more > 0) turn = 0
    else if (turn > PATIENCE + NAPS) break
    else if (turn > PATIENCE) control.nap(NAP_MILLISECONDS)
  }
  control.notTaken += burst.length
  burst.free()
  return sent
}

function forward(): void {
  using burst = rx.mempool.createBurst(64)
  let idle = 0
  while (!control.stopping) {
    const received = rx.rxBurst(burst)
    if (received === 0) {
      if (++idle > PATIENCE) control.nap(NAP_MILLISECONDS)
      continue
    }
    idle = 0
    control.received += received
    swap(burst)
    control.swapped += send(burst)
  }
}

parentPort!.postMessage('running')
try {
  forward()
} finally {
  rx.release()
  tx.release()
}
