/** Errors: one class, a stable code, a message that says what was expected, what came, and what to do. */

/** Every code that {@link VringError.code} can be. */
export const errorCodes = [
  // Arguments and options.
  'ERR_VRING_INVALID_ARGUMENT',
  'ERR_VRING_OUT_OF_RANGE',
  'ERR_VRING_QUEUE_SIZE',
  'ERR_VRING_OFFLOAD',
  'ERR_VRING_NOT_SUPPORTED',
  'ERR_VRING_UNKNOWN_DRIVER',
  'ERR_VRING_UNKNOWN_DEVARG',
  'ERR_VRING_BAD_DEVARG',
  'ERR_VRING_MISSING_DEVARG',
  'ERR_VRING_UNKNOWN_ENGINE',
  'ERR_VRING_STREAM',
  'ERR_VRING_CPU',
  // Who has what.
  'ERR_VRING_CLOSED',
  'ERR_VRING_WRONG_MEMPOOL',
  'ERR_VRING_WRONG_THREAD',
  'ERR_VRING_QUEUE_BUSY',
  'ERR_VRING_HANDED_OVER',
  'ERR_VRING_TOKEN',
  'ERR_VRING_NAME_IN_USE',
  'ERR_VRING_LCORE_RUNNING',
  'ERR_VRING_TOO_MANY_BURSTS',
  // The machine.
  'ERR_VRING_NO_BINARY',
  'ERR_VRING_NO_SHARED_MEMORY',
  'ERR_VRING_NO_HUGEPAGES',
  'ERR_VRING_NO_MEMORY',
  'ERR_VRING_SYSTEM',
  'ERR_VRING_PERMISSION',
  'ERR_VRING_NO_SUCH_PATH',
  'ERR_VRING_NOT_A_SOCKET',
  'ERR_VRING_SOCKET_IN_USE',
  'ERR_VRING_PATH_TOO_LONG',
  'ERR_VRING_NO_SUCH_DEVICE',
  'ERR_VRING_DEVICE_KIND',
  'ERR_VRING_DEVICE_IN_USE',
  'ERR_VRING_DEVICE_NAME',
  'ERR_VRING_DESCRIPTOR_KIND',
  'ERR_VRING_NO_NAMESPACE',
  'ERR_VRING_DEVICE_LOST',
  'ERR_VRING_VFIO',
  'ERR_VRING_VHOST_KERNEL',
  'ERR_VRING_VHOST_MEMORY',
  'ERR_VRING_VHOST_WORKER',
  'ERR_VRING_CAPTURE',
  'ERR_VRING_FILTER',
  // The peer.
  'ERR_VRING_PEER',
  'ERR_VRING_PCI_DEVICE',
  'ERR_VRING_PEER_TIMEOUT',
  'ERR_VRING_DISCONNECTED',
  'ERR_VRING_STOPPED',
  'ERR_VRING_RING_FAULT',
  'ERR_VRING_VHOST_HEADER',
  'ERR_VRING_VHOST_SIZE',
  'ERR_VRING_VHOST_FDS',
  'ERR_VRING_VHOST_REQUEST',
  'ERR_VRING_VHOST_NOT_NEGOTIATED',
  'ERR_VRING_VHOST_VALUE',
  'ERR_VRING_VHOST_REJECTED',
  'ERR_VRING_MEMORY_EMPTY',
  'ERR_VRING_MEMORY_OVERFLOW',
  'ERR_VRING_MEMORY_OVERLAP',
  'ERR_VRING_MEMORY_SLOTS',
  'ERR_VRING_MEMORY_UNKNOWN',
  'ERR_VRING_MEMORY_NOT_A_FILE',
  'ERR_VRING_MEMORY_SHORT_FILE',
  'ERR_VRING_MEMORY_MAP',
  // Time, and vring itself.
  'ERR_VRING_TIMEOUT',
  'ERR_VRING_INTERNAL',
] as const

/** What kind of failure a {@link VringError} is. Codes are stable; messages are not. */
export type VringErrorCode = (typeof errorCodes)[number]

/** Any failure of vring's. */
export class VringError extends Error {
  override readonly name = 'VringError'
  /** What kind of failure it is. */
  readonly code: VringErrorCode

  /**
   * @param code what kind of failure it is
   * @param message what was expected, what came, what to do
   * @param options `cause`: the error behind this one
   */
  constructor(code: VringErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

const known: ReadonlySet<string> = new Set(errorCodes)
const isCode = (code: string): code is VringErrorCode => known.has(code)

/** An error as the addon reports it without throwing. */
export interface NativeFailure {
  readonly code: string
  readonly message: string
}

type AnyFunction = (...args: never[]) => unknown

/** The error for what the addon reported. The stack begins at the caller of `above`. */
export function fromFailure({ code, message }: NativeFailure, above: AnyFunction = fromFailure): VringError {
  const error = new VringError(isCode(code) ? code : 'ERR_VRING_INTERNAL', message)
  Error.captureStackTrace(error, above)
  return error
}

/** The {@link VringError} for what the addon threw; what is none of the addon's errors comes back as it is. */
export function fromNative(thrown: unknown, above: AnyFunction = fromNative): unknown {
  if (!(thrown instanceof Error) || thrown instanceof VringError) return thrown
  const code = (thrown as { readonly code?: unknown }).code
  if (typeof code !== 'string') return thrown
  if (isCode(code)) return fromFailure({ code, message: thrown.message }, above)
  // N-API's own complaint about an argument's type.
  if (code === 'InvalidArg' || code.endsWith('Expected')) {
    return fromFailure({ code: 'ERR_VRING_INVALID_ARGUMENT', message: thrown.message }, above)
  }
  return thrown
}

/** Runs a call into the addon; what it throws is thrown again as a {@link VringError} with the caller's stack. */
export function attempt<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error, attempt)
  }
}

/** What something is, in a word or two. */
function describe(value: unknown): string {
  if (typeof value === 'object' && value !== null)
    return `an object (${value.constructor?.name ?? 'no class'})`
  return typeof value === 'string' ? `'${value}'` : String(value)
}

/** Throws that an argument is not what was expected. */
export function invalid(expected: string, came: unknown): never {
  throw new VringError('ERR_VRING_INVALID_ARGUMENT', `expected ${expected}, got ${describe(came)}`)
}
