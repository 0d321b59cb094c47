import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam'
import t, { type Test } from 'tap'
import { compose, type Composed, type Overrides } from '../src/compose.ts'
import { readConfig } from '../src/config.ts'
import { createIam, type Iam } from '../src/iam/client.ts'
import { createPacer } from '../src/iam/pace.ts'
import { issue } from '../src/lifecycle/issue.ts'
import { reconcile } from '../src/lifecycle/reconcile.ts'
import { openLedger } from '../src/ledger/open.ts'
import { createMetrics } from '../src/metrics/metrics.ts'
import { startTestIam, type TestIam } from './embedded-iam/levers/start.ts'
import { callerNamed, guideJob, silent } from './harness.ts'

// The wiring of the service: that each setting reaches the part that it is for. What the parts do with it is their own tests'.

const composed = async (t: Test, env: Record<string, string>, overrides: Overrides = {}): Promise<Composed> => {
  const parts = await compose(readConfig(env), { log: silent, overrides })
  t.teardown(parts.close)
  return parts
}

/** An IAM that the test can look into, and a client of it. */
const provider = async (t: Test): Promise<{ server: TestIam, iam: ReturnType<typeof createIam> }> => {
  const server = await startTestIam()
  const iam = createIam({ region: 'us-east-1', endpoint: server.url, stsEndpoint: server.url, credentials: server.admin })
  t.teardown(async () => {
    iam.close()
    await server.stop()
  })
  return { server, iam }
}

const folder = (t: Test): string => {
  const path = mkdtempSync(join(tmpdir(), 'compose-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

const actions = ({ calls }: TestIam): string[] => calls.map(({ action }) => action)

t.test('limits, rates, deadlines and names', async t => {
  const { service, deps, generatedToken } = await composed(t, {
    JOB_ACCESS_MAX_GRANTS: '70',
    JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '7',
    JOB_ACCESS_MAX_MANAGED_POLICIES: '9',
    JOB_ACCESS_RATE_PER_MINUTE: '500',
    JOB_ACCESS_REFUSALS_PER_MINUTE: '50',
    JOB_ACCESS_TRUST_PROXY: '10.0.0.0/8',
    JOB_ACCESS_IAM_DEADLINE_MS: '2000',
    JOB_ACCESS_USER_PREFIX: 'jobs',
    JOB_ACCESS_PATH: '/training/',
    JOB_ACCESS_S3_ENDPOINT: 'https://s3.example.org',
    JOB_ACCESS_S3_REGION: 'eu-1',
    JOB_ACCESS_MAX_WINDOW_SECONDS: '3600',
    JOB_ACCESS_MAX_LIFETIME_SECONDS: '7200'
  })
  t.strictSame(deps.outstanding, { perOwner: 7, total: 70, managed: 9 })
  t.match(service, { ratePerMinute: 500, refusalsPerMinute: 50, trustProxy: '10.0.0.0/8', s3: { endpoint: 'https://s3.example.org', region: 'eu-1' } })
  t.match(deps, { deadlineMs: 2000, leaseMs: 6000, naming: { userPrefix: 'jobs', pathBase: '/training/' } }, 'an operation and its teardown fit into a lease')
  t.match(deps.deployment.limits, { maxWindowSeconds: 3600, maxLifetimeSeconds: 7200 })
  t.match(generatedToken, /^jat_generated_/)
  t.match(await service.authenticator.authenticate(`Bearer ${generatedToken}`), { id: 'token:generated', teams: ['*'] })
})

t.test('managed policies have a ceiling of their own on AWS, whose account has one', async t => {
  t.equal((await composed(t, {})).deps.outstanding.managed, undefined)
  const aws = { JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: 'no-boundary', JOB_ACCESS_LEDGER: ':memory:' }
  const { iam } = await provider(t)
  t.equal((await composed(t, aws, { iam, audit: { record: async () => {} } as never })).deps.outstanding.managed, 1_400)
})

t.test('every proxy header is ignored unless the configuration names the proxy', async t => {
  t.equal((await composed(t, {})).service.trustProxy, false)
})

t.test('users get the boundary', async t => {
  const { server, iam } = await provider(t)
  const admin = { JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::000000000000:policy/job-access-boundary' }
  await iam.createPolicy({ name: 'job-access-boundary', document: JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }] }) }, Infinity)
  const { deps } = await composed(t, admin, { iam })
  await issue(deps, callerNamed('token:nlp', ['nlp']), { request: guideJob({ window: { durationSeconds: 3600 } }) })
  t.match([...server.state.users], [{ boundary: admin.JOB_ACCESS_BOUNDARY_ARN }])
})

