// A TCP server of this machine's own stack that sends back what it gets.       … echo.ts PORT
import { createServer } from 'node:net'

createServer((socket) => {
  socket.on('error', () => socket.destroy()).pipe(socket)
}).listen(Number(process.argv[2]), () => console.log('listening'))
