/** The end of a program, asked for from outside. */

/** Resolves when the process is asked to end; a second request ends it at once. */
export class EndRequest {
  private readonly asked: Promise<void>
  private readonly forget: () => void

  constructor() {
    const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']
    let ask: () => void = () => {}
    this.asked = new Promise((resolveAsked) => (ask = resolveAsked))
    let times = 0
    const listener = (): void => {
      if (++times > 1) process.exit(1)
      ask()
    }
    for (const signal of signals) process.on(signal, listener)
    this.forget = () => signals.forEach((signal) => process.off(signal, listener))
  }

  get promise(): Promise<void> {
    return this.asked
  }

  dispose(): void {
    this.forget()
  }
}
