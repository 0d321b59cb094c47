import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Call } from '../embedded-iam/levers/faults.ts'
import type { AdminKeys } from '../../src/embedded-iam/server.ts'
import type { PolicyView, UserView } from '../embedded-iam/levers/view.ts'
import { mintToken } from '../../src/identity/authenticator.ts'
import { freePort, nodeOptions, serverEnv } from '../servers/daemon.ts'

/** The service and the embedded IAM as processes of their own, so that one may be killed and the other lives. */

const root = join(import.meta.dirname, '..', '..')

export interface IamProcess {
  url: string
  admin: AdminKeys
  state: () => Promise<{ users: UserView[], policies: PolicyView[] }>
  calls: () => Promise<Call[]>
  stop: () => Promise<void>
}

/** It ends with this process, however that ends: its standard input closes. */
export const startIam = async (latencyMs: number): Promise<IamProcess> => {
  const args = [...nodeOptions, join(root, 'test/embedded-iam/levers/main.ts'), '--control', '--exit-with-stdin', '--latency', `${latencyMs}`]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'], env: serverEnv() })
  const [line] = await once(createInterface(child.stdout), 'line') as [string]
  const { url, admin } = JSON.parse(line) as { url: string, admin: AdminKeys }
  const control = async <T>(path: string): Promise<T> => await (await fetch(`${url}/_embedded/${path}`)).json() as T
  return {
    url,
    admin,
    state: () => control('state'),
    calls: () => control('calls'),
    stop: () => ended(child, 'SIGTERM')
  }
}

export interface ServiceSettings {
  iam: Pick<IamProcess, 'url' | 'admin'>
  /** JOB_ACCESS_LEDGER or DATABASE_URL. */
  ledger: Record<string, string>
  /** Of what the replica writes: identity, audit, log. */
  dir: ServiceDir
  name?: string
  env?: Record<string, string>
}

export interface ServiceDir {
  path: string
  token: string
  /** Everything that any replica wrote there: ledger, audit, log. */
  written: () => string
  remove: () => void
}

export const makeDir = (): ServiceDir => {
  const path = mkdtempSync(join(tmpdir(), 'job-access-kill-'))
  const { token, sha256 } = mintToken('orchestrator')
  writeFileSync(join(path, 'identity.json'), JSON.stringify({ tokens: [{ id: 'orchestrator', sha256, teams: ['*'] }], issuers: [] }))
  writeFileSync(join(path, 'audit.json'), JSON.stringify({ path: join(path, 'audit'), fsync: 'batch' }))
  const files = () => readdirSync(path, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  return {
    path,
    token,
    written: () => files().map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1')).join('\n'),
    remove: () => rmSync(path, { recursive: true, force: true })
  }
}

export interface ServiceProcess {
  url: string
  /** Starts it again, on the same port and ledger. Resolves when it listens. */
  start: () => Promise<void>
  /** As the kernel's out-of-memory killer would. */
  kill: () => Promise<void>
  stop: () => Promise<void>
}

export const service = async ({ iam, ledger, dir, name = 'a', env = {} }: ServiceSettings): Promise<ServiceProcess> => {
  const port = await freePort('127.0.0.1')
  const url = `http://127.0.0.1:${port}`
  const log = join(dir.path, `${name}.log`)
  let child: ChildProcess | undefined
  process.on('exit', () => { child?.kill('SIGKILL') })
  return {
    url,
    async start () {
      // `exec`, so that the signal reaches the service itself; the log is what the test looks through for secrets.
      child = spawn('/bin/sh', ['-c', `exec "$@" >>"${log}" 2>&1`, 'sh', process.execPath, ...nodeOptions, join(root, 'src/start.ts')], {
        stdio: 'ignore',
        cwd: dir.path,
        env: serverEnv({
          PORT: `${port}`,
          LOG_LEVEL: 'info',
          JOB_ACCESS_PROVIDER: 'localstack',
          AWS_ENDPOINT_URL_IAM: iam.url,
          AWS_ENDPOINT_URL_STS: iam.url,
          AWS_ACCESS_KEY_ID: iam.admin.accessKeyId,
          AWS_SECRET_ACCESS_KEY: iam.admin.secretAccessKey,
          AWS_EC2_METADATA_DISABLED: 'true',
          HOME: dir.path,
          JOB_ACCESS_IDENTITY: join(dir.path, 'identity.json'),
          JOB_ACCESS_AUDIT: join(dir.path, 'audit.json'),
          JOB_ACCESS_INSTANCE: name,
          JOB_ACCESS_IAM_DEADLINE_MS: '1000',
          JOB_ACCESS_SWEEP_SECONDS: '1',
          JOB_ACCESS_SWEEP_PER_SECOND: '1000',
          JOB_ACCESS_RECONCILE_SECONDS: '0',
          JOB_ACCESS_RATE_PER_MINUTE: '10000000',
          JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '4000',
          ...ledger,
          ...env
        })
      })
      await untilLive(url, child, log)
    },
    kill: () => ended(child, 'SIGKILL'),
    stop: () => ended(child, 'SIGTERM')
  }
}

const untilLive = async (url: string, child: ChildProcess, log: string): Promise<void> => {
  const giveUpAt = Date.now() + 60_000
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > giveUpAt) {
      throw new Error(`The service did not start:\n${readFileSync(log, 'utf8').split('\n').slice(-20).join('\n')}`)
    }
    if (await fetch(`${url}/healthz`).then(({ ok }) => ok, () => false)) return
    await new Promise(resolve => setTimeout(resolve, 25))
  }
}

const ended = async (child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> => {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill(signal)
  await exit
}