t.test('SeaweedFS: an STS beside the IAM is refused, and keys that a key made are looked for', async t => {
  const { server, iam } = await provider(t)
  const { deps, service } = await composed(t, { JOB_ACCESS_PROVIDER: 'seaweedfs', AWS_ENDPOINT_URL_IAM: server.url, JOB_ACCESS_LEDGER: ':memory:' },
    { iam, audit: { record: async () => {} } as never })
  await t.rejects(async () => service.readiness.iam?.(), { name: 'IamError', providerCode: 'StsConfigured' })
  t.equal(deps.naming.pathBase, null, 'it keeps no paths')
  await iam.createUser({ name: 'ja-job', path: '/', tags: {} }, Infinity)
  await deps.provisioners.managed.deleteKey({ name: 'ja-job', path: '/', policyArn: null, roleArn: null }, 'AKIAUNKNOWN0000000000', [], Infinity)
  t.ok(actions(server).includes('ListAccessKeys'))
})

t.test('SeaweedFS: its 503, which says that there is no STS, does not count as a provider that is down', async t => {
  const server = createServer((_request, response) => { response.writeHead(503).end() })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => { server.close() })
  t.intercept(process, 'env', { value: { ...process.env, AWS_ACCESS_KEY_ID: 'admin', AWS_SECRET_ACCESS_KEY: 'secret' } })
  const env = { JOB_ACCESS_PROVIDER: 'seaweedfs', AWS_ENDPOINT_URL_IAM: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, JOB_ACCESS_LEDGER: ':memory:' }
  const metrics = createMetrics({ now: Date.now, version: '0', provider: 'seaweedfs', ceiling: 1 })
  const parts = await compose(readConfig(env), { log: silent, metrics, overrides: { audit: { record: async () => {} } as never } })
  t.teardown(parts.close)
  await t.rejects(parts.iam.callerIdentity(undefined, Date.now() + 5_000))
  const counted = await metrics.registry.getSingleMetric('job_access_iam_calls_total')?.get()
  t.strictSame(counted?.values.filter(({ value }) => value > 0).map(({ labels }) => labels),
    [{ operation: 'GetCallerIdentity', outcome: 'unsupported' }])
})

t.test('reconciliation looks at sessions, too', async t => {
  const { server, iam } = await provider(t)
  const profile = { name: 'default', roleArn: 'arn:aws:iam::000000000000:role/jobs', maxSessionSeconds: 3600, chained: false, revocable: true }
  const file = join(folder(t), 'profiles.json')
  writeFileSync(file, JSON.stringify([profile]))
  const { deps } = await composed(t, { JOB_ACCESS_PROFILES: file }, { iam })
  await reconcile(deps, { dryRun: true, graceMs: 0, concurrency: 1, perSecond: 1000 }).catch(() => {})
  t.match(actions(server), ['ListUsers', 'ListRolePolicies'], 'users once, though two attachments share them')
})

t.test('the role of a revocable profile must have the boundary', async t => {
  const { server, iam } = await provider(t)
  const sdk = new IAMClient({ endpoint: server.url, region: 'us-east-1', credentials: server.admin })
  t.teardown(() => sdk.destroy())
  const document = (statement: object) => JSON.stringify({ Version: '2012-10-17', Statement: [statement] })
  const boundary = await iam.createPolicy({ name: 'boundary', document: document({ Effect: 'Allow', Action: 's3:*', Resource: '*' }) }, Infinity)
  const trust = document({ Effect: 'Allow', Principal: { AWS: '000000000000' }, Action: 'sts:AssumeRole' })
  await sdk.send(new CreateRoleCommand({ RoleName: 'open', AssumeRolePolicyDocument: trust }))
  await sdk.send(new CreateRoleCommand({ RoleName: 'bounded', AssumeRolePolicyDocument: trust, PermissionsBoundary: boundary }))
  const start = async (role: string, log = silent) => {
    const file = join(folder(t), 'profiles.json')
    const profile = { name: 'default', roleArn: `arn:aws:iam::000000000000:role/${role}`, maxSessionSeconds: 3600, chained: false, revocable: true }
    writeFileSync(file, JSON.stringify([profile]))
    const parts = await compose(readConfig({ JOB_ACCESS_PROFILES: file, JOB_ACCESS_BOUNDARY_ARN: boundary }), { log, overrides: { iam } })
    t.teardown(parts.close)
  }
  await t.rejects(start('open'), { message: /role\/open has no permissions boundary.*needs .*policy\/boundary/ })
  await start('bounded')
  const warnings: string[] = []
  server.faults.on({ action: 'GetRole' }, { kind: 'error', code: 'AccessDenied' })
  await start('open', { ...silent, warn: (_fields, message) => { warnings.push(message) } })
  t.match(warnings, [/could not be read: check it by hand/])
})

t.test('what compose opened is closed with it; what was passed in is not', async t => {
  const path = folder(t)
  const audit = join(path, 'audit.json')
  writeFileSync(audit, JSON.stringify({ path: join(path, 'audit') }))
  const ledger = await openLedger({ url: ':memory:' })
  t.teardown(() => ledger.close())
  const { close, embedded } = await compose(readConfig({ JOB_ACCESS_AUDIT: audit }), { log: silent, overrides: { ledger } })
  await close()
  const [file = ''] = readdirSync(path).filter(name => name.endsWith('.jsonl'))
  t.match(readFileSync(join(path, file), 'utf8').trim().split('\n').map(line => JSON.parse(line).action), ['audit.open', 'service.start', 'audit.close'])
  await t.rejects(fetch(embedded?.url ?? ''), 'the embedded IAM does not listen any more')
  await ledger.ping()
  t.pass('the ledger that was passed in still answers')
})

