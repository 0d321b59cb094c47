import fc from 'fast-check'
import t from 'tap'
import { minSessionSeconds, type RoleProfile } from '../../src/iam/role-profile.ts'
import { withExpiry } from '../../src/iam/names.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import type { Delivery } from '../../src/lifecycle/provision.ts'
import { fetchCredentials, rotate } from '../../src/lifecycle/rotate.ts'
import { evaluate } from '../../src/policy/prove/evaluate.ts'
import { ProblemError } from '../../src/problems.ts'
import { guideRequest, type GrantRequest } from '../../src/request.ts'
import { inForce } from '../harness.ts'
import { whole } from './order.ts'
import {
  actions, at, identityOf, jobRequest, leaseMs, never, orderOf, owner, reconciled, refusalOf, role, startOfTime, swept, world, type World
} from './world.ts'

// A grant of role sessions whose window is longer than a session: one after the other, and what the ledger knows of their ends.

const [minute, hour, day] = [60_000, 3_600_000, 86_400_000]
const hourly: RoleProfile = { ...role, maxSessionSeconds: 3600 }
const fixed: RoleProfile = { ...hourly, revocable: false }

const give = ({ healthy }: World, request: Partial<GrantRequest> = {}) =>
  issue(healthy.deps, owner, orderOf(jobRequest({ attach: 'session', window: { durationSeconds: 7 * 86_400 }, ...request })))
const next = ({ healthy }: World, { grant }: Delivery) => rotate(healthy.deps, owner, grant.id, 0)
const complete = ({ healthy }: World, { grant }: Delivery) => end(healthy.deps, owner, grant.id, 'completed')

/** Whether a session that left the service opens what it was given for: by its own policy, and by STS, which knows it for so long. */
const works = (w: World, { grant, credentials }: Delivery, sourceIp = '203.0.113.42'): boolean => {
  const asked = (action: string, resource: string) => evaluate(grant.policy, {
    action, resource, context: { 'aws:CurrentTime': at(w.clock.now), 'aws:SourceIp': sourceIp }
  }).allowed
  return (credentials?.expiresAt ?? 0) > w.clock.now && (
    asked('s3:GetObject', `arn:aws:s3:::${guideRequest.datasets[0]?.bucket}/a`) || asked('s3:PutObject', `arn:aws:s3:::${guideRequest.output.bucket}/a`)
  )
}

t.test('a week on sessions of an hour', async t => {
  const w = await world(t, { profiles: { default: hourly } })
  let held: Delivery = await give(w)
  const ends = held.grant.expiresAt
  let sessions = 1
  // As the agent does: 20 minutes before the end of a session, while the window is longer.
  while ((held.credentials?.expiresAt ?? 0) < ends) {
    w.clock.advance((held.credentials?.expiresAt ?? 0) - 20 * minute - w.clock.now)
    if (!works(w, held)) t.fail(`a gap at ${at(w.clock.now)}`)
    await swept(w.healthy)
    held = await next(w, held)
    sessions++
    if (held.grant.sessionsEndAt !== Math.min(held.credentials?.expiresAt ?? 0, ends)) t.fail(`the ledger says ${held.grant.sessionsEndAt}`)
  }
  t.equal(sessions, 252, 'each one for 40 minutes')
  t.equal(w.iam.calls.filter(({ action }) => action === 'AssumeRole').at(-1)?.params.DurationSeconds, '2400', 'the last one reaches the end')
  await whole(t, w, held)
  await w.pass(ends - w.clock.now - 1)
  t.ok(works(w, held))
  await w.pass(1)
  t.notOk(works(w, held))
  t.match(await w.store.get(held.grant.id), { state: 'expired' })
  t.same(new Set(actions(w)), new Set(['AssumeRole']), 'no Deny: all sessions had ended')
})

t.test('the last stretch is shorter than STS’s shortest session: the policy ends it with the window', async t => {
  const w = await world(t, { profiles: { default: fixed } })
  const first = await give(w, { window: { durationSeconds: 3601 } })
  w.clock.advance(hour - minute)
  const last = await next(w, first)
  t.match(last.credentials, { expiresAt: w.clock.now + minSessionSeconds * 1000 })
  t.equal(last.grant.sessionsEndAt, last.grant.expiresAt)
  await w.pass(61_000)
  t.match(await w.store.get(last.grant.id), { state: 'expired' })
  t.notOk(works(w, last))
})

