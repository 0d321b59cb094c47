import { dirname } from 'node:path'
import { cachePath, freePort, here, requireInstalled, run, serverEnv, startDaemon, temporaryDir } from './daemon.ts'
import { setTimeout as delay } from 'node:timers/promises'

export interface Localstack {
  endpoint: string
  stop (): Promise<void>
}

const repoRoot = dirname(dirname(here))
const composeEndpoint = 'http://127.0.0.1:4566'
const services = ['iam', 'sts', 's3']

/** LocalStack 4.14 with IAM, STS and S3: a given one, else Docker Compose's, else the one from PyPI. */
export async function startLocalstack (): Promise<Localstack> {
  const given = process.env.AWS_ENDPOINT_URL
  if (given) return { endpoint: given, stop: async () => {} }
  if (await dockerAnswers()) return startWithCompose()
  return startFromVenv()
}

async function dockerAnswers (): Promise<boolean> {
  try {
    await run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: 5000 })
    return true
  } catch {
    return false
  }
}

async function startWithCompose (): Promise<Localstack> {
  // One that runs already belongs to somebody else, who also decides when it ends.
  if (await healthy(composeEndpoint)) return { endpoint: composeEndpoint, stop: async () => {} }
  await run('docker', ['compose', 'up', '-d', 'localstack'], { cwd: repoRoot })
  await untilHealthy(composeEndpoint)
  return {
    endpoint: composeEndpoint,
    stop: async () => { await run('docker', ['compose', 'rm', '--stop', '--force', 'localstack'], { cwd: repoRoot }) }
  }
}

async function startFromVenv (): Promise<Localstack> {
  const python = requireInstalled(cachePath('localstack', 'bin', 'python'), 'localstack')
  const port = await freePort('127.0.0.1')
  const endpoint = `http://127.0.0.1:${port}`
  const dir = await temporaryDir('localstack')
  const daemon = await startDaemon({
    name: 'LocalStack',
    command: python,
    args: ['-m', 'localstack.runtime.main'],
    dir,
    env: serverEnv({
      GATEWAY_LISTEN: `127.0.0.1:${port}`,
      SERVICES: services.join(','),
      EAGER_SERVICE_LOADING: '1',
      FILESYSTEM_ROOT: dir,
      TMPDIR: dir,
      // Nothing here may call out or bind port 53.
      DNS_ADDRESS: '0',
      DISABLE_EVENTS: '1',
      SKIP_SSL_CERT_DOWNLOAD: '1'
    }),
    // Its orderly shutdown takes seconds and saves nothing that we keep.
    signal: 'KILL',
    ready: () => healthy(endpoint),
    timeoutMs: 120_000
  })
  return { endpoint, stop: daemon.stop }
}

async function untilHealthy (endpoint: string): Promise<void> {
  const deadline = Date.now() + 120_000
  while (Date.now() < deadline) {
    if (await healthy(endpoint)) return
    await delay(200)
  }
  throw new Error(`LocalStack at ${endpoint} was not healthy after 120 s: see docker compose logs localstack`)
}

async function healthy (endpoint: string): Promise<boolean> {
  try {
    const response = await fetch(`${endpoint}/_localstack/health`, { signal: AbortSignal.timeout(2000) })
    const health = await response.json() as { services?: Record<string, string> }
    return services.every((name) => ['available', 'running'].includes(health.services?.[name] ?? ''))
  } catch {
    return false
  }
}
