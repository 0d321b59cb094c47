import { extname, join } from 'node:path'
import { readConfig } from './config.ts'

/**
 * Where the service starts: one process, or a small one that starts several of them. The parts of the service are loaded only where
 * they are needed.
 */
const server = join(import.meta.dirname, `server${extname(import.meta.filename)}`)

try {
  const config = readConfig(process.env)
  if (config.processes > 1) {
    const { supervise } = await import('./processes/primary.ts')
    await supervise(config, server)
  } else {
    await import('./server.ts')
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