t.test('what was opened before a failure is closed', async t => {
  const path = folder(t)
  const ledger = join(path, 'ledger.sqlite')
  await t.rejects(compose(readConfig({ JOB_ACCESS_LEDGER: ledger, JOB_ACCESS_AUDIT: join(path, 'missing.json') }), { log: silent }), { name: 'ConfigError' })
  t.notOk(readdirSync(path).some(name => name.endsWith('-wal')), 'SQLite removes its journal when it is closed')
})

const ref = { name: 'ja-job', path: '/job-access/', policyArn: null, roleArn: null }

t.test('the calls of users and sessions are in their turn', async t => {
  const pacer = createPacer()
  const order: string[] = []
  const take = (name: string) => async () => {
    const answered = await pacer.take(Infinity)
    order.push(name)
    answered?.(false)
  }
  const iam = { listAccessKeys: take('later'), deleteAccessKey: take('at once'), callerIdentity: take('later') } as unknown as Iam
  const { deps: { provisioners: { inline, session } } } = await composed(t, {}, { iam })
  const full = await Promise.all(Array.from({ length: 8 }, () => pacer.take(Infinity)))
  const asked = [
    session.ready(ref, {} as never, Infinity), inline.keys(ref, Infinity), inline.deleteKey(ref, 'AKIA1', [], Infinity)
  ]
  for (const answered of full) answered?.(false)
  await Promise.all(asked)
  t.same(order, ['at once', 'later', 'later'])
})

t.test('tags for bucket policies are those of the configuration', async t => {
  for (const [env, tags] of [[{}, {}], [{ JOB_ACCESS_ABAC_TAGS: 'team' }, { team: 'nlp' }]] as const) {
    const { server, iam } = await provider(t)
    const { deps } = await composed(t, env, { iam })
    await issue(deps, callerNamed('token:nlp', ['nlp']), { request: guideJob({ window: { durationSeconds: 3600 } }) })
    const [user] = server.state.users
    t.same(Object.fromEntries(Object.entries(user?.tags ?? {}).filter(([name]) => ['team', 'job'].includes(name))), tags)
  }
})

t.test('guardrails are those of the configuration', async t => {
  const file = join(folder(t), 'own.cedar')
  writeFileSync(file, '@id("own") permit (principal, action, resource);')
  t.match((await composed(t, { JOB_ACCESS_GUARDRAILS: file })).guardrails.current.policies, [{ id: 'own' }])
})

t.test('names of sessions begin as the configuration says', async t => {
  const name = (prefix: string) => `${prefix}-job-20250716t003000z-01k00000000000000000000000`
  const iam = { listRolePolicies: async () => [name('ja'), name('jobs')] } as unknown as Iam
  const profile = { name: 'default', roleArn: 'arn:aws:iam::000000000000:role/jobs', maxSessionSeconds: 3600, chained: false, revocable: true }
  const { deps } = await composed(t, { JOB_ACCESS_USER_PREFIX: 'jobs' }, { iam, deployment: { profiles: { default: profile } } })
  const listed: string[] = []
  for await (const { ref } of deps.provisioners.session.list(() => Infinity)) listed.push(ref.name)
  t.same(listed, [name('jobs')])
})

t.test('the provider is asked at the endpoint of the configuration, and its credentials are meant', async t => {
  const { server } = await provider(t)
  const { accessKeyId, secretAccessKey } = server.admin
  t.intercept(process, 'env', { value: { ...process.env, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } })
  const { service } = await composed(t, { JOB_ACCESS_PROVIDER: 'localstack', AWS_ENDPOINT_URL: server.url, JOB_ACCESS_LEDGER: ':memory:' },
    { audit: { record: async () => {} } as never })
  await service.readiness.iam?.()
  t.same(actions(server), ['ListUsers'])
  t.equal(service.notice, null)
  const { deps } = await composed(t, { JOB_ACCESS_PROVIDER: 'localstack', AWS_ENDPOINT_URL_IAM: server.url, JOB_ACCESS_LEDGER: ':memory:' },
    { audit: { record: async () => {} } as never })
  await deps.provisioners.session.ping(Date.now() + 5_000)
  t.same(actions(server), ['ListUsers', 'GetCallerIdentity'], 'STS too, without a variable of its own')
  t.match((await composed(t, {})).service.notice, /embedded IAM/)
})

t.test('a part that does not close leaves no other open', async t => {
  const ledger = join(folder(t), 'ledger.sqlite')
  const errors: string[] = []
  const log = { ...silent, error: (_fields: object, message: string) => { errors.push(message) } }
  const { close, deps, embedded } = await compose(readConfig({ JOB_ACCESS_LEDGER: ledger }), { log })
  const stop = embedded?.stop
  if (embedded) embedded.stop = async () => { throw new Error('it hangs') }
  await close()
  await stop?.()
  t.same(errors, ['closing failed'])
  await t.rejects(deps.ledger.ping(), 'the ledger is closed')
})
