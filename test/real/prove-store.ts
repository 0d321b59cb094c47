import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { here, nodeOptions, serverEnv } from '../servers/daemon.ts'
import type { Keys } from './job.ts'

/** `npm run prove-store`, as an operator runs it, and what it printed. */

interface Proof {
  ok: boolean
  failure: string | null
  checks: Array<{ what: string, wanted: string, seen: string, ok: boolean }>
  untried: string[]
  left: string[]
}

export interface ProofRun { status: number, stdout: string, stderr: string, proof: Proof }

export interface ProofOptions {
  provider: string
  iamEndpoint: string
  endpoint: string
  admin: Keys
  env?: Record<string, string>
  args: string[]
  /** Prints the table, and is sent SIGTERM, or the signal, when it has written this. */
  stopAt?: string
  signal?: 'SIGKILL'
}

const file = join(here, '..', '..', 'src', 'commands', 'prove-store.ts')

export const proveStore = async (
  { provider, iamEndpoint, endpoint, admin, env, args, stopAt, signal }: ProofOptions
): Promise<ProofRun> => {
  const plain = stopAt !== undefined || args.includes('--clean')
  const command = [...nodeOptions, file, ...args, ...(plain ? [] : ['--json'])]
  const child = spawn(process.execPath, command, {
    env: serverEnv({
      JOB_ACCESS_PROVIDER: provider,
      AWS_ENDPOINT_URL_IAM: iamEndpoint,
      AWS_ENDPOINT_URL_STS: iamEndpoint,
      JOB_ACCESS_S3_ENDPOINT: endpoint,
      AWS_ACCESS_KEY_ID: admin.accessKeyId,
      AWS_SECRET_ACCESS_KEY: admin.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
      ...env
    })
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => { stdout += chunk.toString() })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    if (stopAt !== undefined && !child.killed && stderr.includes(stopAt)) child.kill(signal ?? 'SIGTERM')
  })
  const status = await new Promise<number>(resolve => child.on('close', code => resolve(code ?? -1)))
  return { status, stdout, stderr, proof: JSON.parse(!plain && stdout ? stdout : '{}') as Proof }
}
