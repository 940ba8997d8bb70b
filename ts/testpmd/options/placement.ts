/** Which ports and lcores forward, and how they are put together. */
import { UsageError } from '../getopt.ts'
import { TOPOLOGIES, type Topology } from '../topology.ts'
import type { Reader } from './reader.ts'

/** What the options are checked against. */
export interface Machine {
  /** Numbers of the lcores that can forward: all but the main one. */
  readonly forwarding: readonly number[]
  readonly mainLcore: number
  readonly ports: number
}

export interface PlacementOptions {
  readonly nbCores: number
  /** How many ports forward: the first ones. */
  readonly nbPorts: number
  /** The lcores that forward, where `--coremask` says. */
  readonly corelist: readonly number[] | undefined
  /** The ports that forward, where `--portlist` or `--portmask` says. */
  readonly portlist: readonly number[] | undefined
  readonly topology: Topology
}

export const PLACEMENT_VALUES = ['nb-cores', 'nb-ports', 'coremask', 'portmask', 'portlist', 'port-topology']

function readTopology(text: string | undefined): Topology {
  if (text === undefined) return 'paired'
  const topology = TOPOLOGIES.find((one) => one === text)
  if (topology !== undefined) return topology
  throw new UsageError(`port-topology ${text} invalid - must be: paired, chained or loop`)
}

/** The numbers of the bits that are set, or undefined for what is no mask. */
export function parseMask(text: string): readonly number[] | undefined {
  if (!/^(0x)?[0-9a-f]{1,32}$/i.test(text)) return undefined
  const mask = BigInt(`0x${text.replace(/^0x/i, '')}`)
  return Array.from({ length: 128 }, (_, i) => i).filter((i) => ((mask >> BigInt(i)) & 1n) === 1n)
}

/** Numbers with commas and ranges, as `0,2-4`; undefined for what is none. */
export function parseNumberList(text: string): readonly number[] | undefined {
  const numbers: number[] = []
  for (const part of text.split(',')) {
    const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part) ?? []
    if (first === undefined) return undefined
    for (let i = Number(first); i <= Number(last); i++) numbers.push(i)
  }
  return numbers
}

/** What is wrong with a list of lcores, as testpmd says it. */
export function coreListProblem(
  cores: readonly number[],
  { forwarding, mainLcore }: Machine,
): string | undefined {
  for (const [i, core] of cores.entries()) {
    if (core === mainLcore)
      return `lcore ${core} cannot be masked on for running packet forwarding, which is the main lcore and reserved for command line parsing only`
    if (!forwarding.includes(core)) return `lcore ${core} not enabled`
    const again = cores.indexOf(core, i + 1)
    if (again >= 0) return `duplicated core ${core} at index ${i} and ${again}`
  }
  return undefined
}

/** What is wrong with a list of ports, of those that there are. */
export function portListProblem(list: readonly number[], ports: readonly number[]): string | undefined {
  const missing = list.find((id) => !ports.includes(id))
  if (missing !== undefined) return `Invalid port ${missing}`
  for (const [i, id] of list.entries()) {
    const again = list.indexOf(id, i + 1)
    if (again >= 0) return `duplicated port ${id} at index ${i} and ${again}`
  }
  return undefined
}

function readCorelist(reader: Reader, machine: Machine): readonly number[] | undefined {
  const text = reader.last('coremask')
  if (text === undefined) return undefined
  const cores = parseMask(text)
  const wrong = cores === undefined || cores.length === 0
  const problem = wrong ? `'${text}' is no hexadecimal mask with a bit set` : coreListProblem(cores, machine)
  if (problem !== undefined) throw new UsageError(`invalid coremask: ${problem}`)
  return cores
}

function readPortlist(reader: Reader, { ports }: Machine): readonly number[] | undefined {
  const [name, parse] = reader.has('portlist')
    ? (['portlist', parseNumberList] as const)
    : (['portmask', parseMask] as const)
  const text = reader.last(name)
  if (text === undefined) return undefined
  const list = parse(text)
  const all = Array.from({ length: ports }, (_, id) => id)
  const problem =
    list === undefined || list.length === 0 ? `'${text}' names no port` : portListProblem(list, all)
  if (problem !== undefined) throw new UsageError(`invalid ${name}: ${problem}; there are ${ports} ports`)
  return list
}

/** Reads them. */
export function readPlacement(reader: Reader, machine: Machine): PlacementOptions {
  const corelist = readCorelist(reader, machine)
  const portlist = readPortlist(reader, machine)
  const most = (corelist ?? machine.forwarding).length
  const ports = portlist?.length ?? machine.ports
  return {
    corelist,
    portlist,
    nbCores: reader.number(
      'nb-cores',
      1,
      Math.max(most, 1),
      corelist?.length ?? 1,
      (text) => `nb-cores should be > 0 and <= ${most}, not ${text}`,
    ),
    nbPorts: reader.number(
      'nb-ports',
      1,
      ports,
      ports,
      (text) => `Invalid port ${text}: there are ${ports} ports`,
    ),
    topology: readTopology(reader.last('port-topology')),
  }
}
