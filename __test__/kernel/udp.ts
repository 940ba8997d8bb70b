// Sends datagrams from this machine's own stack until so many have come back unchanged.      … udp.ts ADDRESS COUNT
import { createSocket } from 'node:dgram'
import { setTimeout as pause } from 'node:timers/promises'

const [address, count] = process.argv.slice(2)
const socket = createSocket('udp4')
const sent = new Set<string>()
let back = 0
socket.on('message', (bytes) => (back += Number(sent.delete(String(bytes)))))
// The first ones may be lost: the other side may not be there yet.
for (let i = 0; back < Number(count) && i < 20 * Number(count); i++) {
  const text = `datagram ${i} ${'x'.repeat(i % 1400)}`
  sent.add(text)
  socket.send(text, 7, address)
  await pause(5)
}
socket.close()
console.log(`${Math.min(back, Number(count))} back`)
