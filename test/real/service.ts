import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { GrantView } from '../../src/http/schemas.ts'
import { mintToken } from '../../src/identity/authenticator.ts'
import { freePort, here, nodeOptions, run, serverEnv, startDaemon, temporaryDir, type Daemon } from '../servers/daemon.ts'
import type { Keys } from './job.ts'

/** The service as it is deployed: a process of its own, configured by its environment, on a real port. */

export interface Service {
  url: string
  /** Of a caller who may act for every team. */
  token: string
  call: <T = GrantView>(method: string, path: string, body?: unknown) => Promise<Answer<T>>
  /** Issues, and fails loudly when it does not. */
  issue: (request: object) => Promise<Delivery>
  /** `npm run reconcile`: its findings, parsed, and how many failed. */
  reconcile: (...args: string[]) => Promise<{ findings: Array<Record<string, unknown>>, summary: string }>
  /** Ends the process, by SIGKILL where the options say so. Its ledger and its audit stay. */
  stop: () => Promise<void>
  /** Starts it again after stop(), on the same port. */
  start: () => Promise<void>
}

export interface Answer<T> { status: number, body: T }

export interface Delivery {
  grant: GrantView
  credentials: Keys & { expiration: string }
  ready?: boolean
  warnings: Array<{ code: string }>
}

export interface ServiceOptions {
  provider: string
  /** IAM and STS of the provider. */
  endpoint: string
  admin: { accessKeyId: string, secretAccessKey: string }
  env?: Record<string, string>
  /** What ends the process. Default: SIGTERM, as an operator ends it. */
  signal?: 'KILL'
  /** For a provider that lacks the calls of a user, so that the service is never ready, but gives sessions. */
  unready?: boolean
}

const root = join(here, '..', '..')

export const startService = async (
  t: Test, { provider, endpoint, admin, env = {}, signal, unready = false }: ServiceOptions
): Promise<Service> => {
  const dir = await temporaryDir('service')
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const port = await freePort('127.0.0.1')
  const url = `http://127.0.0.1:${port}`
  const { token, sha256 } = mintToken('test', randomBytes)
  const identity = join(dir, 'identity.json')
  const audit = join(dir, 'audit.json')
  await writeFile(identity, JSON.stringify({ tokens: [{ id: 'test', sha256, teams: ['*'] }], issuers: [] }))
  await writeFile(audit, JSON.stringify({ path: join(dir, 'audit') }))
  const settings = serverEnv({
    PORT: `${port}`,
    LOG_LEVEL: 'warn',
    AWS_ENDPOINT_URL_IAM: endpoint,
    AWS_ENDPOINT_URL_STS: endpoint,
    AWS_ACCESS_KEY_ID: admin.accessKeyId,
    AWS_SECRET_ACCESS_KEY: admin.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: 'true',
    HOME: dir,
    JOB_ACCESS_PROVIDER: provider,
    JOB_ACCESS_IDENTITY: identity,
    JOB_ACCESS_AUDIT: audit,
    JOB_ACCESS_LEDGER: join(dir, 'ledger.sqlite'),
    // The servers of these tests see the loopback addresses.
    JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS: 'true',
    // Both only when the test asks.
    JOB_ACCESS_SWEEP_SECONDS: '0',
    JOB_ACCESS_RECONCILE_SECONDS: '0',
    JOB_ACCESS_RECONCILE_GRACE_SECONDS: '0',
    ...env
  })
  const script = (name: string) => [...nodeOptions, join(root, 'src', name)]
  let daemon: Daemon | undefined
  const start = async (): Promise<void> => {
    daemon = await startDaemon({
      name: 'job-access',
      command: process.execPath,
      args: script('start.ts'),
      dir: await temporaryDir('service-process'),
      env: settings,
      ...(signal && { signal }),
      ready: async () => (await fetch(`${url}/${unready ? 'healthz' : 'readyz'}`)).ok
    })
  }
  const stop = async (): Promise<void> => {
    await daemon?.stop()
    daemon = undefined
  }
  await start()
  t.teardown(stop)

  const call = async <T>(method: string, path: string, body?: unknown): Promise<Answer<T>> => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) })
    })
    return { status: response.status, body: await response.json() as T }
  }

  return {
    url,
    token,
    call,
    start,
    stop,
    async issue (request) {
      const { status, body } = await call<Delivery>('POST', '/v1/grants', request)
      if (status !== 201) throw new Error(`not issued: ${status} ${JSON.stringify(body)}`)
      return body
    },
    async reconcile (...args) {
      const { stdout } = await run(process.execPath, [...script('commands/reconcile.ts'), ...args],
        { env: { ...settings, JOB_ACCESS_INSTANCE: 'reconcile' } })
      const lines = stdout.trim().split('\n')
      return { findings: lines.slice(0, -1).map(line => JSON.parse(line) as Record<string, unknown>), summary: lines.at(-1) ?? '' }
    }
  }
}
