import { rm } from 'node:fs/promises'
import { UsageError, note, type Io } from './command.ts'
import { serveCredentials } from './credentials-server.ts'
import type { HeldKey } from './held-key.ts'
import { keepKey } from './key-keeper.ts'
import { secondsOf } from './request.ts'
import { secretFile, writeCredentialsFile } from './secret-file.ts'
import { clientOf } from './settings.ts'

export const agentFlags = { 'credentials-file': { type: 'string' }, 'valid-for': { type: 'string' }, poll: { type: 'string' } } as const

export interface AgentSettings {
  credentialsFile: string | undefined
  validForMs: number
  pollMs: number
}

/**
 * The defaults: botocore then asks every minute, the SDKs for JavaScript and Go every 11 minutes.
 * @throws UsageError, also when the file could not be written: then no key is requested
 */
export const agentSettings = async (values: { [name in keyof typeof agentFlags]?: string }): Promise<AgentSettings> => {
  const credentialsFile = values['credentials-file']
  if (credentialsFile !== undefined) await (await secretFile(credentialsFile)).discard()
  return {
    credentialsFile,
    validForMs: positive(secondsOf(values['valid-for'] ?? '16m', '--valid-for'), '--valid-for') * 1000,
    pollMs: positive(secondsOf(values.poll ?? '60s', '--poll'), '--poll') * 1000
  }
}

/** For how long a key that is replaced goes on: until every agent and SDK that has it has asked again. */
export const overlapSecondsOf = ({ validForMs, pollMs }: Pick<AgentSettings, 'validForMs' | 'pollMs'>): number =>
  Math.min(86_400, Math.ceil((validForMs + 2 * pollMs) / 1000) + 60)

const positive = (seconds: number | undefined, flag: string): number => {
  if (seconds === undefined || seconds < 1 || seconds > 86_400) throw new UsageError(`${flag}: give at least a second, and at most a day.`)
  return seconds
}

export interface LocalAgent {
  /** What a process needs so that every AWS SDK in it asks this agent. */
  url: string
  token: string
  /** Ends it. With `removeFile` the credentials file goes, too. */
  stop: (options?: { removeFile?: boolean }) => Promise<void>
}

/** Keeps the key good and gives it to the processes of this machine: over the container credentials protocol, and in a file if wanted. */
export const startAgent = async (
  { credentialsFile, validForMs, pollMs }: AgentSettings, first: HeldKey, io: Io, port = 0
): Promise<LocalAgent> => {
  const write = async (key: HeldKey) => {
    if (credentialsFile !== undefined) await writeCredentialsFile(credentialsFile, key)
  }
  await write(first)
  const stopping = new AbortController()
  const stopped = stopping.signal
  const client = clientOf(io, { deadlineMs: 20_000, lastAttempt: stopped, fetch: abandoningReads(stopped) })
  const overlapSeconds = overlapSecondsOf({ validForMs, pollMs })
  const held = keepKey({ client, first, validForMs, pollMs, overlapSeconds, received: write, note: text => note(io, text), stopped })
  const server = await serveCredentials(port, validForMs, held).catch((error: NodeJS.ErrnoException) => {
    stopping.abort()
    throw new UsageError(`--port ${port}: ${error.code ?? error.message}`)
  })
  return {
    url: server.url,
    token: server.token,
    async stop ({ removeFile = false } = {}) {
      stopping.abort()
      server.close()
      if (removeFile && credentialsFile !== undefined) await rm(credentialsFile, { force: true })
    }
  }
}

/** A look at the grant does not delay the end; a rotation under way is awaited, so that its key is not lost. */
const abandoningReads = (stopped: AbortSignal): typeof fetch => (input, { signal, ...init } = {}) =>
  fetch(input, { ...init, signal: init.method === 'GET' && signal ? AbortSignal.any([signal, stopped]) : signal ?? null })
