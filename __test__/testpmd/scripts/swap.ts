// A forwarding script as a person would write it: swaps the MAC addresses of every packet.
import type { Burst, ScriptContext } from '../../../ts/index.ts'

export default function swap(burst: Burst, { pool }: ScriptContext): void {
  const { bytes } = pool
  for (let i = 0; i < burst.length; i++) {
    const at = burst.addr[i]!
    for (let j = 0; j < 6; j++) {
      const byte = bytes[at + j]!
      bytes[at + j] = bytes[at + 6 + j]!
      bytes[at + 6 + j] = byte
    }
  }
}
