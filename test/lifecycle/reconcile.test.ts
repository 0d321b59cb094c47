import { AttachUserPolicyCommand, CreatePolicyCommand, CreateUserCommand, PutUserPolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { minSessionSeconds } from '../../src/iam/role-profile.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { reconcile } from '../../src/lifecycle/reconcile.ts'
import type { Delivery } from '../../src/lifecycle/provision.ts'
import type { GrantRequest } from '../../src/request.ts'
import { disorder, whole } from './order.ts'
import {
  actions, byHand, identityOf, orderOf, jobRequest, leaseMs, owner, reconciled, role, rows, startOfTime, world, type World
} from './world.ts'

const give = ({ healthy }: World, id: string, request: Partial<GrantRequest> = {}): Promise<Delivery> =>
  issue(healthy.deps, owner, orderOf(jobRequest({ job: { id, team: 'nlp' }, ...request })))

/** The same provider, seen by a service whose database was lost. */
const lost = async (t: Parameters<typeof world>[0], w: World, options: Parameters<typeof world>[1] = {}): Promise<World> => {
  const empty = await world(t, { ...options, on: w.iam })
  empty.clock.now = w.clock.now
  return empty
}

const windowMs = 10_800_000
const graceMs = 3_600_000

t.test('in order: nothing is found', async t => {
  const w = await world(t)
  await give(w, 'a')
  await give(w, 'b', { attach: 'managed' })
  t.same(await reconciled(w.healthy), { seen: 2, findings: [], failed: 0 })
  t.same(await disorder(w), [])
})

t.test('a lost database: users are known by their path alone, and go after the grace', async t => {
  for (const attach of ['inline', 'managed'] as const) {
    const w = await world(t)
    const { grant, credentials } = await give(w, 'a', { attach })
    const empty = await lost(t, w)
    empty.clock.advance(windowMs + graceMs - 1)
    t.same(await reconciled(empty.healthy), { seen: 1, findings: [], failed: 0 })
    t.ok(await identityOf(w, credentials))
    empty.clock.advance(1)
    const finding = { kind: 'stray', name: grant.principal.name, expiresAt: '2025-07-16T03:30:00.000Z' }
    t.same(await reconciled(empty.healthy, { dryRun: true }), { seen: 1, findings: [{ ...finding, done: false }], failed: 0 })
    t.ok(await identityOf(w, credentials), 'a dry run does nothing')
    t.same(await reconciled(empty.healthy), { seen: 1, findings: [{ ...finding, done: true }], failed: 0 })
    t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
    t.same(await reconciled(empty.healthy), { seen: 0, findings: [], failed: 0 })
  }
})

t.test('a lost database: an extended grant keeps its user until the end that its policy states', async t => {
  for (const attach of ['inline', 'managed'] as const) {
    for (const layout of ['everywhere', 'guarded', 'guide'] as const) {
      const w = await world(t)
      const { grant, credentials } = await give(w, 'a', { attach, layout })
      const outputGraceSeconds = layout === 'guide' ? 0 : 600
      await extend(w.healthy.deps, owner, grant.id, { window: { durationSeconds: 20_000, outputGraceSeconds } })
      const empty = await lost(t, w)
      const ends = startOfTime + (20_000 + outputGraceSeconds) * 1000
      empty.clock.now = ends + graceMs - 1
      t.match(await reconciled(empty.healthy), { findings: [] }, `${layout}, ${attach}`)
      t.ok(await identityOf(w, credentials))
      empty.clock.advance(1)
      t.match(await reconciled(empty.healthy), { findings: [{ kind: 'stray', done: true }] }, `${layout}, ${attach}`)
      t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
    }
  }
})

t.test('users that are not ours are told, and left alone', async t => {
  const w = await world(t)
  await byHand(w, async client => {
    await client.send(new CreateUserCommand({ UserName: 'admin', Path: '/' }))
    await client.send(new CreateUserCommand({ UserName: 'by-hand', Path: '/job-access/by-hand/' }))
  })
  w.clock.advance(10 * windowMs)
  t.same(await reconciled(w.healthy), { seen: 1, findings: [{ kind: 'foreign', name: 'by-hand' }], failed: 0 })
  t.equal(w.iam.state.userCount, 2)
})

t.test('what hangs on a stray goes too', async t => {
  const w = await world(t)
  const UserName = 'ja-old'
  const PolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }] })
  await byHand(w, async client => {
    await client.send(new CreateUserCommand({ UserName, Path: '/job-access/1000/' }))
    await client.send(new PutUserPolicyCommand({ UserName, PolicyName: 'other', PolicyDocument }))
    await client.send(new CreatePolicyCommand({ PolicyName: UserName, Path: '/job-access/1000/', PolicyDocument }))
    await client.send(new AttachUserPolicyCommand({ UserName, PolicyArn: `arn:aws:iam::000000000000:policy/job-access/1000/${UserName}` }))
  })
  await w.ask.createAccessKey(UserName, Infinity)
  t.match(await reconciled(w.healthy), { findings: [{ kind: 'stray', name: UserName, done: true }] })
  t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
})

