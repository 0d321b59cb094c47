import { CreateRoleCommand, IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { longestSession, sessionEnd, sessionSeconds, type RoleProfile } from '../../src/iam/role-profile.ts'
import { revocation } from '../../src/iam/session-provisioner.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { evaluate } from '../../src/policy/prove/evaluate.ts'
import { appOf, bearer, bench, guideJob, startOfTime, type Bench, type BenchOptions } from '../harness.ts'

type Test = Parameters<typeof bench>[0]

const roleArn = 'arn:aws:iam::000000000000:role/jobs/training'
const profile: RoleProfile = { name: 'default', roleArn, maxSessionSeconds: 10_800, chained: false, revocable: true }
const every = ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity']

const withRole = async (t: Test, profiles: RoleProfile[] = [profile], trusted = every, options: BenchOptions = {}) => {
  const it = await bench(t, { ...options, profiles: Object.fromEntries(profiles.map(one => [one.name, one])) })
  const sdk = new IAMClient({ endpoint: it.iam.url, region: 'us-east-1', credentials: it.iam.admin })
  t.teardown(() => sdk.destroy())
  await sdk.send(new CreateRoleCommand({
    RoleName: 'training',
    Path: '/jobs/',
    MaxSessionDuration: 43_200,
    AssumeRolePolicyDocument: JSON.stringify({
      Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${it.iam.accountId}:root` }, Action: trusted }]
    })
  }))
  const app = await appOf(t, it)
  const headers = bearer(it.tokens.nlp)
  return {
    ...it,
    sdk,
    issue: (change: object = {}) => app.inject({ method: 'POST', url: '/v1/grants', headers, payload: { ...guideJob({ attach: 'session' }), ...change } }),
    send: (method: 'DELETE' | 'GET' | 'POST' | 'PATCH', url: string, payload?: object) => app.inject({ method, url, headers, ...(payload && { payload }) })
  }
}

const assumed = ({ iam }: Pick<Bench, 'iam'>) => iam.calls.filter(call => call.action === 'AssumeRole')
const tagsOf = (params: Record<string, string | undefined>) => Object.fromEntries(Object.keys(params)
  .map(key => /^Tags\.member\.(\d+)\.Key$/.exec(key)?.[1])
  .filter(index => index !== undefined)
  .map(index => [params[`Tags.member.${index}.Key`], params[`Tags.member.${index}.Value`]]))

t.test('one call: duration from the window, policy, tags and source identity from the job', async t => {
  const it = await withRole(t, [{ ...profile, externalId: 'job-access' }])
  const { grant, credentials } = (await it.issue({
    job: { id: 'wiki-finetune-42', team: 'nlp', labels: { 'cost-center': '17' } }, window: { durationSeconds: 5400 }
  })).json()
  t.match(grant, { state: 'active', attach: 'session', user: { roleArn }, notice: null })
  t.match(credentials, { accessKeyId: /^ASIA/, sessionToken: /./, expiration: '2025-07-16T02:00:00Z' })
  t.strictSame(it.iam.calls.filter(call => call.action !== 'CreateRole').map(call => call.action), ['AssumeRole'])
  const [call] = assumed(it)
  t.match(call?.params, {
    RoleArn: roleArn,
    RoleSessionName: grant.user.name,
    SourceIdentity: grant.user.name,
    DurationSeconds: '5400',
    ExternalId: 'job-access',
    Policy: JSON.stringify(grant.policy)
  })
  t.strictSame(tagsOf(call?.params ?? {}), {
    'job-label:cost-center': '17',
    'job-access:grant': grant.id,
    'job-access:job': 'wiki-finetune-42',
    'job-access:team': 'nlp',
    'job-access:expires': '2025-07-16T02:00:00.000Z'
  })
  t.equal(it.iam.state.userCount, 0, 'no user')
})

t.test('a short window gets STS’s shortest session, and ends by its policy', async t => {
  const it = await withRole(t)
  const { credentials } = (await it.issue({ window: { durationSeconds: 300 } })).json()
  t.equal(assumed(it)[0]?.params.DurationSeconds, '900')
  t.equal(credentials.expiration, '2025-07-16T00:35:00Z', 'the job is told when its access ends')
  const guide = (await it.issue({ layout: 'guide', job: { id: 'guide', team: 'nlp' }, window: { durationSeconds: 300 } })).json()
  t.equal(guide.credentials.expiration, '2025-07-16T00:45:00Z', 'but for the guide’s reads')
})

t.test('durations', async t => {
  t.equal(sessionSeconds(startOfTime + 5_400_000, startOfTime), 5400)
  t.equal(sessionSeconds(startOfTime + 5_400_001, startOfTime), 5401, 'never shorter than the window')
  t.equal(sessionSeconds(startOfTime + 1, startOfTime), 900)
  t.equal(longestSession(profile), 10_800)
  t.equal(longestSession({ ...profile, chained: true }), 3600)
  t.equal(longestSession({ ...profile, chained: true, maxSessionSeconds: 1800 }), 1800)
  t.equal(sessionEnd({ spec: { layout: 'guarded' } as never, expiresAt: 1, deliveredAt: 0 }), 1)
  t.equal(sessionEnd({ spec: { layout: 'guide' } as never, expiresAt: 1, deliveredAt: 0 }), 900_000)
})

t.test('a window longer than any session is refused, and never shortened', async t => {
  const chained = { ...profile, name: 'chained', chained: true }
  const it = await withRole(t, [profile, chained])
  const cases: Array<[string, object, object]> = [
    ['the role’s maximum', { window: { durationSeconds: 10_801 } }, { pointer: '/window', detail: /takes 10801 s; profile default allows 10800 s\.$/ }],
    ['with the grace', { window: { durationSeconds: 10_800, outputGraceSeconds: 1 } }, { pointer: '/window' }],
    ['a later start counts', { window: { notBefore: '2025-07-16T03:00:00Z', durationSeconds: 3600 } }, { pointer: '/window' }],
    ['chained: one hour', { window: { durationSeconds: 3601 }, profile: 'chained' }, { pointer: '/window', detail: /allows 3600 s, since the service itself/ }],
    ['an unknown profile', { window: { durationSeconds: 900 }, profile: 'other' }, { pointer: '/profile', hint: /Profiles: default, chained/ }],
    ['a name that every object has', { window: { durationSeconds: 900 }, profile: 'constructor' }, { pointer: '/profile' }],
    ['and its prototype', { window: { durationSeconds: 900 }, profile: '__proto__' }, { pointer: '/profile' }]
  ]
  for (const [what, change, problem] of cases) {
    const response = await it.issue(change)
    t.equal(response.statusCode, 422, what)
    t.match(response.json(), { code: 'session-unfit', ...problem }, what)
  }
  t.equal(assumed(it).length, 0, 'STS was not asked')
  t.equal((await it.issue({ window: { durationSeconds: 10_800 } })).statusCode, 201, 'the maximum itself')
  t.equal((await it.issue({ window: { durationSeconds: 3600 }, profile: 'chained', job: { id: 'chained', team: 'nlp' } })).statusCode, 201)
})

t.test('too large: the policy itself, or what STS makes of policy and tags', async t => {
  const it = await withRole(t)
  const datasets = (count: number) => Array.from({ length: count }, (_, index) => ({ bucket: `acmeco-training-datasets-${index}` }))
  const plain = await it.issue({ datasets: datasets(12) })
  t.match(plain.json(), { status: 422, code: 'policy-too-large', detail: /a session policy has at most 2048/ })
  t.equal(assumed(it).length, 0)

  const labels = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`label-${index}`, 'v'.repeat(100)]))
  const packed = await it.issue({ datasets: datasets(2), layout: 'guarded', job: { id: 'packed', team: 'nlp', labels } })
  t.equal(assumed(it).at(-1)?.code, 'PackedPolicyTooLarge')
  t.match(packed.json(), { status: 422, code: 'policy-too-large', pointer: '/attach', hint: /fewer labels.*attach auto/ })
  const { grants } = (await it.send('GET', '/v1/grants?job=packed')).json()
  t.match(grants, [{ state: 'failed' }], 'nothing of it is left')
})

t.test('a request for a user must not name a profile', async t => {
  const it = await withRole(t)
  for (const attach of [undefined, 'auto', 'inline', 'managed'] as const) {
    const response = await it.issue({ profile: 'default', attach })
    t.match(response.json(), { status: 422, code: 'session-unfit', pointer: '/profile' }, attach ?? 'no attach')
  }
})

t.test('guardrails see the profile that a request does not name', async t => {
  const guardrails = `@id("open") permit (principal, action, resource);
    @id("no-default") forbid (principal, action in [JobAccess::Action::"issue", JobAccess::Action::"render"], resource)
    when { context has profile && context.profile == "default" };`
  const it = await withRole(t, [profile], every, { guardrails })
  t.match((await it.issue()).json(), { status: 403, detail: /"no-default"/ })
  const { waitUntilReady, format, ...request } = guideJob({ attach: 'session' })
  t.match((await it.send('POST', '/v1/policies?preflight=true', request)).json(), { status: 403, detail: /"no-default"/ })
  t.equal((await it.issue({ attach: 'auto' })).statusCode, 201)
})

t.test('when the trust policy lacks an action, the answer tells the operator', async t => {
  for (const missing of every) {
    const it = await withRole(t, [profile], every.filter(action => action !== missing))
    const response = await it.issue()
    t.match(response.json(), { status: 502, code: 'iam-refused', detail: /AssumeRole was refused/, hint: /trust policy.*sts:TagSession/ }, `without ${missing}`)
  }
})

t.test('revoked by a Deny for this session alone', async t => {
  const it = await withRole(t)
  const { grant } = (await it.issue()).json()
  const ended = await it.send('DELETE', `/v1/grants/${grant.id}`)
  t.equal(ended.statusCode, 200)
  t.match(ended.json(), { state: 'revoked', notice: null })
  const [role] = it.iam.state.roles
  t.strictSame(Object.keys(role?.inline ?? {}), [grant.user.name])
  const policy = JSON.parse(role?.inline[grant.user.name] ?? '')
  t.strictSame(policy, revocation(grant.user.name, startOfTime))
  const asked = (identity: string, issued: string) => evaluate(policy, {
    action: 's3:GetObject', resource: 'arn:aws:s3:::a/b', context: { 'aws:SourceIdentity': identity, 'aws:TokenIssueTime': issued }
  }).kind
  t.equal(asked(grant.user.name, '2025-07-16T00:30:00Z'), 'explicit-deny')
  t.equal(asked('another', '2025-07-16T00:30:00Z'), 'implicit-deny', 'not another session')
  t.equal(asked(grant.user.name, '2025-07-16T00:34:59Z'), 'explicit-deny', 'issued before, by a clock that is ahead of ours')
  t.equal(asked(grant.user.name, '2025-07-16T00:35:00Z'), 'implicit-deny', 'not a later one of its name')
})

t.test('a session that cannot be revoked: the answer says so, and it ends by itself', async t => {
  const it = await withRole(t, [{ ...profile, revocable: false }])
  const { grant } = (await it.issue()).json()
  const path = `/v1/grants/${grant.id}`
  const notice = 'This session cannot be revoked: its keys work until 2025-07-16T03:30:00Z, when they end by themselves.'
  for (const [method, url] of [['POST', `${path}/complete`], ['DELETE', path]] as const) {
    const answer = await it.send(method, url)
    t.equal(answer.statusCode, 202, `${method}: not done`)
    t.match(answer.json(), { state: 'revoking', notice })
  }
  t.strictSame(it.iam.state.roles[0]?.inline, {})
  it.clock.advance(10_800_000)
  await sweep(it.deps, { batch: 10, concurrency: 1, perSecond: 100 }, new AbortController().signal)
  t.match((await it.send('GET', path)).json(), { state: 'revoked', notice: null })
})

t.test('a role without room for another revocation: the session cannot be revoked', async t => {
  const it = await withRole(t)
  const { grant } = (await it.issue()).json()
  const statement = { Effect: 'Deny', Action: ['*'], Resource: [`arn:aws:s3:::${'a'.repeat(10_050)}`] }
  await it.sdk.send(new PutRolePolicyCommand({
    RoleName: 'training', PolicyName: 'full', PolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement: [statement] })
  }))
  t.match((await it.send('DELETE', `/v1/grants/${grant.id}`)).json(), { state: 'revoking', notice: /cannot be revoked/ })
})

t.test('a rotation is a new session; both end with the grant', async t => {
  const it = await withRole(t)
  const { grant, credentials } = (await it.issue()).json()
  const rotated = (await it.send('POST', `/v1/grants/${grant.id}/rotate`, {})).json()
  t.not(rotated.credentials.accessKeyId, credentials.accessKeyId)
  t.match(rotated.warnings, [{ code: 'session-lives-on', detail: /until 20\d\d-.*Z/ }], 'overlap 0 cannot be kept, and it says so')
  t.strictSame(assumed(it).map(call => call.params.SourceIdentity), [grant.user.name, grant.user.name])
  await it.send('DELETE', `/v1/grants/${grant.id}`)
  t.strictSame(Object.keys(it.iam.state.roles[0]?.inline ?? {}), [grant.user.name], 'one Deny for both')
})
