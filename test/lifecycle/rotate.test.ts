import t from 'tap'
import { end } from '../../src/lifecycle/end.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { rotate } from '../../src/lifecycle/rotate.ts'
import type { GrantRequest } from '../../src/request.ts'
import { disorder, whole } from './order.ts'
import { actions, at, identityOf, orderOf, jobRequest, leaseMs, owner, refusalOf, role, startOfTime, world, type World } from './world.ts'

const give = ({ healthy }: World, request: Partial<GrantRequest> = {}) => issue(healthy.deps, owner, orderOf(jobRequest(request)))

t.test('without overlap the old key is dead before the answer', async t => {
  const w = await world(t)
  const first = await give(w)
  const seen = w.iam.calls.length
  w.clock.advance(60_000)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  t.same(actions(w, seen), ['CreateAccessKey', 'DeleteAccessKey'])
  await whole(t, w, second)
  t.equal(await identityOf(w, first.credentials), undefined)
  t.match(second.grant,
    { previousKeyId: null, previousKeyDiesAt: null, dueAt: second.grant.expiresAt, claimedUntil: null, deliveredAt: startOfTime + 60_000 })
  t.same(await disorder(w), [])
})

t.test('with overlap both keys work until its end', async t => {
  for (const overlapSeconds of [1, 60, 3600]) {
    const w = await world(t)
    const first = await give(w)
    const second = await rotate(w.healthy.deps, owner, first.grant.id, overlapSeconds)
    const diesAt = startOfTime + overlapSeconds * 1000
    t.match(second.grant, { previousKeyId: first.credentials?.accessKeyId, previousKeyDiesAt: diesAt, dueAt: diesAt, claimedUntil: null })
    await w.pass(overlapSeconds * 1000 - 1)
    for (const { credentials } of [first, second]) t.ok(await identityOf(w, credentials))
    const seen = w.iam.calls.length
    await w.pass(1)
    t.same(actions(w, seen), ['DeleteAccessKey'], 'one call')
    t.equal(await identityOf(w, first.credentials), undefined)
    await whole(t, w, second)
    t.match(await w.store.get(first.grant.id), { previousKeyId: null, previousKeyDiesAt: null, dueAt: first.grant.expiresAt })
  }
})

t.test('an overlap is no longer than the grant', async t => {
  const w = await world(t)
  const { grant } = await give(w, { window: { durationSeconds: 60 } })
  t.match((await rotate(w.healthy.deps, owner, grant.id, 3600)).grant, { previousKeyDiesAt: grant.expiresAt })
  await w.pass(60_000)
  t.match(await w.store.get(grant.id), { state: 'expired' })
  t.equal(w.iam.state.userCount, 0)
})

t.test('a user holds two keys: a second rotation ends the first overlap', async t => {
  const w = await world(t)
  const first = await give(w)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 600)
  const third = await rotate(w.healthy.deps, owner, first.grant.id, 600)
  t.equal(await identityOf(w, first.credentials), undefined)
  t.ok(await identityOf(w, second.credentials))
  await whole(t, w, third)
  t.same(await disorder(w), [])
})

t.test('an old key that the provider does not delete dies later; the new one stands', async t => {
  const w = await world(t)
  const first = await give(w)
  w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', code: 'ServiceUnavailable' })
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  t.match(second.grant, { previousKeyId: first.credentials?.accessKeyId, claimedUntil: null, attempts: 1 }, 'and the answer says so')
  await whole(t, w, second)
  w.iam.faults.clear()
  await w.pass(5_000)
  t.equal(await identityOf(w, first.credentials), undefined)
  await whole(t, w, second)
  t.match(await w.store.get(first.grant.id), { previousKeyId: null, attempts: 0, dueAt: first.grant.expiresAt })
})

t.test('a key that nobody knows does not stand in the way', async t => {
  const w = await world(t)
  const first = await give(w)
  await w.ask.createAccessKey(first.grant.principal.name, Infinity)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  await whole(t, w, second)
  t.equal(w.iam.state.keyCount, 1)
})

t.test('what cannot be rotated', async t => {
  const w = await world(t)
  t.match(await refusalOf(rotate(w.healthy.deps, owner, 'unknown', 0)), { code: 'grant-unknown' })
  const scheduled = await give(w, { issueAt: at(startOfTime + 600_000) })
  t.match(await refusalOf(rotate(w.healthy.deps, owner, scheduled.grant.id, 0)), { code: 'grant-state', message: 'The grant is pending.' })
  const { grant } = await give(w, { job: { id: 'other', team: 'nlp' } })
  await w.store.claim(grant.id, w.clock.now, w.clock.now + leaseMs)
  t.match(await refusalOf(rotate(w.healthy.deps, owner, grant.id, 0)), { code: 'grant-state', init: { retryAfterSeconds: 1 } })
  w.clock.advance(10_800_000)
  t.match(await refusalOf(rotate(w.healthy.deps, owner, grant.id, 0)), { message: 'The grant’s window is over.' })
  await end(w.healthy.deps, owner, grant.id, 'completed')
  const history = await w.store.events(grant.id)
  t.match(await refusalOf(rotate(w.healthy.deps, owner, grant.id, 0)), { message: 'The grant is completed.' })
  t.same(await w.store.events(grant.id), history, 'its history ends with its end')
})

t.test('a session is replaced by a new one', async t => {
  const w = await world(t, { profiles: { default: role } })
  const first = await give(w, { attach: 'session' })
  w.clock.advance(60_000)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  await whole(t, w, second)
  t.ok(await identityOf(w, first.credentials), 'the old one cannot be ended alone')
  t.equal(w.iam.calls.findLast(({ action }) => action === 'AssumeRole')?.params.DurationSeconds, '10740')
})

t.test('a rotation without overlap holds the grant until the old key is gone', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const r = await w.replica()
  let other: unknown
  r.intercept = async (call, effect) => {
    if (call === 'record rotated') other = await refusalOf(rotate(w.healthy.deps, owner, grant.id, 0))
    return effect()
  }
  const rotated = await rotate(r.deps, owner, grant.id, 0)
  t.match(other, { code: 'grant-state' })
  await whole(t, w, rotated)
})

t.test('a rotation that failed does not say that no key was delivered', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  w.iam.faults.on({ action: 'CreateAccessKey' }, { kind: 'error', code: 'AccessDenied' })
  t.match(await refusalOf(rotate(w.healthy.deps, owner, grant.id, 0)), { code: 'iam-refused' })
  t.match(await w.store.get(grant.id), { deliveredAt: grant.deliveredAt, accessKeyId: grant.accessKeyId })
})
