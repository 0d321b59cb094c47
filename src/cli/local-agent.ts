import { setTimeout as sleep } from 'node:timers/promises'
import { UsageError, note, type Io } from './command.ts'
import { serveCredentials } from './credentials-server.ts'
import type { HeldKey } from './held-key.ts'
import { keepKey, type Held, type Rejoin } from './key-keeper.ts'
import { secondsOf } from './request.ts'
import { secretFile, writeCredentialsFile, type SecretFile } from './secret-file.ts'
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
  /** Ends it, and never rejects. With `removeFile` the credentials file goes, too, unless another agent has written its own since then. */
  stop: (options?: { removeFile?: boolean }) => Promise<void>
}

/** An agent that has its port and no key yet. */
export interface OpenAgent {
  start: (first: HeldKey, rejoin?: Rejoin) => Promise<LocalAgent>
  close: () => void
}

/** How long the end waits for a rotation that is under way. */
const longestEndMs = 5_000

/** Takes the port before there is a grant, so that a port in use costs no grant and no key. @throws UsageError */
export const openAgent = async ({ credentialsFile, validForMs, pollMs }: AgentSettings, io: Io, port = 0): Promise<OpenAgent> => {
  // Nobody knows the token before the start, so nobody waits for this.
  const started = Promise.withResolvers<() => Promise<Held>>()
  const failed = (error: Error) => note(io, `the agent goes on after an error of its port: ${error.message}`)
  const server = await serveCredentials(port, validForMs, async () => (await started.promise)(), failed)
    .catch((error: NodeJS.ErrnoException) => { throw new UsageError(`--port ${port}: ${error.code ?? error.message}`) })

  const start = async (first: HeldKey, rejoin?: Rejoin): Promise<LocalAgent> => {
    const stopping = new AbortController()
    const stopped = stopping.signal
    const client = clientOf(io, { deadlineMs: 20_000, lastAttempt: stopped, fetch: abandoningReads(stopped) })
    let file: SecretFile | undefined
    let writing: Promise<void> = Promise.resolve()
    let removed = false
    const write = async (key: HeldKey) => {
      if (credentialsFile !== undefined && !removed) file = await writeCredentialsFile(credentialsFile, key)
    }
    await write(first)
    const { held, ended } = keepKey({
      client,
      first,
      validForMs,
      pollMs,
      overlapSeconds: overlapSecondsOf({ validForMs, pollMs }),
      rejoin,
      received: key => {
        writing = write(key)
        return writing
      },
      note: text => note(io, text),
      stopped
    })
    started.resolve(held)
    return {
      url: server.url,
      token: server.token,
      async stop ({ removeFile = false } = {}) {
        stopping.abort()
        server.close()
        await Promise.race([ended, sleep(longestEndMs, undefined, { ref: false })])
        if (!removeFile) return
        // A fresh key that is received after this must not bring the file back.
        removed = true
        await writing.catch(() => {})
        await file?.remove().catch((error: Error) => note(io, `${credentialsFile} is left behind: ${error.message}`))
      }
    }
  }
  return { start, close: () => server.close() }
}

/** Keeps the key good and gives it to the processes of this machine: over the container credentials protocol, and in a file if wanted. */
export const startAgent = async (settings: AgentSettings, first: HeldKey, io: Io, port = 0, rejoin?: Rejoin): Promise<LocalAgent> => {
  const opened = await openAgent(settings, io, port)
  try {
    return await opened.start(first, rejoin)
  } catch (error) {
    opened.close()
    throw error
  }
}

/** A look at the grant does not delay the end; a rotation under way is awaited, so that its key is not lost. */
const abandoningReads = (stopped: AbortSignal): typeof fetch => (input, { signal, ...init } = {}) =>
  fetch(input, { ...init, signal: init.method === 'GET' && signal ? AbortSignal.any([signal, stopped]) : signal ?? null })
