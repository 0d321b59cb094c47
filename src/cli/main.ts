#!/usr/bin/env node
import { text } from 'node:stream/consumers'
import { run } from './run.ts'

/** The `job-access` command: arguments, environment and streams of this process. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})
process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  out: output => process.stdout.write(output),
  err: output => process.stderr.write(output),
  readStdin: () => text(process.stdin)
})
