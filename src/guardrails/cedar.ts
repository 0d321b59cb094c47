import { createRequire } from 'node:module'
import type * as CedarModule from '@cedar-policy/cedar-wasm/nodejs'

export type Cedar = typeof CedarModule

/**
 * A Cedar engine with its own WebAssembly instance (this takes about 7 ms; the compiled code is shared).
 *
 * The package has one instance per process, which cannot be used here, for two reasons. It keeps preparsed policy sets by name and
 * has no call to remove them. And a policy nested too deeply for its stack (about 130 brackets, or a chain of 400 `||`) traps, and
 * then every call of that instance fails: checking a bad file would stop the decisions of the set in force. With an instance per
 * set, the garbage collector removes both together.
 */
export const openCedar = (): Cedar => {
  // Each call makes its own parent module, too: a parent keeps its `children`, so they would never be collected.
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
