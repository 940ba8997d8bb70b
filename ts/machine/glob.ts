/** Whether `text` is what the shell's pattern means: `*`, `?` and `[…]`. */
export function matchesGlob(pattern: string, text: string): boolean {
  const source = pattern.replaceAll(/[.+^${}()|\\]/g, String.raw`\$&`)
  return new RegExp(`^${source.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(text)
}
