/** The micro-benchmarks of the boundary between JavaScript and Rust: `npm run bench -- micro`. */
import { pathToFileURL } from 'node:url'
import { benchCalls } from './micro/calls.ts'
import { benchPackets } from './micro/packets.ts'
import type { Result } from './micro/suite.ts'

/** Runs all of them and prints tables; the results are returned for whoever keeps them. */
export async function micro(): Promise<readonly Result[]> {
  return [...(await benchCalls()), ...benchPackets()]
}

if (import.meta.url === pathToFileURL(process.argv[1]!).href) await micro()
