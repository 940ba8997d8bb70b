/** The kernels that can be fetched, the one with most tests first. */
export const SERIES: readonly string[]
/** The folder of a fetched kernel (`vmlinuz`, `lib/modules/VERSION`), or undefined. */
export function kernelFolder(series: string): string | undefined
/** Fetches a kernel that is not in the cache. Gives its folder; throws with the reason when it cannot be had. */
export function fetchKernel(series: string): Promise<string>