t.test('completed in the middle', async t => {
  await t.test('with a Deny that stays as long as the last session, not as long as the window', async t => {
    const w = await world(t, { profiles: { default: hourly } })
    const first = await give(w)
    w.clock.advance(40 * minute)
    const second = await next(w, first)
    t.match(await complete(w, second), { state: 'revoked' })
    const name = withExpiry(first.grant.principal.name, startOfTime + 100 * minute)
    t.same(Object.keys(w.iam.state.roles[0]?.inline ?? {}), [name], 'one for both, named by their end')
    t.match(JSON.parse(w.iam.state.roles[0]?.inline[name] ?? ''), {
      Statement: [{ Condition: { StringEquals: { 'aws:SourceIdentity': first.grant.principal.name } } }]
    })
    w.clock.advance(60 * minute - 1)
    await reconciled(w.healthy, { graceMs: 0 })
    t.same(Object.keys(w.iam.state.roles[0]?.inline ?? {}), [name])
    w.clock.advance(1 + minSessionSeconds * 1000)
    await reconciled(w.healthy, { graceMs: 0 })
    t.same(w.iam.state.roles[0]?.inline, {})
  })
  await t.test('where nobody can revoke, it is over with the last session', async t => {
    const w = await world(t, { profiles: { default: fixed } })
    const first = await give(w)
    w.clock.advance(40 * minute)
    const second = await next(w, first)
    t.match(await complete(w, second), { state: 'revoking', dueAt: startOfTime + 100 * minute, idempotencyKey: null })
    await w.pass(60 * minute - 1)
    t.match(await w.store.get(first.grant.id), { state: 'revoking' })
    await w.pass(1)
    t.match(await w.store.get(first.grant.id), { state: 'revoked' })
    t.notOk([first, second].some(session => works(w, session)))
  })
  await t.test('a day after the last session there is nothing to wait for', async t => {
    const w = await world(t, { profiles: { default: fixed } })
    const session = await give(w)
    w.clock.advance(day)
    t.match(await complete(w, session), { state: 'revoked' })
  })
  await t.test('a Deny outlives the window that the grant was issued with, if a later session needs it', async t => {
    const w = await world(t, { profiles: { default: hourly } })
    const { grant } = await give(w, { window: { durationSeconds: 600 } })
    await extend(w.healthy.deps, owner, grant.id, { window: { durationSeconds: 3 * 86_400 } })
    w.clock.advance(2 * day)
    const later = await rotate(w.healthy.deps, owner, grant.id, 0)
    await complete(w, later)
    await reconciled(w.healthy)
    t.equal(Object.keys(w.iam.state.roles[0]?.inline ?? {}).length, 1, 'reconciliation does not give the session its rights back')
  })
})

t.test('a scheduled grant has no session until it is fetched', async t => {
  const w = await world(t, { profiles: { default: fixed } })
  const { grant } = await give(w, { issueAt: at(startOfTime + hour) })
  await w.pass(hour)
  t.match(await w.store.get(grant.id), { state: 'active', sessionsEndAt: null })
  const other = await give(w, { issueAt: at(startOfTime + 2 * hour), job: { id: 'other', team: 'nlp' } })
  await w.pass(hour)
  t.match(await complete(w, other), { state: 'revoked' }, 'there is nothing that cannot be revoked')
  const fetched = await fetchCredentials(w.healthy.deps, owner, grant.id)
  t.equal(fetched.grant.sessionsEndAt, w.clock.now + hour)
})

