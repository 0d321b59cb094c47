import { CreateRoleCommand, IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { endOfSession, longestSession, profileOfGrant, sessionEnd, sessionSeconds, type RoleProfile } from '../../src/iam/role-profile.ts'
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
  const lasts = (leftMs: number, change: Partial<RoleProfile> = {}) =>
    sessionSeconds({ ...profile, ...change }, startOfTime + leftMs, startOfTime)
  t.equal(lasts(5_400_000), 5400)
  t.equal(lasts(5_400_001), 5401, 'never shorter than the window, where it fits')
  t.equal(lasts(10_800_001), 10_800, 'the longest of the role; the next session goes on')
  t.equal(lasts(604_800_000, { chained: true }), 3600)
  t.equal(lasts(1), 900)
  t.equal(lasts(-1), 900)
  t.equal(lasts(899_999, { maxSessionSeconds: 900 }), 900)
  t.equal(longestSession(profile), 10_800)
  t.equal(longestSession({ ...profile, chained: true }), 3600)
  t.equal(longestSession({ ...profile, chained: true, maxSessionSeconds: 1800 }), 1800)
  const [guarded, guide] = [{ layout: 'guarded' }, { layout: 'guide' }] as never[] as [never, never]
  t.equal(endOfSession(5, { spec: guarded, expiresAt: 3 }), 3)
  t.equal(endOfSession(5, { spec: guarded, expiresAt: 9 }), 5)
  t.equal(endOfSession(5, { spec: guide, expiresAt: 3 }), 5, 'the guide’s reads')
  t.equal(sessionEnd({ spec: guarded, expiresAt: 9, deliveredAt: 0, sessionsEndAt: 5 }), 5)
  t.equal(sessionEnd({ spec: guarded, expiresAt: 9, deliveredAt: null, sessionsEndAt: 5 }), 5, 'its answer may have been lost')
  t.equal(sessionEnd({ spec: guarded, expiresAt: 9, deliveredAt: null, sessionsEndAt: null }), 0, 'never asked for')
  t.equal(sessionEnd({ spec: guarded, expiresAt: 1, deliveredAt: 0, sessionsEndAt: null }), 1, 'of an earlier release: the window')
  t.equal(sessionEnd({ spec: guide, expiresAt: 1, deliveredAt: 0, sessionsEndAt: null }), 900_000)
})

t.test('the profile of a grant', async t => {
  const short = { ...profile, name: 'short', maxSessionSeconds: 900 }
  const of = (name: string | undefined, arn: string | null = roleArn) => profileOfGrant({ default: profile, short }, arn, name)?.name
  t.equal(of('short'), 'short')
  t.equal(of('default'), 'default')
  t.equal(of(undefined), 'default', 'of an earlier release')
  t.equal(of('gone'), 'default', 'its role is still there')
  t.equal(of('short', `${roleArn}-2`), undefined, 'another role now has that name')
  t.equal(of('short', null), undefined)
})

t.test('a profile that there is not is refused', async t => {
  const it = await withRole(t, [profile, { ...profile, name: 'chained', chained: true }])
  for (const name of ['other', 'constructor', '__proto__']) {
    const response = await it.issue({ profile: name })
    t.match(response.json(), { status: 422, code: 'session-unfit', pointer: '/profile', hint: /Profiles: default, chained/ }, name)
  }
  t.equal(assumed(it).length, 0, 'STS was not asked')
})

t.test('a window longer than a session: the session says when it ends, and the next one goes on', async t => {
  const chained = { ...profile, name: 'chained', chained: true }
  const it = await withRole(t, [profile, chained])
  const cases: Array<[string, object, seconds: string, expiration: string, warning: RegExp | null]> = [
    ['the longest session itself', { window: { durationSeconds: 10_800 } }, '10800', '2025-07-16T03:30:00Z', null],
    ['a second more', { window: { durationSeconds: 10_801 } }, '10800', '2025-07-16T03:30:00Z', /ends at 2025-07-16T03:30:00Z, before the window ends: .*\/rotate/],
    ['with the grace', { window: { durationSeconds: 10_800, outputGraceSeconds: 1 }, layout: 'guarded' }, '10800', '2025-07-16T03:30:00Z', /before the window ends/],
    ['before the start', { window: { notBefore: '2025-07-16T03:30:00Z', durationSeconds: 60 } }, '10800', '2025-07-16T03:30:00Z', /before the window starts/],
    ['chained', { window: { durationSeconds: 3601 }, profile: 'chained' }, '3600', '2025-07-16T01:30:00Z', /before the window ends/],
    ['with the reads of the guide', { window: { durationSeconds: 10_801 }, layout: 'guide' }, '10800', '2025-07-16T03:30:00Z', /before the window ends/]
  ]
  for (const [what, change, seconds, expiration, warning] of cases) {
    const { grant, credentials, warnings } = (await it.issue({ ...change, job: { id: what.replaceAll(' ', '-'), team: 'nlp' } })).json()
    t.equal(assumed(it).at(-1)?.params.DurationSeconds, seconds, what)
    t.equal(credentials.expiration, expiration, what)
    t.equal(grant.sessionsEndAt, expiration.replace('Z', '.000Z'), what)
    const said = warnings.filter((each: { code: string }) => each.code === 'session-ends-first')
    t.match(said, warning ? [{ detail: warning }] : [], what)
    t.equal(said.length, warning ? 1 : 0, what)
  }
})