t.test('a stray that cannot be removed does not stop the others', async t => {
  const w = await world(t)
  const { grant } = await give(w, 'a')
  await give(w, 'b')
  const empty = await lost(t, w)
  empty.clock.advance(windowMs + graceMs)
  w.iam.faults.on({ action: 'DeleteUser', params: { UserName: grant.principal.name } }, { kind: 'error', code: 'AccessDenied' })
  t.match(await reconciled(empty.healthy), { seen: 2, findings: [{ done: true }], failed: 1 })
  t.match(w.iam.state.users, [{ name: grant.principal.name, keys: [] }], 'its key is gone all the same')
  w.iam.faults.clear()
  t.match(await reconciled(empty.healthy), { findings: [{ name: grant.principal.name }], failed: 0 })
  t.equal(w.iam.state.userCount, 0)
})

t.test('a user that the ledger knows is the sweeper’s, however late', async t => {
  const w = await world(t)
  await give(w, 'a')
  w.clock.advance(windowMs + 10 * graceMs)
  t.match(await reconciled(w.healthy), { seen: 1, findings: [] })
  t.equal(w.iam.state.userCount, 1)
})

t.test('rows whose user is gone are closed', async t => {
  for (const missingUser of ['NoSuchEntity', 'AccessDenied'] as const) {
    const w = await world(t, { missingUser })
    const gone = await give(w, 'gone')
    const alive = await give(w, 'alive')
    const vanish = async ({ grant, credentials }: Delivery) => {
      await w.ask.deleteAccessKey(grant.principal.name, credentials?.accessKeyId ?? '', Infinity)
      await w.ask.deleteUserPolicy(grant.principal.name, 'job-access', Infinity)
      await w.ask.deleteUser(grant.principal.name, Infinity)
    }
    await vanish(gone)
    w.clock.advance(299_999)
    t.match(await reconciled(w.healthy), { seen: 1, findings: [], failed: 0 }, 'not before five minutes')
    w.clock.advance(1)
    const finding = { kind: 'lost', grantId: gone.grant.id, name: gone.grant.principal.name }
    t.same((await reconciled(w.healthy, { dryRun: true })).findings, [{ ...finding, done: false }])
    t.match(await w.store.get(gone.grant.id), { state: 'active', claimedUntil: null })
    t.same((await reconciled(w.healthy)).findings, [{ ...finding, done: true }])
    t.match(await w.store.get(gone.grant.id), { state: 'revoked', idempotencyKey: null })
    t.match((await w.store.events(gone.grant.id)).at(-2),
      { actor: 'reconcile', action: 'revoking', detail: { reason: 'the principal is gone' } })
    await whole(t, w, alive)
    t.same((await reconciled(w.healthy)).findings, [])
  }
})

t.test('a grant that its owner just had made again is not closed', async t => {
  const w = await world(t)
  const first = await give(w, 'a')
  await w.ask.deleteAccessKey(first.grant.principal.name, first.credentials?.accessKeyId ?? '', Infinity)
  await w.ask.deleteUserPolicy(first.grant.principal.name, 'job-access', Infinity)
  await w.ask.deleteUser(first.grant.principal.name, Infinity)
  w.clock.advance(600_000)
  const r = await w.replica()
  let again: Delivery | undefined
  r.intercept = async (call, effect) => {
    if (call === 'claim') again = await give(w, 'a', { replace: true })
    return effect()
  }
  t.match(await reconciled(r), { findings: [], failed: 0 })
  if (again) await whole(t, w, again)
  t.ok(again)
  t.match(await w.store.get(first.grant.id), { claimedUntil: null })
  t.same(await disorder(w), [])
})

