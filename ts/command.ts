/** Where the words of a command go, and its exit status: the process, or a test. */
export interface Host {
  out(text: string): void
  err(text: string): void
  exit(status: number): void
}
