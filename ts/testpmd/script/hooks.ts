/** Module resolution for scripts: `vring` is the package that is running, wherever the script's file lies. */
import type { InitializeHook, ResolveHook } from 'node:module'

let own = ''

/** Receives the address of the running package's main module. */
export const initialize: InitializeHook<string> = (url) => {
  own = url
}

/** Answers for `vring`, and leaves everything else to the next loader. */
export const resolve: ResolveHook = async (specifier, context, next) =>
  specifier === 'vring' ? { url: own, format: 'module', shortCircuit: true } : next(specifier, context)
