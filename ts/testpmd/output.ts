/** Where testpmd's words go: what it answers to standard output, what it complains about to standard error. */
export interface Output {
  out(text: string): void
  err(text: string): void
}

/** The process's own streams. Node writes to terminals, files and pipes at once on Linux, so the order is kept. */
export const processOutput: Output = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
}

/** The end of the program with a message, as EAL ends it: nothing more can be done. */
export class FatalError extends Error {
  override readonly name = 'FatalError'
  readonly exitCode = 1
}

/** What a failure looks like on the terminal. */
export const fatalText = (cause: string): string => `EAL: Error - exiting with code: 1\n  Cause: ${cause}\n`

/** The sentence of an error, whatever was thrown, with the code it carries. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code: unknown = 'code' in error ? error.code : undefined
  return typeof code === 'string' && !error.message.includes(code)
    ? `${error.message} (${code})`
    : error.message
}
