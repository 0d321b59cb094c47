import { CreateRoleCommand, IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import { spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { complaints, drift } from '../../../src/doctor/verdict.ts'
import type { DialectFile } from '../../../src/iam/dialects/file.ts'
import { dialects } from '../../../src/iam/dialects/index.ts'
import type { DialectName } from '../../../src/policy/dialect.ts'
import { embeddedStore, examined } from '../../doctor/embedded-store.ts'
import { here, nodeOptions, run, serverEnv, temporaryDir } from '../../servers/daemon.ts'
import { startLocalstack } from '../../servers/localstack.ts'
import { startMoto } from '../../servers/moto.ts'
import { startRgw } from '../../servers/rgw.ts'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { startVersitygw } from '../../servers/versitygw.ts'

/** The stores that the doctor is run on, and `npm run doctor` itself as an operator runs it. */

export interface Server {
  endpoint: string
  iamEndpoint?: string
  admin: { accessKeyId: string, secretAccessKey: string }
  role?: string
  version: string
  stop: () => Promise<void>
}

export interface StoreCase {
  title: string
  /** The built-in dialect that is held to it. */
  dialect?: DialectName
  /** Without it: the embedded IAM in this process, whose time is simulated. */
  start?: () => Promise<Server>
  /** Seconds. Where nothing is enforced, the doctor waits in vain for changes. */
  patience: number
}

const test = { accessKeyId: 'test', secretAccessKey: 'test' }

/** The role may do everything: what the session policy does not allow is seen. */
const rgwWithRole = async (): Promise<Server> => {
  const rgw = await startRgw()
  const iam = new IAMClient({ endpoint: rgw.endpoint, region: 'us-east-1', credentials: rgw.admin })
  const policy = (more: object) => JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', ...more }] })
  const { Role } = await iam.send(new CreateRoleCommand({
    RoleName: 'jobs', AssumeRolePolicyDocument: policy({ Principal: { AWS: ['arn:aws:iam:::user/admin'] }, Action: ['sts:AssumeRole'] })
  }))
  await iam.send(new PutRolePolicyCommand({ RoleName: 'jobs', PolicyName: 'all', PolicyDocument: policy({ Action: ['s3:*'], Resource: ['*'] }) }))
  iam.destroy()
  const { stdout } = await run('radosgw', ['--version'])
  return { ...rgw, role: Role?.Arn ?? '', version: /\d+\.\d+\.\d+/.exec(stdout)?.[0] ?? stdout }
}

const seaweedfs = (sts: boolean) => async (): Promise<Server> => {
  const weed = await startSeaweedfs({ sts })
  return { ...weed, ...(sts && { role: weed.roleArn }) }
}

export const stores: Record<string, StoreCase> = {
  embedded: { title: 'Embedded IAM, S3 of the tests', dialect: 'aws', patience: 2 },
  versitygw: { title: 'VersityGW', dialect: 'versitygw', patience: 20, start: async () => ({ ...await startVersitygw(), version: '1.8.0' }) },
  seaweedfs: { title: 'SeaweedFS', dialect: 'seaweedfs', patience: 20, start: seaweedfs(false) },
  'seaweedfs-sts': { title: 'SeaweedFS with STS', patience: 5, start: seaweedfs(true) },
  ceph: { title: 'Ceph RGW, sessions', dialect: 'ceph', patience: 20, start: rgwWithRole },
  localstack: {
    title: 'LocalStack', dialect: 'localstack', patience: 3, start: async () => ({ ...await startLocalstack(), admin: test, version: '4.14' })
  },
  moto: { title: 'moto’s server', patience: 3, start: async () => ({ ...await startMoto(), admin: test, version: '5.1.22' }) }
}

/** @param interruptAt what it says when it gets the signal */
export const doctor = (
  { endpoint, iamEndpoint = endpoint, admin }: Server, args: string[], interruptAt?: string, signal: 'SIGINT' | 'SIGKILL' = 'SIGINT'
): Promise<{ status: number | null, stdout: string, stderr: string }> => new Promise(resolve => {
  const env = serverEnv({
    AWS_ENDPOINT_URL_IAM: iamEndpoint,
    JOB_ACCESS_S3_ENDPOINT: endpoint,
    AWS_ACCESS_KEY_ID: admin.accessKeyId,
    AWS_SECRET_ACCESS_KEY: admin.secretAccessKey
  })
  const child = spawn(process.execPath, [...nodeOptions, join(here, '..', '..', 'src', 'commands', 'doctor.ts'), ...args],
    { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', text => { stdout += String(text) })
  child.stderr.on('data', text => {
    stderr += String(text)
    if (interruptAt !== undefined && stderr.includes(interruptAt)) child.kill(signal)
  })
  child.on('close', status => resolve({ status, stdout, stderr }))
})

export interface Diagnosis { file: DialectFile, status: number | null, stderr: string }

const by = 'npm run stores'

const embedded = async ({ title: name, dialect = 'aws' }: StoreCase): Promise<Diagnosis> => {
  const stops: Array<() => Promise<void>> = []
  try {
    const { findings, enforces, dialect: found, left } = await examined(await embeddedStore({ teardown: stop => { stops.push(stop) } }))
    const { version } = JSON.parse(await readFile(join(here, '..', '..', 'package.json'), 'utf8')) as { version: string }
    const file: DialectFile = {
      format: 'job-access-dialect-1', store: { name, version }, by, at: new Date().toISOString(), enforces, dialect: found, findings, times: {}
    }
    const wrong = [...complaints(file), ...drift(dialects[dialect], file), ...left.map(line => `could not be removed: ${line}`)]
    return { file, status: wrong.length > 0 ? 1 : 0, stderr: wrong.join('\n') }
  } finally {
    for (const stop of stops) await stop()
  }
}

/** `npm run doctor -- --write FILE --against DIALECT` against a store of its own. */
export const diagnose = async (name: string, times = 1): Promise<Diagnosis[]> => {
  const store = stores[name]
  if (!store) throw new Error(`There is no store ${name}.`)
  if (!store.start) return Promise.all(Array.from({ length: times }, () => embedded(store)))
  const server = await store.start()
  const dir = await temporaryDir('doctor')
  const path = join(dir, 'store.json')
  const { role, version } = server
  const args = [
    '--write', path, '--store', store.title, '--store-version', version,
    '--by', by, '--patience', String(store.patience),
    ...(store.dialect ? ['--against', store.dialect] : []), ...(role !== undefined ? ['--role', role] : [])
  ]
  try {
    const found: Diagnosis[] = []
    for (let round = 0; round < times; round++) {
      const ended = await doctor(server, args)
      found.push({ file: JSON.parse(await readFile(path, 'utf8')) as DialectFile, ...ended })
    }
    return found
  } finally {
    await server.stop()
    await rm(dir, { recursive: true, force: true })
  }
}