t.test('a session whose answer was lost is known', async t => {
  const died = async (w: World, act: (replica: Awaited<ReturnType<World['replica']>>) => Promise<unknown>) => {
    const dying = await w.replica()
    w.iam.faults.on({ action: 'AssumeRole', nth: 1 }, { kind: 'run', after: () => dying.die() })
    await Promise.race([act(dying).then(never, never), dying.died])
    w.iam.faults.clear()
  }
  await t.test('of an issue', async t => {
    const w = await world(t, { profiles: { default: fixed } })
    await died(w, ({ deps }) => issue(deps, owner, orderOf(jobRequest({ attach: 'session', window: { durationSeconds: 86_400 } }))))
    await w.pass(leaseMs + 1)
    const [grant] = await w.store.list({}, { limit: 1 })
    t.match(grant, { state: 'revoking', ending: 'failed', dueAt: startOfTime + hour + leaseMs })
    await w.pass(hour)
    t.match(await w.store.get(grant?.id ?? ''), { state: 'failed' })
  })
  await t.test('of a rotation', async t => {
    const w = await world(t, { profiles: { default: fixed } })
    const first = await give(w)
    w.clock.advance(40 * minute)
    await died(w, ({ deps }) => rotate(deps, owner, first.grant.id, 0))
    await w.pass(leaseMs + 1)
    t.match(await w.store.get(first.grant.id), { state: 'active', sessionsEndAt: startOfTime + 100 * minute + leaseMs })
    const second = await next(w, first)
    await whole(t, w, second)
    t.match(await complete(w, second), { state: 'revoking', dueAt: startOfTime + 100 * minute + leaseMs })
  })
  await t.test('but not one that STS refused', async t => {
    const w = await world(t, { profiles: { default: fixed } })
    const first = await give(w)
    w.clock.advance(40 * minute)
    w.iam.faults.on({ action: 'AssumeRole', nth: 1 }, { kind: 'error', code: 'AccessDenied' })
    t.match(await refusalOf(next(w, first)), { code: 'iam-refused' })
    t.match(await w.store.get(first.grant.id), { sessionsEndAt: startOfTime + hour })
  })
})

t.test('a grant of an earlier release: its one session lasts to the end of the window', async t => {
  const w = await world(t, { profiles: { default: { ...fixed, maxSessionSeconds: 43_200 } } })
  const session = await give(w, { window: { durationSeconds: 10_800 } })
  const { grant } = session
  const { spec: { profile: _, ...spec } } = grant
  await w.store.update(grant, { sessionsEndAt: null, spec }, { actor: 'test', action: 'released', requestId: null, policyHash: null, detail: {} }, w.clock.now)
  t.match(await complete(w, session), { state: 'revoking', dueAt: grant.expiresAt })
})

t.test('an extension is the ledger’s alone; the next session has it', async t => {
  const w = await world(t, { profiles: { default: hourly } })
  const first = await give(w, { window: { durationSeconds: 2400 } })
  t.equal(first.grant.sessionsEndAt, startOfTime + 40 * minute)
  const changed = await extend(w.healthy.deps, owner, first.grant.id, { window: { durationSeconds: 10_800 }, sourceIps: ['203.0.113.77'] })
  const longer = startOfTime + 3 * hour
  t.match(changed, { expiresAt: longer, dueAt: longer, claimedUntil: null, sessionsEndAt: startOfTime + 40 * minute })
  t.same(actions(w), ['AssumeRole'], 'there is no call that changes a session')
  const second = await next(w, first)
  t.equal(second.grant.sessionsEndAt, startOfTime + hour)
  w.clock.advance(40 * minute)
  t.same([works(w, first), works(w, second), works(w, second, '203.0.113.77')], [false, false, true])
  await w.pass(2 * hour + 20 * minute)
  t.match(await w.store.get(first.grant.id), { state: 'expired' })
})

t.test('an extension without the grant’s role profile is refused, and guardrails see the profile', async t => {
  const profiles: Record<string, RoleProfile> = { default: hourly, other: { ...hourly, name: 'other' } }
  const w = await world(t, { profiles })
  const session = await give(w, { profile: 'other' })
  const longer = () => extend(w.healthy.deps, owner, session.grant.id, { window: { durationSeconds: 86_400 } })
  t.match((await longer()).spec, { profile: 'other', attach: 'session' })
  const guardrails = inForce('@id("not-other") permit (principal, action, resource) unless { context has profile && context.profile == "other" };')
  t.match(await refusalOf(extend({ ...w.healthy.deps, guardrails }, owner, session.grant.id, { window: { durationSeconds: 60 } })), { code: 'forbidden' })
  for (const name of Object.keys(profiles)) delete profiles[name]
  t.match(await refusalOf(longer()), { code: 'session-unfit', message: /role profile of this grant is not in the configuration/ })
  t.match(await w.store.get(session.grant.id), { claimedUntil: null })
})

