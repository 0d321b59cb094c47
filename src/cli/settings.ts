import { readFile } from 'node:fs/promises'
import { createClient, type Client, type ClientOptions } from '../client/index.ts'
import { UsageError, type Io } from './command.ts'

/**
 * The environment that the CLI reads. Its names do not begin with JOB_ACCESS_: those are the service's, which refuses to start
 * with one that it does not know, and both may share an environment.
 */
export const variables = {
  JOBACCESS_URL: 'where the service is, e.g. https://job-access.example.com',
  JOBACCESS_TOKEN: 'the bearer token, or',
  JOBACCESS_TOKEN_FILE: 'a file with it, read at every call: Kubernetes and others renew it in place',
  JOBACCESS_DEADLINE_SECONDS: 'longest time of one call with its retries; default 60',
  JOBACCESS_ALLOW_HTTP: 'true: plain http beyond loopback too, e.g. behind a mesh that encrypts'
} as const

type Setting = keyof typeof variables

/** @throws UsageError */
export const deadlineMs = ({ env }: Pick<Io, 'env'>): number => {
  const deadline = env.JOBACCESS_DEADLINE_SECONDS || '60'
  if (!/^[1-9]\d{0,3}$/.test(deadline)) throw new UsageError('JOBACCESS_DEADLINE_SECONDS is not a number of seconds.')
  return Number(deadline) * 1000
}

/** @throws UsageError */
export const clientOf = ({ env }: Pick<Io, 'env'>, options: Pick<ClientOptions, 'deadlineMs' | 'lastAttempt' | 'fetch'> = {}): Client => {
  const setting = (name: Setting) => env[name] || undefined
  const url = setting('JOBACCESS_URL')
  if (url === undefined) throw new UsageError('JOBACCESS_URL is not set.')
  const token = setting('JOBACCESS_TOKEN')
  const file = setting('JOBACCESS_TOKEN_FILE')
  if (token !== undefined && file !== undefined) throw new UsageError('JOBACCESS_TOKEN and JOBACCESS_TOKEN_FILE are both set.')
  const allowHttp = setting('JOBACCESS_ALLOW_HTTP') ?? 'false'
  if (allowHttp !== 'true' && allowHttp !== 'false') throw new UsageError('JOBACCESS_ALLOW_HTTP is neither true nor false.')
  const deadline = deadlineMs({ env })
  const bearer = token === undefined ? tokenIn(file) : checked(token, 'JOBACCESS_TOKEN')
  try {
    return createClient({ deadlineMs: deadline, ...options, url, token: bearer, allowHttp: allowHttp === 'true' })
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(`JOBACCESS_URL: ${error.message}`) : error
  }
}

const checked = (token: string, where: string): string => {
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new UsageError(`${where}: the token is empty, or has characters that a header cannot carry.`)
}

const tokenIn = (file: string | undefined): (() => Promise<string>) => {
  if (file === undefined) throw new UsageError('Neither JOBACCESS_TOKEN nor JOBACCESS_TOKEN_FILE is set.')
  return async () => {
    const content = await readFile(file, 'utf8').catch((error: Error) => { throw new UsageError(`JOBACCESS_TOKEN_FILE: ${error.message}`) })
    return checked(content.trim(), 'JOBACCESS_TOKEN_FILE')
  }
}
