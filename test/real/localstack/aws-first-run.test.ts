import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { CreateUserCommand, IAMClient, ListPoliciesCommand, ListRolesCommand, ListUsersCommand } from '@aws-sdk/client-iam'
import { CreateBucketCommand, ListBucketsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import t from 'tap'
import { here, serverEnv } from '../../servers/daemon.ts'
import { startLocalstack } from '../../servers/localstack.ts'
import { s3 } from '../job.ts'

// AWS's calls without AWS's enforcement: what it sets up and removes can be seen here, and that it tells.

const { endpoint, stop } = await startLocalstack()
t.teardown(stop)
const admin = { accessKeyId: 'test', secretAccessKey: 'test' }
const owner = s3(endpoint, admin)
const iam = new IAMClient({ endpoint, region: 'us-east-1', credentials: admin })
t.teardown(() => { owner.destroy(); iam.destroy() })

const firstRun = async (args: string[], stopAt?: string): Promise<{ status: number | null, stdout: string, stderr: string }> => {
  const file = join(here, '..', '..', 'src', 'commands', 'aws-first-run.ts')
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file, ...args], {
    env: serverEnv({
      AWS_ENDPOINT_URL: endpoint, JOB_ACCESS_S3_ENDPOINT: endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_EC2_METADATA_DISABLED: 'true'
    })
  })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
    if (stopAt !== undefined && !child.killed && stdout.includes(stopAt)) child.kill('SIGTERM')
  })
  child.stderr.on('data', (chunk: Buffer) => { stderr += chunk.toString() })
  const status = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { status, stdout, stderr }
}

const left = async () => ({
  users: ((await iam.send(new ListUsersCommand({}))).Users ?? []).map(({ UserName }) => UserName),
  policies: ((await iam.send(new ListPoliciesCommand({ Scope: 'Local' }))).Policies ?? []).map(({ PolicyName }) => PolicyName),
  roles: ((await iam.send(new ListRolesCommand({}))).Roles ?? []).map(({ RoleName }) => RoleName),
  buckets: ((await owner.send(new ListBucketsCommand({}))).Buckets ?? []).map(({ Name }) => Name)
})
const before = await left()

t.test('sets up, proves with inline and managed policies, tells what is not enforced, and removes everything', async t => {
  const { status, stdout, stderr } = await firstRun(['--source-ip', '127.0.0.1', '--patience', '1'])
  t.equal(status, 1, 'LocalStack enforces nothing')
  t.match(stdout, /^account 000000000000/)
  for (const way of ['inline', 'managed']) {
    const [, table = ''] = stdout.split(`prove-store --attach ${way}`)
    t.match(table, /^ok +reads below the prefix /m, way)
    t.match(table, /^NOT SO +moved to another source +denied +allowed/m, way)
  }
  t.notMatch(stderr, /Not (finished|removed)/)
  t.strictSame(await left(), before)
})

t.test('SIGTERM: everything is removed', async t => {
  const { status, stdout, stderr } = await firstRun(['--source-ip', '127.0.0.1', '--patience', '5'], 'prove-store --attach inline')
  t.equal(status, 1)
  t.match(stderr, /Not finished: Stopped by SIGTERM/)
  t.notMatch(stderr, /Not removed/)
  t.notMatch(stdout, /--attach managed/)
  t.strictSame(await left(), before)
})

t.test('--clean removes what a killed run left, and nothing of others', async t => {
  const name = 'job-access-first-run-killed'
  await owner.send(new CreateBucketCommand({ Bucket: name }))
  await owner.send(new PutObjectCommand({ Bucket: name, Key: 'job-access-proof/ready', Body: '' }))
  await iam.send(new CreateUserCommand({ UserName: 'ja-proof', Path: '/job-access-first-run/1/' }))
  await iam.send(new CreateUserCommand({ UserName: 'somebody', Path: '/job-access/' }))
  const { status, stdout } = await firstRun(['--clean'])
  t.equal(status, 0)
  t.equal(stdout, `removed user ja-proof\nremoved bucket ${name}\n`)
  t.strictSame(await left(), { ...before, users: [...before.users, 'somebody'] })
})
