// Says which thread it runs in.
import { readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { ForwardScript, ScriptContext } from '../../../ts/index.ts'

const script: ForwardScript = {
  setup(context: ScriptContext) {
    context.log(`runs in thread ${basename(readlinkSync('/proc/thread-self'))}`)
  },
  burst() {},
}

export default script
