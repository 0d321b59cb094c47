import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { NewAuditEvent } from '../../src/audit/event.ts'
import type { Audit } from '../../src/audit/log.ts'
import { auditRecorder } from '../../src/audit/recorder.ts'
import { compose, type Composed } from '../../src/compose.ts'
import { readConfig } from '../../src/config.ts'
import type { GrantView } from '../../src/http/schemas.ts'
import { healthOf } from '../../src/iam/accounts.ts'
import { createIam } from '../../src/iam/client.ts'
import { openLedger } from '../../src/ledger/open.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import type { Account } from '../../src/lifecycle/deps.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { join as joinJob } from '../../src/lifecycle/join.ts'
import { inOrder } from '../../src/lifecycle/pool.ts'
import { reconcile } from '../../src/lifecycle/reconcile.ts'
import { rotate } from '../../src/lifecycle/rotate.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import type { GrantRequest } from '../../src/request.ts'
import { startTestIam, type TestIam } from '../embedded-iam/levers/start.ts'
import { makeRole } from './world.ts'
import { appOf, bearer, callerNamed, countedIds, guideJob, inForce, openSet, silent, startOfTime } from '../harness.ts'

/** Two accounts, each an IAM of its own, and one ledger. */

const owner = callerNamed('token:nlp', ['*'])
const inAnHour = { window: { durationSeconds: 3600 } }
const jobOf = (id: string, change: Partial<GrantRequest> = {}) => ({ request: guideJob({ job: { id, team: 'nlp' }, ...inAnHour, ...change }) })
const fast = { concurrency: 4, perSecond: 100_000 }

interface Pooled extends Composed { a: TestIam, b: TestIam, ledger: Ledger, clock: { now: number } }
interface PooledOptions { accounts?: object[], guardrails?: string, env?: Record<string, string> }

const two = [{ name: 'a', users: 2 }, { name: 'b', users: 1 }]

const pooled = async (t: Test, { accounts = two, guardrails = openSet, env = {} }: PooledOptions = {}): Promise<Pooled> => {
  const clock = { now: startOfTime }
  const start = async () => {
    const iam = await startTestIam({ now: () => new Date(clock.now) })
    t.teardown(() => iam.stop())
    return iam
  }
  const [a, b] = [await start(), await start()]
  const ledger = await openLedger({ url: ':memory:' })
  t.teardown(() => ledger.close())
  const composed = await composeOn(t, ledger, accounts, { a, b }, clock, guardrails, env)
  return { ...composed, a, b, ledger, clock }
}

