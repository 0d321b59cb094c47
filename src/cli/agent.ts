import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { UsageError, exit, note, type Command, type Io } from './command.ts'
import { agentFlags, agentSettings, openAgent, overlapSecondsOf, type LocalAgent } from './local-agent.ts'
import type { RunGrant } from './run-grant.ts'
import { parseRequestArgs } from './request.ts'
import { scrubToken } from './scrub-token.ts'
import { secretFile, type SecretFile } from './secret-file.ts'
import { relaySignals } from './signals.ts'
import { grantForRun, startFlags } from './worker-run.ts'

const text = { type: 'string' } as const
const flags = {
  ...startFlags,
  ...agentFlags,
  port: text,
  'token-file': text,
  out: text,
  'complete-on-exit': { type: 'boolean' }
} as const

/**
 * Gives one grant's credentials to every process of a worker until a signal ends it: a sidecar, or a program of the node. When it is
 * ready it writes the two variables that the SDKs want, into --out and on stdout.
 */
export const agent: Command = async (args, { env, ...streams }) => {
  const io = { ...streams, env: { ...env } }
  scrubToken(io)
  const { values } = parseRequestArgs({ args, options: flags })
  const settings = await agentSettings(values)
  if (values['token-file'] === undefined) {
    throw new UsageError('agent wants --token-file FILE: the job’s processes read from it the token that they send to the agent.')
  }
  const port = /^\d{1,5}$/.test(values.port ?? '0') ? Number(values.port ?? '0') : NaN
  if (!(port <= 65_535)) {
    throw new UsageError(`--port ${values.port}: give a number up to 65535, or leave it out for any free port.`)
  }
  const tokenFile = resolve(values['token-file'])
  // Shells, systemd and container engines read the lines of --out, and each has other rules for quotes.
  if (!/^[\w./+@-]+$/.test(tokenFile)) {
    throw new UsageError(`--token-file ${tokenFile}: only letters, digits and . / _ + @ - may be in it: it goes unquoted into --out.`)
  }
  const { out: envFile } = values
  // A worker reads its job's id from there; otherwise this is where the agent notes its own grant.
  const grantFile = values.worker === undefined ? values['grant-file'] : undefined

  const relay = relaySignals(false)
  const ended = new Promise<void>(resolve => relay.ended.addEventListener('abort', () => resolve()))
  // The port and the files are tried before the grant is asked for, so that a start without them changes no grant of others.
  const opened = await openAgent(settings, io, port)
  let files: Files = {}
  let grant: RunGrant | undefined
  let local: LocalAgent | undefined
  let ready = false
  try {
    files = await openAll({ token: tokenFile, env: envFile, grant: grantFile })
    const earlier = grantFile === undefined ? '' : (await readFile(grantFile, 'utf8').catch(() => '')).trim()
    const taken = /^[0-9a-z]{26}$/.test(earlier) ? { grantId: earlier, overlapSeconds: overlapSecondsOf(settings) } : undefined
    grant = await grantForRun(values, io, relay.ended, taken)
    const { key: { grantId }, target } = grant
    await files.grant?.write(`${grantId}\n`)
    local = await opened.start(grant.key, grant.rejoin)
    // Without a line end: botocore and the Go SDK refuse a token that has one.
    await files.token?.write(local.token)
    const given = {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: local.url,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: tokenFile,
      ...target,
      JOBACCESS_GRANT: grantId
    }
    const lines = Object.entries(given).map(([name, value]) => `${name}=${value}\n`).join('')
    await files.env?.write(lines)
    io.out(lines)
    ready = true
    if (!relay.ended.aborted) await ended
  } finally {
    // After a failed start nobody uses the grant, unless others share it.
    const completes = ready ? values['complete-on-exit'] === true || grant?.rejoin !== undefined : grant?.ownRun === true
    opened.close()
    await local?.stop({ removeFile: completes })
    const { token, env } = files
    await settled(io, [...[token, env].flatMap(file => file?.remove() ?? []), ...Object.values(files).map(file => file.discard())])
    if (completes) await grant?.complete()
    else if (grant) note(io, `left alive: ${grant.title}. Sooner by: job-access complete ${grant.key.grantId}`)
  }
  return exit.ok
}

type Files = Partial<Record<'token' | 'env' | 'grant', SecretFile>>

/** A file that cannot be removed does not change what became of the job or its grant. */
const settled = async (io: Io, cleanUps: Promise<void>[]): Promise<void> => {
  for (const result of await Promise.allSettled(cleanUps)) {
    if (result.status === 'rejected') note(io, `a file is left behind: ${String(result.reason)}`)
  }
}

/** Opens the files before anything is requested: a key that could not be written would be lost. */
const openAll = async (paths: Record<keyof Files, string | undefined>): Promise<Files> => {
  const opened: Files = {}
  try {
    for (const name of ['token', 'env', 'grant'] as const) {
      const path = paths[name]
      if (path !== undefined) opened[name] = await secretFile(path)
    }
    return opened
  } catch (error) {
    await Promise.allSettled(Object.values(opened).map(file => file.discard()))
    throw error
  }
}
