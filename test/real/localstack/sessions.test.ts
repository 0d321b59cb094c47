import { CreateRoleCommand, GetRolePolicyCommand, IAMClient, ListRolePoliciesCommand, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { principalName } from '../../../src/iam/names.ts'
import { startLocalstack } from '../../servers/localstack.ts'
import { startService } from '../service.ts'
import { trainingJob } from '../store.ts'

// Attach `session` over the wire: what STS gives, and what revoking one leaves on the role until it is over.

const localstack = await startLocalstack()
t.teardown(() => localstack.stop())
const admin = { accessKeyId: 'test', secretAccessKey: 'test' }
const iam = new IAMClient({ region: 'us-east-1', endpoint: localstack.endpoint, credentials: admin })
t.teardown(() => iam.destroy())

const roles = ['jobs-revocable', 'jobs-fixed']
for (const RoleName of roles) {
  await iam.send(new CreateRoleCommand({
    RoleName,
    AssumeRolePolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: { AWS: '*' }, Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'] }]
    })
  }))
}
const dir = await mkdtemp(join(tmpdir(), 'job-access-profiles-'))
t.teardown(() => rm(dir, { recursive: true, force: true }))
const profiles = join(dir, 'profiles.json')
await writeFile(profiles, JSON.stringify(roles.map(role => ({
  name: role.slice('jobs-'.length),
  roleArn: `arn:aws:iam::000000000000:role/${role}`,
  maxSessionSeconds: 3600,
  chained: false,
  revocable: role === 'jobs-revocable'
}))))
const service = await startService(t, { provider: 'localstack', endpoint: localstack.endpoint, admin, env: { JOB_ACCESS_PROFILES: profiles } })

let jobs = 0
const request = (profile: string, window: object = { durationSeconds: 1800 }) => ({
  ...trainingJob('guarded'), job: { id: `session-${++jobs}`, team: 'nlp' }, window, sourceIps: ['203.0.113.42'], attach: 'session', profile
})
const revocations = async (RoleName: string) => (await iam.send(new ListRolePoliciesCommand({ RoleName }))).PolicyNames ?? []

t.test('a session of the role, and its revocation', async t => {
  const { grant, credentials, ready } = await service.issue({ ...request('revocable'), waitUntilReady: true })
  t.match(grant, { state: 'active', attach: 'session', user: { roleArn: 'arn:aws:iam::000000000000:role/jobs-revocable' }, notice: null })
  t.equal(ready, true)
  const { accessKeyId, secretAccessKey, sessionToken } = credentials
  if (sessionToken === undefined) return t.fail('no session token')
  const sts = new STSClient({ region: 'us-east-1', endpoint: localstack.endpoint, credentials: { accessKeyId, secretAccessKey, sessionToken } })
  t.teardown(() => sts.destroy())
  t.match(await sts.send(new GetCallerIdentityCommand({})), {
    Arn: `arn:aws:sts::000000000000:assumed-role/jobs-revocable/${grant.user.name}`
  }, 'named like the grant')
  t.strictSame(await revocations('jobs-revocable'), [])

  t.match(await service.call('DELETE', `/v1/grants/${grant.id}`), { status: 200, body: { state: 'revoked', notice: null } })
  t.strictSame(await revocations('jobs-revocable'), [grant.user.name])
  const { PolicyDocument } = await iam.send(new GetRolePolicyCommand({ RoleName: 'jobs-revocable', PolicyName: grant.user.name }))
  t.match(JSON.parse(decodeURIComponent(PolicyDocument ?? '')), {
    Statement: [{
      Effect: 'Deny',
      Action: ['*'],
      Condition: { StringEquals: { 'aws:SourceIdentity': grant.user.name }, DateLessThan: { 'aws:TokenIssueTime': /Z$/ } }
    }]
  }, 'denies this session alone')
  t.strictSame((await service.reconcile()).findings, [], 'its revocation stays while it could still be used')
  t.strictSame(await revocations('jobs-revocable'), [grant.user.name])
})

t.test('a revocation goes when no session of that name can be left', async t => {
  const named = (minutesAgo: number, id: string) => principalName('ja', 'over', Date.now() - minutesAgo * 60_000, `01k${id.repeat(23)}`)
  const [over, justOver] = [named(16, 'a'), named(14, 'b')]
  const PolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Deny', Action: ['*'], Resource: ['*'] }] })
  for (const PolicyName of [over, justOver, 'of-the-operator']) {
    await iam.send(new PutRolePolicyCommand({ RoleName: 'jobs-revocable', PolicyName, PolicyDocument }))
  }
  t.match((await service.reconcile()).findings, [{ kind: 'stray', name: over, done: true }])
  const left = await revocations('jobs-revocable')
  t.notOk(left.includes(over))
  t.ok(left.includes(justOver), 'STS’s shortest session is of 15 minutes: it may outlive its window')
  t.ok(left.includes('of-the-operator'), 'what is not named like ours is not ours')
})

t.test('a session that cannot be revoked says so', async t => {
  const { grant } = await service.issue(request('fixed'))
  const answer = await service.call('DELETE', `/v1/grants/${grant.id}`)
  t.match(answer, { status: 202, body: { state: 'revoking', notice: /cannot be revoked.*until \d{4}-/ } })
  t.match(await service.call('GET', `/v1/grants/${grant.id}`), { body: { notice: /cannot be revoked/ } })
  t.strictSame(await revocations('jobs-fixed'), [])
})

t.test('a window longer than the session: one follows the other, and a change reaches the next', async t => {
  t.match(await service.call('POST', '/v1/grants', request('unknown')), { status: 422, body: { code: 'session-unfit', pointer: '/profile' } })
  const { grant, credentials, warnings } = await service.issue(request('fixed', { durationSeconds: 86_400 }))
  t.match(warnings.at(-1), { code: 'session-ends-first' })
  const hour = Date.parse(credentials.expiration) - Date.now()
  t.ok(hour > 3_540_000 && hour <= 3_600_000, `${hour}: the longest session of the role`)
  const path = `/v1/grants/${grant.id}`
  t.match(await service.call('PATCH', path, { window: { durationSeconds: 60 } }), { status: 422, body: { code: 'session-unfit', pointer: '/window' } })
  t.match(await service.call('PATCH', path, { window: { durationSeconds: 172_800 } }), { status: 200, body: { notice: /next session has the new window/ } })
  const next = await service.call<Awaited<ReturnType<typeof service.issue>>>('POST', `${path}/rotate`, {})
  t.match(next, { status: 200, body: { warnings: [{ code: 'session-ends-first' }, { code: 'session-lives-on' }] } })
  t.not(next.body.credentials.accessKeyId, credentials.accessKeyId)
  t.match(await service.call('DELETE', path), { status: 202, body: { state: 'revoking', notice: new RegExp(`until ${next.body.credentials.expiration}`) } })
})
