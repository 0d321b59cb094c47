import { createRequire } from 'node:module'
import type * as CedarModule from '@cedar-policy/cedar-wasm/nodejs'

export type Cedar = typeof CedarModule

/**
 * A Cedar engine with a WebAssembly instance of its own (some 7 ms, the compiled code is shared).
 *
 * The package keeps one instance per process, and that one cannot be shared here. Preparsed policy sets are kept in it by name
 * with no call to drop them. And a policy nested deeper than its stack (some 130 brackets, or a chain of 400 `||`) traps, after
 * which every call on that instance fails: checking a bad file would stop the decisions of the set in force. An instance per
 * set is collected with it.
 */
export const openCedar = (): Cedar => {
  // A parent of its own per call, too: a module stays in the `children` of its parent, and would never be collected.
  const require = createRequire(import.meta.url)
  const path = require.resolve('@cedar-policy/cedar-wasm/nodejs')
  const shared = require.cache[path]
  delete require.cache[path]
  try {
    return require(path) as Cedar
  } finally {
    if (shared) require.cache[path] = shared
    else delete require.cache[path]
  }
}
