// Fails at the third burst, at a line that the test knows.
import type { Burst, ForwardScript, ScriptContext } from '../../../ts/index.ts'

let bursts = 0

const script: ForwardScript = {
  setup(context: ScriptContext) {
    context.log(`setup of port ${context.rxPort} on lcore ${context.lcore}`)
  },
  burst(_burst: Burst) {
    if (++bursts === 3) throw new RangeError('the third burst')
  },
  stop(context: ScriptContext) {
    context.log(`stop of port ${context.rxPort}`)
  },
}

export default script
