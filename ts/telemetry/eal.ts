/** Commands about the program itself. */
import { version } from '../binding.ts'
import type { TelemetryValue } from './json.ts'
import { leadingNumber } from './parameters.ts'
import type { TelemetryCommand, TelemetryOptions } from './server.ts'

/** See {@link TelemetryOptions} for what they tell. */
export function ealCommands(options: TelemetryOptions): readonly TelemetryCommand[] {
  const { params = process.argv, appParams = [], lcores = new Map<number, readonly number[]>() } = options
  const lcore = (parameters: string | undefined): TelemetryValue => {
    const id = leadingNumber(parameters)?.[0]
    const cpus = id === undefined ? undefined : lcores.get(id)
    return cpus === undefined ? null : { lcore_id: id!, cpuset: cpus }
  }
  return [
    {
      name: '/eal/version',
      help: 'Returns the version of vring. Takes no parameters',
      handler: () => `vring ${version}`,
    },
    {
      name: '/eal/params',
      help: 'Returns EAL commandline parameters used at program start. Takes no parameters',
      handler: () => params,
    },
    {
      name: '/eal/app_params',
      help: 'Returns app commandline parameters used at program start. Takes no parameters',
      handler: () => appParams,
    },
    {
      name: '/eal/lcore/list',
      help: 'List of lcore ids. Takes no parameters',
      handler: () => [...lcores.keys()].toSorted((a, b) => a - b),
    },
    {
      name: '/eal/lcore/info',
      help: 'Returns lcore info. Parameters: int lcore_id',
      handler: lcore,
    },
  ]
}