t.test('a rotation gives the next session; the last one ends with the window', async t => {
  const it = await withRole(t, [{ ...profile, chained: true }])
  const { grant } = (await it.issue({ window: { durationSeconds: 6000 } })).json()
  const next = async () => (await it.send('POST', `/v1/grants/${grant.id}/rotate`, {})).json()
  it.clock.advance(2_400_000)
  const second = await next()
  t.equal(assumed(it).at(-1)?.params.DurationSeconds, '3600')
  t.equal(second.credentials.expiration, '2025-07-16T02:10:00Z')
  t.strictSame(second.warnings, [{
    code: 'session-lives-on',
    detail: 'The session before this one works on until 2025-07-16T01:30:00Z; if it leaked, revoke the grant and ask for another.'
  }], 'it reaches the end of the window')
  it.clock.advance(3_000_000)
  const last = await next()
  t.equal(assumed(it).at(-1)?.params.DurationSeconds, '900', '600 s are left')
  t.match(last, { credentials: { expiration: '2025-07-16T02:10:00Z' }, grant: { sessionsEndAt: '2025-07-16T02:10:00.000Z' } })
  it.clock.advance(600_000)
  t.match(await next(), { code: 'grant-state' })
})

t.test('two profiles of one role: a grant’s sessions are as long as its own profile says', async t => {
  const it = await withRole(t, [profile, { ...profile, name: 'short', maxSessionSeconds: 1800 }])
  const { grant } = (await it.issue({ window: { durationSeconds: 7200 }, profile: 'short' })).json()
  await it.send('POST', `/v1/grants/${grant.id}/rotate`, {})
  t.strictSame(assumed(it).map(call => call.params.DurationSeconds), ['1800', '1800'])
})

t.test('a change reaches the next session; the answer says until when those before it live', async t => {
  const it = await withRole(t, [{ ...profile, chained: true }])
  const { grant } = (await it.issue({ window: { durationSeconds: 7200 } })).json()
  const change = (payload: object) => it.send('PATCH', `/v1/grants/${grant.id}`, payload)
  const longer = await change({ window: { durationSeconds: 10_800 }, sourceIps: ['203.0.113.77'] })
  t.match(longer.json(), {
    window: { outputNotAfter: '2025-07-16T03:30:00Z' },
    notice: 'The next session has the new window and source: POST /v1/grants/:id/rotate gives it. Those before it keep theirs, the last until 2025-07-16T01:30:00Z.'
  })
  t.match((await it.send('GET', `/v1/grants/${grant.id}`)).json(), { notice: null, sessionsEndAt: '2025-07-16T01:30:00.000Z' })
  await it.send('POST', `/v1/grants/${grant.id}/rotate`, {})
  t.match(assumed(it).at(-1)?.params.Policy, /203\.0\.113\.77.*2025-07-16T03:30:00Z|2025-07-16T03:30:00Z.*203\.0\.113\.77/)
  const shorter = await change({ window: { durationSeconds: 3599 } })
  t.match(shorter.json(), {
    status: 422,
    code: 'session-unfit',
    pointer: '/window',
    detail: /works until 2025-07-16T01:30:00Z/,
    hint: /^End the window at or after 2025-07-16T01:30:00Z, or complete/
  })
  t.match((await change({ window: { notAfter: '2025-07-16T01:30:00Z' } })).json(), { window: { outputNotAfter: '2025-07-16T01:30:00Z' } }, 'what the hint says')
  it.clock.advance(3_600_000)
  t.match((await change({ window: { durationSeconds: 60 } })).json(), { code: 'grant-state' })
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
  await sweep(it.deps, { concurrency: 1, perSecond: 100 }, new AbortController().signal)
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
