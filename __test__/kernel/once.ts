// Opens a port, says what it is, and closes it.       … once.ts DEVICE
import { Mempool, Port, VringError } from 'vring'

using mempool = new Mempool({ count: 4096 })
try {
  await using port = await Port.open(process.argv[2]!, { mempool })
  await port.waitForLink()
  console.log(`${port.name} on ${port.info.details.device}, up`)
} catch (error) {
  if (!(error instanceof VringError)) throw error
  console.log(error.code, error.message)
}
