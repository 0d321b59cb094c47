import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { bucketIn, pagesOf, removeBucket, removePolicy, removeRole, removeUser, type Complaint } from '../doctor/scratch.ts'
import { openStore, type Key, type Store } from '../doctor/store.ts'
import { boundaryPolicy, servicePolicy } from '../iam/own-policies.ts'
import { UsageError, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} --source-ip ADDRESS [--patience SECONDS] | --clean
Shows in an AWS account that the service works there, and what it may do: makes a bucket, the permissions boundary and the service's role,
assumes the role, and lets prove-store issue and use grants with inline and with managed policies. At most ten minutes. It removes whatever
it made. Exits 0 when everything was so.

It takes AWS_REGION and the credentials of an administrator as the AWS SDK does. Everything has the prefix ${namePrefix}.

  --source-ip  the address from which AWS sees this machine
  --patience   how long a change may take to be in effect; default: 60
  --clean      remove what killed runs left; not while another run is under way`

const namePrefix = 'job-access-first-run-'
const pathBase = '/job-access-first-run/'
const userPrefix = 'ja'
/** Then the proof under way is stopped, and what is left of ten minutes is for removing. */
const budgetMs = 8 * 60_000

const roleInlinePolicies = ['service', 'proof-bucket']

const listed = async (store: Store, operation: string, items: string, input: object = {}): Promise<any[]> => {
  const { found, refused } = await pagesOf(store, operation, items, input)
  if (refused !== null) throw new Error(`${operation}: ${refused}`)
  return found
}

/**
 * Removes everything of this and of killed runs: first the keys, last the role.
 * @param made names of this run, which a list may not have yet
 */
const clean = async (store: Store, made: string[] = []): Promise<{ removed: string[], left: string[] }> => {
  const removed: string[] = []
  const left: string[] = []
  const sweep = async (what: string, names: () => Promise<string[]>, remove: (name: string) => Promise<Complaint>) => {
    try {
      for (const name of await names()) {
        const complaint = await remove(name)
        if (complaint === null) removed.push(`${what} ${name}`)
        else left.push(complaint)
      }
    } catch (error) {
      left.push(`${what}s: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  const ours = (names: string[]) => [...new Set([...made, ...names.filter(name => name.startsWith(namePrefix))])]
  const policies = () => listed(store, 'ListPolicies', 'Policies', { Scope: 'Local' })
  const users = async () => (await listed(store, 'ListUsers', 'Users', { PathPrefix: pathBase })).map(user => user.UserName)
  const buckets = async () => [...(await store.s3({ method: 'GET' })).body.matchAll(/<Name>([^<]*)<\/Name>/g)].map(([, name = '']) => name)
  await sweep('user', users, name => removeUser(store, name))
  const ofUsers = async () => (await policies()).filter(policy => policy.Path.startsWith(pathBase)).map(policy => policy.PolicyName)
  await sweep('policy', ofUsers, name => removePolicy(store, name))
  await sweep('bucket', async () => ours(await buckets()), name => removeBucket(store, name))
  await sweep('boundary', async () => ours((await policies()).map(policy => policy.PolicyName)), name => removePolicy(store, name))
  const roles = async () => (await listed(store, 'ListRoles', 'Roles')).map(role => role.RoleName)
  await sweep('role', async () => ours(await roles()), name => removeRole(store, name, roleInlinePolicies))
  return { removed, left }
}

const say = (line: string) => process.stdout.write(`${line}\n`)

interface FirstRun { store: Store, name: string, region: string, signal: AbortSignal, patience: string, sourceIp: string }

const must = async (store: Store, operation: string, input: object): Promise<any> => {
  const called = await store.call(operation, input)
  if (!called.ok) throw new Error(`${operation}: ${called.code}`)
  return called.output
}

/** Bucket, boundary and role, as docs/dialects.md has them for AWS. */
const setUp = async ({ store, name, region }: FirstRun): Promise<{ boundaryArn: string, roleArn: string }> => {
  const { Account: accountId, Arn: arn } = await must(store, 'GetCallerIdentity', {})
  const partition = String(arn).split(':')[1] as 'aws'
  say(`account ${accountId}, as ${arn}`)
  const bucket = await store.s3({ method: 'PUT', bucket: name, body: bucketIn(region === 'us-east-1' ? undefined : region) })
  if (bucket.outcome !== 'passed') throw new Error(`CreateBucket: ${bucket.code}`)
  const boundary = await must(store, 'CreatePolicy', {
    PolicyName: name, PolicyDocument: JSON.stringify(boundaryPolicy({ partition, buckets: [name], kmsKeys: [] }))
  })
  const boundaryArn: string = boundary.Policy.Arn
  const trust = { Effect: 'Allow', Principal: { AWS: `arn:${partition}:iam::${accountId}:root` }, Action: 'sts:AssumeRole' }
  const role = await must(store, 'CreateRole', {
    RoleName: name, AssumeRolePolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement: [trust] })
  })
  const put = (PolicyName: string, document: object) =>
    must(store, 'PutRolePolicy', { RoleName: name, PolicyName, PolicyDocument: JSON.stringify(document) })
  await put('service', servicePolicy({ partition, accountId, pathBase, userPrefix, boundaryArn, roles: [], buckets: [name], kmsKeys: [] }))
  // The proof puts and removes its objects with the same credentials. The service itself needs no access to S3.
  await put('proof-bucket', {
    Version: '2012-10-17',
    Statement: [{
      Effect: 'Allow',
      Action: ['s3:ListBucket', 's3:GetObject', 's3:PutObject', 's3:DeleteObject'],
      Resource: [`arn:${partition}:s3:::${name}`, `arn:${partition}:s3:::${name}/*`]
    }]
  })
  say(`made bucket, boundary and role ${name}`)
  return { boundaryArn, roleArn: role.Role.Arn }
}

