#!/usr/bin/env node
import { text } from 'node:stream/consumers'
import { exit } from './command.ts'
import { run } from './run.ts'

/**
 * The `job-access` command: arguments, environment and streams of this process. A stream that fails must not end it, since it may
 * still have to complete a grant. When stdout cannot be written, the exit code says so. A reader that has left, as in `| head`,
 * is no failure.
 */
let unwritten = false
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return
  unwritten = true
  process.exitCode ||= exit.refused
  write(process.stderr, `job-access: stdout cannot be written: ${error.code ?? error.message}\n`)
})
process.stderr.on('error', () => {})

/** A file on a full disk fails in the call itself. */
const write = (stream: NodeJS.WriteStream, output: string): void => {
  try {
    stream.write(output)
  } catch (error) {
    stream.emit('error', error)
  }
}

// The executable has this file as CommonJS, where nothing awaits at the top. So a run that never ends by itself must not exit with 0.
process.exitCode = exit.refused
void run(process.argv.slice(2), {
  env: process.env,
  out: output => write(process.stdout, output),
  err: output => write(process.stderr, output),
  readStdin: () => text(process.stdin)
}).then(code => { process.exitCode = code === exit.ok && unwritten ? exit.refused : code })
