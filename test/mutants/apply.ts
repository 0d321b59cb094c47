import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** Loaded before a test: replaces a text of one module while it is loaded. No file changes, and nothing has to be put back. */

const { path, from, to } = JSON.parse(process.env.JOB_ACCESS_MUTANT ?? '{}') as { path: string, from: string, to: string }
const mutated = pathToFileURL(path).href

registerHooks({
  load: (url, context, next) => url === mutated
    ? { format: 'module-typescript', source: readFileSync(fileURLToPath(url), 'utf8').replace(from, () => to), shortCircuit: true }
    : next(url, context)
})