t.test('a grant that another operation holds is left to it', async t => {
  const w = await world(t)
  const { grant, credentials } = await give(w, 'a')
  await w.ask.deleteAccessKey(grant.principal.name, credentials?.accessKeyId ?? '', Infinity)
  await w.ask.deleteUserPolicy(grant.principal.name, 'job-access', Infinity)
  await w.ask.deleteUser(grant.principal.name, Infinity)
  w.clock.advance(600_000)
  await w.store.claim(grant.id, w.clock.now, w.clock.now + leaseMs)
  t.match(await reconciled(w.healthy), { findings: [], failed: 0 })
  t.match(await w.store.get(grant.id), { state: 'active' })
})

t.test('sessions: the policies that revoked them leave the role when they are over', async t => {
  const w = await world(t, { profiles: { default: role } })
  const { grant } = await give(w, 'a', { attach: 'session' })
  const live = await give(w, 'b', { attach: 'session' })
  await end(w.healthy.deps, owner, grant.id, 'completed')
  t.match(await reconciled(w.healthy), { findings: [] })
  w.clock.advance(windowMs + minSessionSeconds * 1000 + graceMs - 1)
  await reconciled(w.healthy)
  t.same(Object.keys(w.iam.state.roles[0]?.inline ?? {}), [grant.principal.name], 'not while the session may live')
  w.clock.advance(1)
  t.match(await reconciled(w.healthy), { findings: [{ kind: 'stray', name: grant.principal.name }], failed: 0 })
  t.same(w.iam.state.roles[0]?.inline, {})
  t.equal((await w.store.get(live.grant.id))?.state, 'active', 'a session is never lost')
})

t.test('two replicas that reconcile at once', async t => {
  const w = await world(t, { profiles: { default: role } })
  for (const id of ['a', 'b', 'c']) await give(w, id)
  const { grant } = await give(w, 'd', { attach: 'session' })
  await end(w.healthy.deps, owner, grant.id, 'completed')
  const empty = await lost(t, w, { profiles: { default: role } })
  empty.clock.advance(windowMs + minSessionSeconds * 1000 + graceMs)
  const reports = await Promise.all([reconciled(empty.healthy), reconciled(await empty.replica())])
  t.same(reports.map(({ failed }) => failed), [0, 0])
  t.equal(w.iam.state.userCount, 0)
  t.same(w.iam.state.roles[0]?.inline, {})
})

t.test('more users than fit in one page: the strays are on the second', async t => {
  const w = await world(t)
  const living = 1_010
  await byHand(w, async client => {
    const create = (Path: string, i: number) => client.send(new CreateUserCommand({ UserName: `ja-${i}`, Path }))
    for (let i = 0; i < living; i++) await create(`/job-access/${2_000_000_000 + i}/`, i)
    for (let i = living; i < living + 3; i++) await create(`/job-access/${999 - i % 3}/`, i)
  })
  const before = w.iam.calls.length
  t.match(await reconciled(w.healthy), { seen: living + 3, findings: [{ kind: 'stray' }, { kind: 'stray' }, { kind: 'stray' }], failed: 0 })
  t.equal(actions(w, before).filter(action => action === 'ListUsers').length, 2, 'one call a page')
  t.equal(w.iam.state.userCount, living)
  t.same(await rows(w), [])
})

t.test('only what needs a call takes a turn', async t => {
  const w = await world(t)
  await byHand(w, async client => {
    const create = (Path: string, UserName: string) => client.send(new CreateUserCommand({ UserName, Path }))
    for (let i = 0; i < 20; i++) await create(`/job-access/${2_000_000_000 + i}/`, `ja-${i}`)
    await create('/job-access/by-hand/', 'by-hand')
    await create('/job-access/1000/', 'ja-over')
  })
  const before = w.iam.calls.length
  // A second turn would come after 16 minutes.
  t.match(await reconcile(w.healthy.deps, { concurrency: 4, perSecond: 0.001, graceMs, dryRun: false }),
    { seen: 22, findings: [{ kind: 'foreign' }, { kind: 'stray', name: 'ja-over', done: true }], failed: 0 })
  t.same([...new Set(w.iam.calls.slice(before).map(({ params }) => params.UserName))], [undefined, 'ja-over'], 'nobody else is asked about')
  t.equal(w.iam.state.userCount, 21)
})

t.test('more grants than fit in one page of the ledger', async t => {
  const w = await world(t)
  for (let i = 0; i < 205; i++) await give(w, `job-${i}`)
  w.iam.reset()
  w.clock.advance(600_000)
  t.match(await reconciled(w.healthy, { dryRun: true }), { seen: 0, failed: 0, findings: { length: 205 } })
})