const composeOn = async (
  t: Test, ledger: Ledger, accounts: object[] | undefined, servers: Record<string, TestIam>, clock: { now: number }, guardrails = openSet,
  env: Record<string, string> = {}
): Promise<Composed> => {
  const dir = mkdtempSync(join(tmpdir(), 'pool-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const file = join(dir, 'accounts.json')
  if (accounts) writeFileSync(file, JSON.stringify(accounts))
  const config = readConfig({ ...(accounts && { JOB_ACCESS_ACCOUNTS_FILE: file }), JOB_ACCESS_IAM_DEADLINE_MS: '1000', ...env })
  const composed = await compose(config, {
    log: silent,
    overrides: {
      now: () => clock.now,
      newId: countedIds(),
      ledger,
      servers,
      guardrails: inForce(guardrails),
      ...(servers.a && { embedded: servers.a })
    }
  })
  t.teardown(composed.close)
  return composed
}

const usersOf = (iam: TestIam) => [...iam.state.users].map(({ name }) => name)
const accountsOf = async ({ ledger }: Pooled) => (await ledger.list({}, { limit: 200 })).reverse().map(({ state, principal }) => `${principal.account} ${state}`)
const refusal = (work: Promise<unknown>): Promise<any> => work.then(() => ({ code: 'none' }), error => error)

t.test('a grant goes where there is most room, and the row says so; a full pool says when there is room', async t => {
  const p = await pooled(t)
  const issued = [await issue(p.deps, owner, jobOf('1')), await issue(p.deps, owner, jobOf('2')), await issue(p.deps, owner, jobOf('3'))]
  t.same(issued.map(({ grant }) => grant.principal.account), ['a', 'a', 'b'])
  t.same(usersOf(p.a), issued.slice(0, 2).map(({ grant }) => grant.principal.name))
  t.same(usersOf(p.b), issued.slice(2).map(({ grant }) => grant.principal.name))
  const full = await refusal(issue(p.deps, owner, jobOf('4')))
  t.match(full, { code: 'too-many-grants', init: { retryAfterSeconds: 60, detail: /^No account has room: a, b\. The next place is free at 2025-07-16T01:30:00Z/ } })
  t.match(await issue(p.deps, owner, { ...jobOf('2'), request: { ...jobOf('2').request, replace: true } }),
    { created: false, grant: { principal: { account: 'a' } } }, 'who has a grant keeps it')
  await end(p.deps, owner, issued[1]?.grant.id ?? '', 'completed')
  t.equal((await issue(p.deps, owner, jobOf('4'))).grant.principal.account, 'a')
})

t.test('every later operation goes to the account of the grant', async t => {
  const p = await pooled(t, { accounts: [{ name: 'a', users: 1 }, { name: 'b', users: 2 }] })
  const { grant } = await issue(p.deps, owner, jobOf('1'))
  t.equal(grant.principal.account, 'b')
  await rotate(p.deps, owner, grant.id, 60)
  await extend(p.deps, owner, grant.id, { window: { durationSeconds: 7200 } })
  p.clock.now += 61_000
  await sweep(p.deps, fast, new AbortController().signal)
  const ended = await end(p.deps, owner, grant.id, 'completed')
  t.match(ended, { state: 'revoked', principal: { account: 'b' } })
  t.same(usersOf(p.b), [])
  t.equal(p.b.state.keyCount, 0)
  t.same(p.a.calls, [], 'the other account heard nothing')
})

t.test('an account that refuses before it made anything is passed over; after that the caller gets the error', async t => {
  for (const [code, action, change, expected] of [
    ['LimitExceeded', 'CreateUser', {}, ['a failed', 'b active']],
    ['AccessDenied', 'CreateUser', {}, ['a failed', 'b active']],
    ['InvalidClientTokenId', 'CreateUser', {}, ['a failed', 'b active']],
    ['LimitExceeded', 'CreatePolicy', { attach: 'managed' }, ['a failed']],
    ['MalformedPolicyDocument', 'PutUserPolicy', {}, ['a failed']]
  ] as const) {
    await t.test(`${code} of ${action}`, async t => {
      const p = await pooled(t)
      p.a.faults.on({ action }, { kind: 'error', code })
      const answer = await refusal(issue(p.deps, owner, jobOf('1', change)))
      t.equal(answer.code, expected.length === 1 ? 'iam-refused' : 'none')
      t.same(await accountsOf(p), expected)
      t.same(usersOf(p.a), [])
      t.equal(p.a.state.keyCount, 0)
      t.equal(usersOf(p.b).length, expected.length - 1)
    })
  }
})

t.test('a refused role is its profile’s trouble: the account’s other profiles, and its users, go on', async t => {
  const arn = (name: string) => `arn:aws:iam::000000000000:role/${name}`
  const profiles = ['jobs', 'others'].map(name => ({ name, roleArn: arn(name), maxSessionSeconds: 3600, chained: false, revocable: false }))
  const p = await pooled(t, { accounts: [{ name: 'a', users: 9, profiles }, { name: 'b', users: 5, profiles }] })
  for (const iam of [p.a, p.b]) for (const { name } of profiles) await makeRole(iam, name)
  p.a.faults.on({ action: 'AssumeRole', params: { RoleArn: arn('others') } }, { kind: 'error', code: 'AccessDenied' })
  const where = async (id: string, profile?: string) =>
    (await issue(p.deps, owner, jobOf(id, profile === undefined ? {} : { attach: 'session', profile }))).grant.principal.account
  const asked = () => p.a.calls.filter(({ params }) => params.RoleArn === arn('others')).length
  t.equal(await where('1', 'others'), 'b')
  t.equal(await where('2', 'jobs'), 'a', 'another profile of the account')
  t.equal(await where('3'), 'a', 'a user of the account')
  t.match((await (await appOf(t, p)).inject('/readyz')).json(), { checks: { 'account a': 'ok' } })
  const before = asked()
  t.equal(await where('4', 'others'), 'b')
  t.equal(asked(), before, 'which is the last choice for this profile')
})

t.test('a refusal is believed for a minute, or until the same is done', async t => {
  let now = 0
  const { heard, isWell } = healthOf(() => now)
  const seen = () => [isWell(), isWell('x'), isWell('y')]
  const call = (operation: string, outcome: 'ok' | 'denied', roleArn?: string) => heard({ operation, outcome, ms: 1, ...(roleArn && { roleArn }) })
  call('AssumeRole', 'denied', 'x')
  t.same(seen(), [true, false, true])
  call('AssumeRole', 'ok', 'y')
  call('CreateUser', 'ok')
  t.same(seen(), [true, false, true])
  now = 60_000
  t.same(seen(), [true, true, true])
  call('AssumeRole', 'denied', 'x')
  call('AssumeRole', 'ok', 'x')
  t.same(seen(), [true, true, true])
  call('CreateUser', 'denied')
  t.same(seen(), [false, false, false])
})

t.test('an account that does not answer takes only its own grants', async t => {
  const p = await pooled(t, { accounts: [{ name: 'a', users: 9 }, { name: 'b', users: 5 }] })
  const { grant: lost } = await issue(p.deps, owner, jobOf('before'))
  t.equal(lost.principal.account, 'a')
  p.a.faults.on({}, { kind: 'timeout' })
  t.equal((await refusal(issue(p.deps, owner, jobOf('1')))).code, 'iam-unavailable')
  t.same(await accountsOf(p), ['a active', 'a revoking'], 'what it may have made is still to be removed')
  t.equal((await issue(p.deps, owner, jobOf('1'))).grant.principal.account, 'b', 'the next try of the job, and with less room')
  t.equal((await issue(p.deps, owner, jobOf('2'))).grant.principal.account, 'b')
  t.equal((await end(p.deps, owner, lost.id, 'completed')).state, 'revoking')

  // The sweeps of both begin at the same time, and that of b is over first.
  p.clock.now += 2 * 3_600_000
  const order: string[] = []
  const lane = async (account: string) => {
    await sweep(p.deps, { ...fast, lane: { account } }, new AbortController().signal)
    order.push(account)
  }
  await Promise.all([lane('a'), lane('b')])
  t.same(order, ['b', 'a'])
  t.same(usersOf(p.b), [])

  const app = await appOf(t, p)
  const found = await app.inject('/readyz')
  t.match({ status: found.statusCode, ...found.json() }, { status: 'ready', checks: { iam: 'ok', 'account a': 'failed', 'account b': 'ok' } })
  t.equal(found.statusCode, 200)

  p.a.faults.clear()
  p.clock.now += 600_000
  await sweep(p.deps, fast, new AbortController().signal)
  t.same(usersOf(p.a), [])
  t.same((await accountsOf(p)).filter(line => !line.endsWith('revoked') && !line.endsWith('expired')), ['a failed'])
})

t.test('the list has those of one account', async t => {
  const p = await pooled(t)
  for (const id of ['1', '2', '3']) await issue(p.deps, owner, jobOf(id))
  const app = await appOf(t, p)
  const headers = bearer(p.generatedToken ?? '')
  const list = async (query: string) => (await app.inject({ url: `/v1/grants?${query}`, headers })).json()
  const jobs = async (query: string) => (await list(query)).grants.map(({ job, account }: GrantView) => `${job.id} ${account}`)
  t.same(await jobs('account=a'), ['2 a', '1 a'])
  t.same(await jobs('account=b&state=live&team=nlp'), ['3 b'])
  t.same(await jobs('account=gone'), [])
  t.match(await list('account=A'), { code: 'request-invalid', pointer: '/account' })
  const { next, grants } = await list('account=a&limit=1')
  t.equal(grants.length, 1)
  t.same(await jobs(`account=a&limit=1&after=${next}`), ['1 a'])
})

t.test('not ready: no account answers', async t => {
  const p = await pooled(t)
  for (const iam of [p.a, p.b]) iam.faults.on({}, { kind: 'error', code: 'ServiceUnavailable', status: 503 })
  t.equal((await (await appOf(t, p)).inject('/readyz')).statusCode, 503)
})

t.test('workers of a job spread, unless they share a policy, which is in one account', async t => {
  const p = await pooled(t, { accounts: [{ name: 'a', users: 2 }, { name: 'b', users: 2 }] })
  const { sourceIps, ...request } = jobOf('spread', { workers: { max: 9 }, layout: 'guide', attach: 'inline' }).request
  const { grant: job } = await issue(p.deps, owner, { request })
  t.equal(job.principal.account, undefined)
  const worker = (jobId: string, name: string) => joinJob(p.deps, owner, jobId, { name, sourceIps: ['203.0.113.7'] })
  for (const name of ['w1', 'w2', 'w3', 'w4']) await worker(job.id, name)
  t.equal(usersOf(p.a).length, 2)
  t.equal(usersOf(p.b).length, 2)
  t.equal((await refusal(worker(job.id, 'w5'))).code, 'too-many-grants')
  t.equal((await end(p.deps, owner, job.id, 'completed')).state, 'revoked')
  t.same([...usersOf(p.a), ...usersOf(p.b)], [])

  const shared = await issue(p.deps, owner, { request: { ...request, job: { id: 'shared', team: 'nlp' }, layout: 'everywhere', attach: 'managed' } })
  t.equal(shared.grant.principal.account, 'a')
  t.equal((await worker(shared.grant.id, 'w1')).grant.principal.account, 'a')
  t.equal((await worker(shared.grant.id, 'w2')).grant.principal.account, 'a')
  t.match(await refusal(worker(shared.grant.id, 'w3')), { code: 'too-many-grants', init: { detail: /^No account has room: a\./ } })
  await end(p.deps, owner, shared.grant.id, 'completed')
  t.same([...usersOf(p.a), ...p.a.state.policies], [])
})

t.test('managed policies have a ceiling in each account', async t => {
  const p = await pooled(t, { accounts: [{ name: 'a', managedPolicies: 1 }, { name: 'b', managedPolicies: 0 }] })
  const managed = (id: string) => issue(p.deps, owner, jobOf(id, { attach: 'managed' }))
  t.equal((await managed('1')).grant.principal.account, 'a')
  t.match(await refusal(managed('2')), { code: 'too-many-managed-policies', init: { detail: /free at 2025-07-16T01:30:00Z/ } })
  t.equal((await issue(p.deps, owner, jobOf('3'))).grant.principal.account, 'b', 'an inline policy takes none')
})

t.test('a guardrail binds a team to an account', async t => {
  const p = await pooled(t, {
    guardrails: `${openSet}
      @id("nlp-in-b") forbid (principal, action == JobAccess::Action::"issue", resource)
        when { resource.team == "nlp" && context has account && context.account != "b" };
      @id("vision-nowhere") forbid (principal, action == JobAccess::Action::"issue", resource) when { resource.team == "vision" && context has account };`
  })
  t.equal((await issue(p.deps, owner, jobOf('1'))).grant.principal.account, 'b')
  t.match(await refusal(issue(p.deps, owner, jobOf('2'))), { code: 'too-many-grants', init: { detail: /No account has room: b\./ } })
  t.equal((await issue(p.deps, owner, jobOf('3', { job: { id: '3', team: 'audio' } }))).grant.principal.account, 'a')
  t.equal((await refusal(issue(p.deps, owner, jobOf('4', { job: { id: '4', team: 'vision' } })))).code, 'forbidden')
})

t.test('a closed account takes no new grants; those that it has go on', async t => {
  const p = await pooled(t)
  const { grant } = await issue(p.deps, owner, jobOf('1'))
  const closed = await composeOn(t, p.ledger, [{ name: 'a', closed: true }, { name: 'b', users: 1 }], { a: p.a, b: p.b }, p.clock)
  t.match(await issue(closed.deps, owner, { request: { ...jobOf('1').request, replace: true } }), { created: false, grant: { id: grant.id } })
  const newId = () => '01k00000000000000000000099'
  t.equal((await issue({ ...closed.deps, newId }, owner, jobOf('2'))).grant.principal.account, 'b')
  t.match(await refusal(issue(closed.deps, owner, jobOf('3'))), { code: 'too-many-grants', init: { detail: /: b\./ } })
  t.equal((await end(closed.deps, owner, grant.id, 'completed')).state, 'revoked')
})

t.test('the service does not start while nobody could end a grant; an earlier account takes those from before', async t => {
  const p = await pooled(t)
  const [a, b] = [(await issue(p.deps, owner, jobOf('1'))).grant, (await issue(p.deps, owner, jobOf('2'))).grant]
  await t.rejects(composeOn(t, p.ledger, [{ name: 'b' }], { b: p.b }, p.clock), /not ended .* 2 in a\. .*"closed": true/)
  for (const { id } of [a, b]) await end(p.deps, owner, id, 'completed')
  await composeOn(t, p.ledger, [{ name: 'b' }], { b: p.b }, p.clock)

  const alone = await composeOn(t, p.ledger, undefined, { a: p.a }, p.clock)
  const { grant } = await issue({ ...alone.deps, newId: () => '01k00000000000000000000098' }, owner, jobOf('3'))
  t.notOk('account' in grant.principal)
  await t.rejects(composeOn(t, p.ledger, two, { a: p.a, b: p.b }, p.clock), /1 in the account from before the pool.*"earlier": true/)
  const earlier = await composeOn(t, p.ledger, [{ name: 'b' }, { name: 'a', earlier: true, s3Endpoint: 'https://a.example' }], { a: p.a, b: p.b }, p.clock)
  t.match(earlier.service.s3, { endpoint: 'https://a.example' }, 'what a new key of such a grant is delivered with')
  t.equal((await end(earlier.deps, owner, grant.id, 'completed')).state, 'revoked')
  t.same(usersOf(p.a), [])
})

t.test('each account is compared with its own grants, and one that fails does not hinder the others', async t => {
  const p = await pooled(t)
  for (const id of ['1', '2', '3']) await issue(p.deps, owner, jobOf(id))
  const options = { ...fast, dryRun: false, graceMs: 0 }
  p.clock.now += 600_000
  t.match(await reconcile(p.deps, options), { seen: 3, findings: [], failed: 0 })
  const [gone = ''] = usersOf(p.b)
  p.a.faults.on({ action: 'ListUsers' }, { kind: 'error', code: 'AccessDenied' })
  const { ledger } = p.deps
  await p.deps.provisioners.inline.discard({ ...(await ledger.list({ account: 'b' }, { limit: 1 }))[0]?.principal ?? { name: '', path: '', policyArn: null, roleArn: null } }, Infinity)
  const byHand = createIam({ region: 'us-east-1', endpoint: p.b.url, credentials: p.b.admin })
  t.teardown(() => byHand.close())
  await byHand.createUser({ name: 'ja-stray', path: '/job-access/1000/', tags: {} }, Infinity)
  const report = await reconcile(p.deps, options)
  t.match(report, { failed: 1, findings: [{ kind: 'stray', name: 'ja-stray', account: 'b' }, { kind: 'lost', name: gone, account: 'b' }] })
  const events: NewAuditEvent[] = []
  auditRecorder({ record: async (event: NewAuditEvent) => { events.push(event) } } as Audit, silent).reconciled(report.findings)
  t.match(events, [{ action: 'reconcile.remove', detail: { user: 'ja-stray', account: 'b', expiresAt: /^1970-/ } }], 'the audit says in which')
})

t.test('the order of the accounts', async t => {
  const account = fc.record({ users: fc.nat(5), managed: fc.option(fc.nat(5), { nil: undefined }), used: fc.nat(6), isWell: fc.boolean() })
  fc.assert(fc.property(fc.array(account, { maxLength: 6 }), fc.constantFrom('user' as const, 'policy' as const, 'session' as const), (given, need) => {
    const accounts = given.map(({ users, managed, isWell }, index) =>
      ({ name: `n${index}`, quota: { users, managed }, isWell: () => isWell, ping: async () => {} }) as unknown as Account)
    const uses = new Map(given.map(({ used }, index) => [`n${index}`, { account: `n${index}`, users: used, managed: used, sessions: used }]))
    const order = inOrder(accounts, need, uses)
    const room = ({ name, quota }: Account) => need === 'session' ? 9 - (uses.get(name)?.sessions ?? 0) : (need === 'user' ? quota.users : quota.managed ?? Infinity) - (uses.get(name)?.users ?? 0)
    const hasRoom = accounts.filter(one => room(one) > 0)
    if (order.length !== hasRoom.length) return false
    return order.every((one, index) => {
      const next = order[index + 1]
      if (!next) return true
      if (one.isWell() !== next.isWell()) return one.isWell()
      return room(one) === room(next) ? one.name < next.name : room(one) > room(next)
    })
  }))
})