/** A new role takes some seconds until it can be assumed, and its policies until they count. */
const assumed = async ({ store, name, signal }: FirstRun, RoleArn: string): Promise<Key> => {
  const until = Date.now() + 120_000
  for (let why = ''; Date.now() < until; await delay(2_000, undefined, { signal })) {
    const session = await store.call('AssumeRole', { RoleArn, RoleSessionName: 'first-run', DurationSeconds: 900 })
    if (!session.ok) continue
    const { AccessKeyId, SecretAccessKey, SessionToken } = session.output.Credentials
    const key = { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken }
    const iam = await store.call('ListUsers', { PathPrefix: pathBase }, key)
    const s3 = await store.s3({ method: 'PUT', bucket: name, key: 'job-access-proof/ready', body: '' }, key)
    if (iam.ok && s3.outcome === 'passed') return key
    why = iam.ok ? s3.code : iam.code
    if (Date.now() + 2_000 >= until) throw new Error(`The role may not do its work after two minutes: ${why}`)
  }
  throw new Error('The role could not be assumed within two minutes.')
}

const prove = async (
  { name, signal, patience, sourceIp }: FirstRun, key: Key, boundaryArn: string, args: string[]
): Promise<number> => {
  const extension = import.meta.filename.endsWith('.ts') ? 'ts' : 'js'
  const { AWS_PROFILE: _, ...env } = process.env
  const child = spawn(process.execPath, [
    '--disable-warning=ExperimentalWarning', join(import.meta.dirname, `prove-store.${extension}`),
    '--bucket', name, '--source-ip', sourceIp, '--patience', patience, ...args
  ], {
    stdio: 'inherit',
    env: {
      ...env,
      AWS_ACCESS_KEY_ID: key.accessKeyId,
      AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
      AWS_SESSION_TOKEN: key.sessionToken,
      JOB_ACCESS_PROVIDER: 'aws',
      JOB_ACCESS_PATH: pathBase,
      JOB_ACCESS_USER_PREFIX: userPrefix,
      JOB_ACCESS_BOUNDARY_ARN: boundaryArn
    }
  })
  const stop = () => child.kill('SIGTERM')
  signal.addEventListener('abort', stop)
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on('error', reject)
      child.on('close', code => resolve(code ?? 1))
    })
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

const flags = {
  'source-ip': { type: 'string' }, patience: { type: 'string', default: '60' }, clean: { type: 'boolean', default: false }
} as const

await operatorCommand(usage, async args => {
  const { values: { 'source-ip': sourceIp, patience, clean: onlyClean } } = parseArgs({ args, options: flags })
  if (sourceIp === undefined && !onlyClean) throw new UsageError('--source-ip is needed: the address from which AWS sees this machine.')
  if (!/^\d{1,3}$/.test(patience)) throw new UsageError('--patience takes seconds.')
  const region = process.env.AWS_REGION ?? 'us-east-1'
  const iamEndpoint = process.env.AWS_ENDPOINT_URL_IAM ?? process.env.AWS_ENDPOINT_URL
  const store = await openStore({
    region,
    s3Endpoint: process.env.JOB_ACCESS_S3_ENDPOINT ?? process.env.AWS_ENDPOINT_URL ?? `https://s3.${region}.amazonaws.com`,
    ...(iamEndpoint !== undefined && { iamEndpoint })
  })
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort(new Error(`Stopped by ${signal}.`)))
  const timer = setTimeout(() => stop.abort(new Error('Stopped after eight minutes.')), budgetMs)
  const made: string[] = []
  let wrong = 0
  try {
    if (!onlyClean) {
      const name = `${namePrefix}${randomBytes(4).toString('hex')}`
      const run: FirstRun = { store, name, region, signal: stop.signal, patience, sourceIp: sourceIp ?? '' }
      made.push(name)
      const { boundaryArn, roleArn } = await setUp(run)
      const key = await assumed(run, roleArn)
      for (const args of [['--attach', 'inline'], ['--attach', 'managed', '--layout', 'guarded']]) {
        stop.signal.throwIfAborted()
        say(`prove-store ${args.join(' ')}`)
        wrong += await prove(run, key, boundaryArn, args) === 0 ? 0 : 1
      }
    }
  } catch (error) {
    const cause: unknown = stop.signal.aborted ? stop.signal.reason : error
    process.stderr.write(`Not finished: ${cause instanceof Error ? cause.message : String(cause)}\n`)
    wrong += 1
  } finally {
    clearTimeout(timer)
    const { removed, left } = await clean(store, made)
    for (const line of removed) say(`removed ${line}`)
    for (const line of left) process.stderr.write(`Not removed: ${line}. Run it again with --clean.\n`)
    wrong += left.length
    store.close()
  }
  return wrong === 0 ? 0 : 1
})
