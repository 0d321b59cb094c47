import { readFile, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { UsageError, exit, note, type Command } from './command.ts'
import { agentFlags, agentSettings, overlapSecondsOf, startAgent } from './local-agent.ts'
import { issueForRun, runFlags, type RunGrant } from './run-grant.ts'
import { scrubToken } from './scrub-token.ts'
import { secretFile, type SecretFile } from './secret-file.ts'
import { relaySignals } from './signals.ts'

const text = { type: 'string' } as const
const flags = {
  ...runFlags,
  ...agentFlags,
  port: text,
  'token-file': text,
  out: text,
  'grant-file': text,
  'complete-on-exit': { type: 'boolean' }
} as const

/**
 * Gives one grant's credentials to every process of a worker until a signal ends it: a sidecar, or a program of the node. When it is
 * ready it writes the two variables that the SDKs want, into --out and on stdout.
 */
export const agent: Command = async (args, { env, ...streams }) => {
  const io = { ...streams, env: { ...env } }
  scrubToken()
  const { values } = parseArgs({ args, options: flags })
  const settings = await agentSettings(values)
  if (values['token-file'] === undefined) {
    throw new UsageError('agent wants --token-file FILE: the job’s processes read from it the token that they send to the agent.')
  }
  if (!/^\d{1,5}$/.test(values.port ?? '0')) {
    throw new UsageError(`--port ${values.port}: give a number, or leave it out for any free port.`)
  }
  const tokenFile = resolve(values['token-file'])
  const { out: envFile, 'grant-file': grantFile } = values

  const relay = relaySignals(false)
  const ended = new Promise<void>(resolve => relay.ended.addEventListener('abort', () => resolve()))
  const files = await openAll({ token: tokenFile, env: envFile, grant: grantFile })
  let grant: RunGrant | undefined
  let ready = false
  try {
    const earlier = grantFile === undefined ? '' : (await readFile(grantFile, 'utf8').catch(() => '')).trim()
    const taken = /^[0-9a-z]{26}$/.test(earlier) ? { grantId: earlier, overlapSeconds: overlapSecondsOf(settings) } : undefined
    grant = await issueForRun(values, io, relay.ended, taken)
    const { key: { grantId }, env: { AWS_ACCESS_KEY_ID: _, AWS_SECRET_ACCESS_KEY: __, AWS_SESSION_TOKEN: ___, ...target } } = grant
    await files.grant?.write(`${grantId}\n`)
    const local = await startAgent(settings, grant.key, io, Number(values.port ?? 0))
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
    await local.stop({ removeFile: values['complete-on-exit'] === true })
    await Promise.all([tokenFile, envFile].map(async file => file !== undefined && rm(file, { force: true })))
  } finally {
    await Promise.all(Object.values(files).map(file => file?.discard()))
    // What never began is of no use to anybody.
    if (values['complete-on-exit'] || !ready) await grant?.complete()
    else if (grant) note(io, `left alive: ${grant.title}. Sooner by: job-access complete ${grant.key.grantId}`)
  }
  return exit.ok
}

/** Opens the files before anything is requested: a key that could not be written would be lost. */
const openAll = async (
  paths: Record<'token' | 'env' | 'grant', string | undefined>
): Promise<Partial<Record<keyof typeof paths, SecretFile>>> => {
  const opened: Partial<Record<keyof typeof paths, SecretFile>> = {}
  try {
    for (const name of ['token', 'env', 'grant'] as const) {
      const path = paths[name]
      if (path !== undefined) opened[name] = await secretFile(path)
    }
    return opened
  } catch (error) {
    await Promise.all(Object.values(opened).map(file => file.discard()))
    throw error
  }
}
