// Exports no script.
export const forgotten = true
