/** The project's root folder. */
export const root: string
/** The full path of a command, or undefined. */
export function which(command: string): string | undefined