t.test('whatever happens: no session works after its grant has ended, nor later than the ledger says', async t => {
  const [little, much] = [fc.integer({ min: 1, max: 1500 }), fc.integer({ min: 1, max: 30_000 })]
  const step = fc.oneof(
    fc.record({ do: fc.constant('wait' as const), seconds: little }),
    fc.record({ do: fc.constant('next' as const) }),
    fc.record({ do: fc.constant('extend' as const), seconds: much, grace: fc.constantFrom(0, 600) }),
    fc.record({ do: fc.constant('configure' as const), maxSessionSeconds: fc.constantFrom(900, 1800, 7200, 43_200), chained: fc.boolean() })
  )
  const seen = { refused: 0, shortened: 0, sessions: 0 }
  await fc.assert(fc.asyncProperty(much, fc.constantFrom('guarded', 'guide'), fc.array(step, { minLength: 8, maxLength: 14 }), async (first, layout, steps) => {
    const profiles: Record<string, RoleProfile> = { default: { ...fixed } }
    const w = await world(t, { profiles })
    const sessions: Delivery[] = [await give(w, { layout, window: { durationSeconds: first } })]
    const id = sessions[0]?.grant.id ?? ''
    const check = async () => {
      await swept(w.healthy)
      const grant = await w.store.get(id)
      const live = sessions.filter(session => works(w, session))
      // In layout `guide` the reads last as long as the session.
      const ends = layout === 'guide' ? Infinity : grant?.expiresAt ?? 0
      if (live.length > 0 && (grant?.dueAt === null || Math.min(grant?.sessionsEndAt ?? 0, ends) <= w.clock.now)) {
        throw new Error(`${live.length} work at ${w.clock.now}: ${JSON.stringify([grant?.state, grant?.sessionsEndAt])}`)
      }
    }
    for (const what of steps) {
      try {
        const before = await w.store.get(id)
        if (what.do === 'wait') w.clock.advance(what.seconds * 1000)
        else if (what.do === 'next') sessions.push(await rotate(w.healthy.deps, owner, id, 0))
        else if (what.do === 'configure') profiles.default = { ...fixed, ...what }
        else {
          const window = { notAfter: at(w.clock.now + what.seconds * 1000), ...(layout === 'guarded' && { outputGraceSeconds: what.grace }) }
          const { expiresAt } = await extend(w.healthy.deps, owner, id, { window })
          if (expiresAt < (before?.expiresAt ?? 0)) seen.shortened++
        }
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error
        seen.refused++
      }
      await check()
    }
    const grant = await end(w.healthy.deps, owner, id, 'completed')
    if (grant.dueAt !== null) {
      w.clock.advance(grant.dueAt - w.clock.now - 1)
      await check()
      w.clock.advance(1)
    }
    await check()
    if ((await w.store.get(id))?.dueAt !== null) throw new Error('it is not over')
    if (sessions.some(session => works(w, session))) throw new Error('a session works on')
    seen.sessions += sessions.length
  }), { numRuns: 40 })
  t.ok(seen.refused > 5 && seen.shortened > 5 && seen.sessions > 60, JSON.stringify(seen))
})

t.test('who holds a session is known to STS until it ends', async t => {
  const w = await world(t, { profiles: { default: hourly } })
  const first = await give(w)
  w.clock.advance(hour - 1)
  t.ok(await identityOf(w, first.credentials))
  w.clock.advance(1)
  t.equal(await identityOf(w, first.credentials), undefined)
})

t.test('the start is not moved past a session that works in the earlier window', async t => {
  const w = await world(t, { profiles: { default: { ...role, maxSessionSeconds: 7_200 } } })
  const from = (ms: number) => ({ notBefore: at(startOfTime + ms), notAfter: at(startOfTime + day) })
  const { grant } = await give(w, { window: from(hour) })
  t.match(grant, { sessionsEndAt: startOfTime + 2 * hour })
  t.match(await refusalOf(extend(w.healthy.deps, owner, grant.id, { window: from(3 * hour) })), { code: 'session-unfit' })
  t.match(await w.store.get(grant.id), { notBefore: grant.notBefore, claimedUntil: null })
})
