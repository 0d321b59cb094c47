import { lstatSync, mkdirSync } from 'node:fs'
import { enableCompileCache, flushCompileCache } from 'node:module'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'

/*
 * Makes the start of the service shorter; it works without this file, too. `npm start` and the image load it before anything else
 * (`--import`). It is JavaScript, since Node would first load its TypeScript compiler for it.
 */

/**
 * Node keeps what V8 has compiled, and the JavaScript of each TypeScript file. Whoever can write there can run code in the service, so
 * the folder is inside node_modules, is made for this user alone, and is not used when another user owns it or others may write to it.
 * The image has it filled, and owned by root.
 */
const folder = join(import.meta.dirname, '..', 'node_modules', '.cache', 'job-access')

const isSafe = () => {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch {
    // Perhaps on a read-only file system: then a folder that is there can still be read.
  }
  try {
    const { mode, uid } = lstatSync(folder)
    // Not a link either: it has a mode of 0777.
    return process.getuid === undefined || ([0, process.getuid()].includes(uid) && (mode & 0o022) === 0)
  } catch {
    return false
  }
}

// NODE_COMPILE_CACHE and NODE_DISABLE_COMPILE_CACHE of the operator come first.
if (process.env.NODE_COMPILE_CACHE === undefined && isSafe()) {
  enableCompileCache(folder)
  // Node writes it at the exit, too, but perhaps this process is killed.
  setTimeout(flushCompileCache, 10_000).unref()
}

/*
 * V8 compiles a function of WebAssembly for speed once it has run for some time. With V8's own budget it does so for much of Cedar while
 * the guardrails are read, which takes longer than reading them. With this one it does so after some hundred decisions. An unknown flag
 * is ignored here.
 */
setFlagsFromString('--wasm-tiering-budget=200000000')
