import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { createClient, type Client } from '../../src/client/index.ts'
import { benchWithRole } from '../bench-with-role.ts'
import { appOf, type Bench } from '../harness.ts'
import { freePort } from '../servers/daemon.ts'
import { jobFlags, startCli, type Started } from './service.ts'

/** The service of this process, which can go away and come back, and agents of its grants. */

export interface AgentWorld {
  bench: Bench
  client: Client
  url: string
  env: Record<string, string>
  /** The service no longer answers; the grants stay. */
  goAway: () => Promise<void>
  comeBack: () => Promise<void>
  /** Keys that the provider made, of all grants. */
  minted: () => number
  /** The key of the last GetCallerIdentity. */
  lastUsed: () => string | null | undefined
}

export const agentWorld = async (t: Test): Promise<AgentWorld> => {
  const it = await benchWithRole(t)
  let app = await appOf(t, it)
  // Nobody else takes it while the service is away.
  const port = await freePort('127.0.0.1')
  const url = await app.listen({ host: '127.0.0.1', port })
  const calls = (action: string) => it.iam.calls.filter(call => call.action === action)
  return {
    bench: it,
    client: createClient({ url, token: it.tokens.nlp }),
    url,
    env: { PATH: process.env.PATH ?? '', JOBACCESS_URL: url, JOBACCESS_TOKEN: it.tokens.nlp },
    async goAway () {
      app.server.closeAllConnections()
      await app.close()
    },
    async comeBack () {
      app = await appOf(t, it)
      await app.listen({ host: '127.0.0.1', port })
    },
    minted: () => calls('CreateAccessKey').length,
    lastUsed: () => calls('GetCallerIdentity').at(-1)?.accessKeyId
  }
}

export interface RunningAgent {
  started: Started
  /** What it tells the job's processes. */
  variables: Record<string, string>
  grantId: string
  /** The agent's token file, credentials file and the like are here. */
  home: string
  /** The answer to a client with the token, or with other headers. */
  get: (init?: RequestInit, path?: string) => Promise<{ status: number, headers: Headers, body: Record<string, string> }>
}

/** SDKs are told so short a time that they ask again in the test's time. */
export const hurried = ['--valid-for', '2s', '--poll', '1s']

export const startAgent = (t: Test, world: Pick<AgentWorld, 'env'>, job: string, ...more: string[]): Promise<RunningAgent> => {
  const flags = jobFlags(job).filter(word => !more.includes('--not-after') || !['--duration', '1h'].includes(word))
  return startAgentOf(t, world, [...flags, ...more])
}

/** @param flags with those of the request */
export const startAgentOf = async (t: Test, { env }: Pick<AgentWorld, 'env'>, flags: string[]): Promise<RunningAgent> => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-agent-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const tokenFile = join(home, 'token')
  const started = startCli(t, ['agent', ...hurried, '--token-file', tokenFile, ...flags], env)
  await started.says('JOBACCESS_GRANT=')
  const variables = Object.fromEntries(started.said().trim().split('\n').map((line): [string, string] => {
    const at = line.indexOf('=')
    return [line.slice(0, at), line.slice(at + 1)]
  }))
  return {
    started,
    variables,
    home,
    grantId: variables.JOBACCESS_GRANT ?? '',
    async get (init = { headers: { authorization: readFileSync(tokenFile, 'utf8') } }, path) {
      const url = new URL(variables.AWS_CONTAINER_CREDENTIALS_FULL_URI ?? '')
      const response = await fetch(path === undefined ? url : new URL(path, url), init)
      return { status: response.status, headers: response.headers, body: await response.json() as Record<string, string> }
    }
  }
}

/** Calls until it holds, and fails with what it saw last. */
export const until = async <T>(ask: () => Promise<T> | T, holds: (seen: T) => boolean, withinMs = 15_000): Promise<T> => {
  for (const deadline = Date.now() + withinMs; ;) {
    const seen = await ask()
    if (holds(seen)) return seen
    if (Date.now() > deadline) throw new Error(`not in time: ${JSON.stringify(seen)}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** An instant for --not-after: whole seconds. */
export const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString().replace(/\.\d+/, '')
