import { NoAnswerError, ProblemError } from '../client/index.ts'

/** The process as a command sees it. Text is written as it is, with its line ends. */
export interface Io {
  env: Record<string, string | undefined>
  out: (text: string) => void
  err: (text: string) => void
  readStdin: () => Promise<string>
}

/** @returns the exit code. */
export type Command = (args: string[], io: Io) => Promise<number>

export const exit = { ok: 0, refused: 1, usage: 2, unavailable: 3 } as const

/** The command line or the environment is wrong; no request was sent. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export const print = (io: Io, value: unknown): void => io.out(`${JSON.stringify(value, null, 2)}\n`)

export const note = (io: Io, text: string): void => io.err(`job-access: ${text}\n`)

/** An end that the provider has not finished is no failure: the service goes on with it. */
export const noteUnfinished = (io: Io, what: string, state: string): void => {
  if (state === 'revoking') note(io, `${what}: the provider has not finished; the service tries again by itself.`)
}

export const noteUnready = (io: Io, ready: boolean | undefined): void => {
  if (ready === false) note(io, 'the provider did not know the new key in time; its first use may fail for some seconds.')
}

/** Writes what went wrong, with code, field and hint. */
export const report = (io: Io, error: unknown): number => {
  if (error instanceof ProblemError) {
    const { code, pointer = '', message: detail, hint = '' } = error
    const findings = error.errors.length > 0 ? error.errors : [{ code, pointer, detail, hint }]
    for (const { code, pointer, detail, hint } of findings) {
      note(io, `${code}${pointer ? ` at ${pointer}` : ''}: ${detail}${hint ? `\n  ${hint}` : ''}`)
    }
    if (code === 'key-delivered') note(io, 'on the command line: --attempt START or --replace.')
    if (pointer === '/waitUntilReady') note(io, 'on the command line: leave out --wait; exec and agent take --no-wait.')
    io.err(`  (status ${error.status}, request ${error.requestId})\n`)
    const later = error.status >= 500 || error.status === 429 || error.retryAfterSeconds !== undefined
    return later ? exit.unavailable : exit.refused
  }
  if (error instanceof NoAnswerError) {
    note(io, error.message)
    return exit.unavailable
  }
  if (error instanceof Error && isUsageError(error)) {
    note(io, `${error.message}\n  job-access help shows what there is.`)
    return exit.usage
  }
  note(io, `unexpected: ${error instanceof Error ? error.message : String(error)}`)
  return exit.refused
}

export const isUsageError = (error: Error): boolean =>
  error instanceof UsageError || ('code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
