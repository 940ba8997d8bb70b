/** `npm run bench`: all benchmarks. */
import { micro } from './micro.ts'

await micro()
