import fc from 'fast-check'
import t from 'tap'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { rotate } from '../../src/lifecycle/rotate.ts'
import { ProblemError } from '../../src/problems.ts'
import type { Change } from '../../src/policy/normalise.ts'
import type { GrantRequest } from '../../src/request.ts'
import { inForce } from '../harness.ts'
import { disorder, whole } from './order.ts'
import { actions, at, identityOf, orderOf, jobRequest, leaseMs, owner, refusalOf, role, startOfTime, world, type World } from './world.ts'

const give = ({ healthy }: World, request: Partial<GrantRequest> = {}) => issue(healthy.deps, owner, orderOf(jobRequest(request)))

const change = async ({ healthy }: World, id: string, what: Change) => extend(healthy.deps, owner, id, what)

t.test('one PutUserPolicy, the key stays', async t => {
  const cases: Array<[name: string, what: Change, expected: object]> = [
    ['a longer window', { window: { durationSeconds: 20_000 } }, { expiresAt: startOfTime + 20_000_000 }],
    ['a shorter one', { window: { durationSeconds: 60 } }, { expiresAt: startOfTime + 60_000 }],
    ['a grace for the output', { window: { durationSeconds: 10_800, outputGraceSeconds: 600 } }, { expiresAt: startOfTime + 11_400_000 }],
    ['another source', { sourceIps: ['203.0.113.43'] }, { spec: { source: { kind: 'ip', cidrs: ['203.0.113.43/32'] } } }],
    ['a VPC instead', { vpc: { vpcIds: ['vpc-0123456789abcdef0'] } }, { spec: { source: { kind: 'vpc' } } }]
  ]
  for (const [name, what, expected] of cases) {
    const w = await world(t)
    const { grant, credentials } = await give(w)
    const seen = w.iam.calls.length
    const changed = await change(w, grant.id, what)
    t.same(actions(w, seen), ['PutUserPolicy'], name)
    t.match(changed,
      { ...expected, state: 'active', accessKeyId: credentials?.accessKeyId, claimedUntil: null, principal: grant.principal }, name)
    t.equal(changed.dueAt, changed.expiresAt, name)
    t.not(changed.policyHash, grant.policyHash, name)
    await whole(t, w, { grant: changed, credentials })
    t.same(await disorder(w), [], name)
    const events = await w.store.events(grant.id)
    t.match(events.slice(-2),
      [{ action: 'extending', policyHash: changed.policyHash }, { action: 'extended', detail: { previousHash: grant.policyHash } }], name)
  }
})

t.test('a change that cannot be audited does not stand, also where the provider is not asked', async t => {
  for (const request of [{}, { issueAt: at(startOfTime + 600_000) }, { attach: 'session' }, { attach: 'managed' }] as const) {
    const w = await world(t, { profiles: { default: role } })
    const { grant } = await give(w, request)
    const before = await w.store.get(grant.id)
    const r = await w.replica()
    r.intercept = (call, effect) => call === 'record extending' ? Promise.reject(new Error('no audit')) : effect()
    const name = JSON.stringify(request)
    await t.rejects(extend(r.deps, owner, grant.id, { window: { durationSeconds: 20_000 } }), { message: 'no audit' }, name)
    const { version: _, updatedAt: __, dueAt, ...after } = await w.store.get(grant.id) ?? grant
    t.match(before, after, `${name}: as before`)
    if ('issueAt' in request) t.equal(dueAt, before?.dueAt, 'its key is not made before its time')
    t.match((await w.store.events(grant.id)).at(-1), { action: 'extend-failed' }, name)
    await w.pass(60_000)
    t.same(await disorder(w), [], name)
    const changed = await change(w, grant.id, { window: { durationSeconds: 20_000 } })
    t.not(changed.policyHash, grant.policyHash, `${name}: done, with the audit back`)
    t.match((await w.store.events(grant.id)).slice(-2), [{ action: 'extending' }, { action: 'extended' }], name)
  }
})

t.test('a grant lives as long as it was last told to', async t => {
  const w = await world(t)
  const { grant, credentials } = await give(w)
  await change(w, grant.id, { window: { durationSeconds: 20_000 } })
  await w.pass(10_800_000)
  t.ok(await identityOf(w, credentials), 'past its first end')
  await change(w, grant.id, { window: { durationSeconds: 15_000 } })
  await w.pass(4_199_000)
  t.ok(await identityOf(w, credentials))
  await w.pass(1_000)
  t.match(await w.store.get(grant.id), { state: 'expired' })
  t.equal(w.iam.state.userCount, 0)
})

t.test('an overlap goes on', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const { credentials } = await rotate(w.healthy.deps, owner, grant.id, 600)
  const changed = await change(w, grant.id, { window: { durationSeconds: 20_000 } })
  t.equal(changed.dueAt, startOfTime + 600_000)
  await w.pass(600_000)
  t.equal(w.iam.state.keyCount, 1)
  await whole(t, w, { grant: changed, credentials })
})

t.test('a managed policy gets a new version, many times', async t => {
  const w = await world(t)
  const { grant, credentials } = await give(w, { attach: 'managed' })
  for (let i = 1; i <= 12; i++) {
    const changed = await change(w, grant.id, { window: { durationSeconds: 10_800 + i } })
    t.same(await disorder(w), [])
    t.equal(changed.principal.policyArn, grant.principal.policyArn)
  }
  t.ok(Object.keys(w.iam.state.policies[0]?.versions ?? {}).length <= 5)
  t.ok(await identityOf(w, credentials))
})

t.test('what is refused leaves everything as it was', async t => {
  const many = Array.from({ length: 40 }, (_, i) => `203.0.113.${i * 2}`)
  const cases: Array<[name: string, what: Change, code: string]> = [
    ['a window that is over', { window: { notAfter: at(startOfTime + 1000) } }, 'window-over'],
    ['a window too long', { window: { durationSeconds: 8 * 86_400 } }, 'window-too-long'],
    ['a private address', { sourceIps: ['10.0.0.1'] }, 'ip-private'],
    ['a policy that outgrows its attachment', { sourceIps: many }, 'policy-too-large']
  ]
  for (const [name, what, code] of cases) {
    const w = await world(t)
    const { grant } = await give(w)
    const before = { ...grant, version: 0, updatedAt: 0 }
    const seen = w.iam.calls.length
    w.clock.advance(2000)
    t.equal(await change(w, grant.id, what).catch(error => error instanceof ProblemError ? error.code : error), code, name)
    t.same({ ...await w.store.get(grant.id), version: 0, updatedAt: 0 }, before, name)
    t.same(actions(w, seen), [], name)
  }
})

t.test('a short window is not moved hours on by three changes', async t => {
  const w = await world(t, { limits: { maxWindowSeconds: 3600 } })
  const { grant } = await give(w, { window: { durationSeconds: 3600 } })
  for (const hours of [1, 2, 3]) {
    const moved = change(w, grant.id, { window: { notBefore: at(startOfTime + hours * 3_600_000), durationSeconds: 3600 } })
    t.match(await refusalOf(moved), { code: 'window-invalid', init: { pointer: '/window/notBefore', hint: 'Leave notBefore out.' } })
  }
  t.match(await w.store.get(grant.id), { notBefore: startOfTime, expiresAt: startOfTime + 3_600_000, claimedUntil: null })
})

t.test('the end that a refusal names is accepted by the next call', async t => {
  const limits = { maxWindowSeconds: 3600, maxLifetimeSeconds: 3 * 3600 }
  const w = await world(t, { limits })
  const { grant } = await give(w, { window: { durationSeconds: 3600, outputGraceSeconds: 0 } })
  const ends = []
  for (const code of ['window-too-long', 'window-too-long', 'lifetime-too-long', 'lifetime-too-long']) {
    w.clock.advance(2_400_500)
    const refused = await refusalOf(change(w, grant.id, { window: { durationSeconds: 30 * 86_400 } }))
    t.match(refused, { code, init: { pointer: '/window/durationSeconds' } })
    const [notAfter = ''] = /(?<=^End it at or before )[\dTZ:-]+/.exec((refused as ProblemError).init.hint ?? '') ?? []
    t.match(await change(w, grant.id, { window: { notAfter } }), { expiresAt: Date.parse(notAfter) })
    ends.push(Date.parse(notAfter) - startOfTime)
  }
  t.same(ends, [6_000_000, 8_401_000, 10_800_000, 10_800_000])
  t.match(await refusalOf(change(w, grant.id, { window: { notAfter: at(startOfTime + 10_801_000) } })),
    { code: 'lifetime-too-long', init: { hint: `End it at or before ${at(startOfTime + 10_800_000)}. A job that runs longer needs a new grant.` } })
  t.same(await disorder(w), [])
})

t.test('the life of a scheduled grant starts at its issueAt', async t => {
  const w = await world(t, { limits: { maxLifetimeSeconds: 3600, maxWindowSeconds: 3600 } })
  const window = { notBefore: at(startOfTime + 86_400_000), durationSeconds: 1800 }
  t.match(await refusalOf(give(w, { window })), { code: 'lifetime-too-long', init: { hint: 'Ask nearer to the job’s start.' } })
  const { grant } = await give(w, { window, issueAt: at(startOfTime + 86_000_000) })
  t.match(await change(w, grant.id, { window: { durationSeconds: 3200 } }), { state: 'pending', expiresAt: startOfTime + 89_600_000 })
  t.match(await refusalOf(change(w, grant.id, { window: { durationSeconds: 3201 } })), { code: 'lifetime-too-long' })
  await w.pass(86_000_000)
  t.match(await refusalOf(change(w, grant.id, { window: { durationSeconds: 3201 } })), { code: 'lifetime-too-long' })
  t.match(await change(w, grant.id, { window: { durationSeconds: 3200 } }), { state: 'active', expiresAt: startOfTime + 89_600_000 })
})

t.test('the guardrails see the whole life of the grant', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const guardrails = inForce('@id("all") permit (principal, action, resource); @id("a-day") ' +
    'forbid (principal, action == JobAccess::Action::"extend", resource) when { context.lifetimeSeconds > 86400 };')
  const deps = { ...w.healthy.deps, guardrails }
  w.clock.advance(3_600_000)
  t.match(await extend(deps, owner, grant.id, { window: { durationSeconds: 86_400 } }), { expiresAt: startOfTime + 86_400_000 })
  const day = { notBefore: at(startOfTime + 3_600_000), durationSeconds: 82_801 }
  t.match(await refusalOf(extend(deps, owner, grant.id, { window: day })), { code: 'forbidden' })
})

t.test('no sequence of changes lets a grant live longer, or its window last longer from now', async t => {
  const limits = { maxWindowSeconds: 7200, maxLifetimeSeconds: 9000 }
  const ahead = fc.option(fc.integer({ min: -7200, max: 7200 }), { nil: undefined })
  const step = fc.record({
    wait: fc.integer({ min: 0, max: 1_800_000 }),
    notBefore: ahead,
    notAfter: fc.option(fc.integer({ min: 0, max: 8000 }), { nil: undefined }),
    durationSeconds: fc.integer({ min: 1800, max: 20_000 }),
    outputGraceSeconds: fc.option(fc.integer({ min: 0, max: 3600 }), { nil: undefined })
  })
  const w = await world(t, { limits })
  let jobs = 0
  let accepted = 0
  let refused = 0
  const starts = fc.integer({ min: 0, max: 3600 })
  await fc.assert(fc.asyncProperty(starts, fc.array(step, { minLength: 3, maxLength: 15 }), async (start, steps) => {
    const job = { id: `job-${++jobs}`, team: 'nlp' }
    const { grant } = await give(w, { job, window: { notBefore: at(w.clock.now + start * 1000), durationSeconds: 3600 } })
    for (const { wait, notBefore, notAfter, durationSeconds, outputGraceSeconds } of steps) {
      w.clock.advance(wait)
      const { now } = w.clock
      const before = await w.store.get(grant.id)
      if (!before || now >= before.expiresAt) return
      try {
        const { notBefore: starts, expiresAt } = await change(w, grant.id, {
          window: {
            ...(notBefore !== undefined && { notBefore: at(now + notBefore * 1000) }),
            ...(notAfter === undefined ? { durationSeconds } : { notAfter: at(now + notAfter * 1000) }),
            ...(outputGraceSeconds !== undefined && { outputGraceSeconds })
          }
        })
        accepted += 1
        const facts = JSON.stringify({ now, starts, expiresAt, createdAt: grant.createdAt, before: before.notBefore })
        if (expiresAt - grant.createdAt > limits.maxLifetimeSeconds * 1000) throw new Error(`it lives too long: ${facts}`)
        if (expiresAt - Math.max(starts, now) > limits.maxWindowSeconds * 1000) throw new Error(`its window is too long: ${facts}`)
        if (before.notBefore <= now && starts > now) throw new Error(`its job is cut off: ${facts}`)
        if (before.notBefore <= now && expiresAt - now > limits.maxWindowSeconds * 1000) throw new Error(`too long from now: ${facts}`)
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error
        refused += 1
      }
    }
  }), { numRuns: 40 })
  t.ok(accepted > 40 && refused > 40, `${accepted} accepted, ${refused} refused`)
})

t.test('what the guardrails refuse, too', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const deps = { ...w.healthy.deps, guardrails: inForce('@id("no-extension") permit (principal, action, resource) unless { action == JobAccess::Action::"extend" };') }
  t.match(await refusalOf(extend(deps, owner, grant.id, { window: { durationSeconds: 60 } })), { code: 'forbidden' })
  t.match(await w.store.get(grant.id), { expiresAt: grant.expiresAt, claimedUntil: null })
})

t.test('what cannot be changed', async t => {
  const w = await world(t, { profiles: { default: role } })
  const longer: Change = { window: { durationSeconds: 20_000 } }
  t.match(await refusalOf(change(w, 'unknown', longer)), { code: 'grant-unknown' })
  const { grant } = await give(w, { job: { id: 'other', team: 'nlp' } })
  await w.store.claim(grant.id, w.clock.now, w.clock.now + leaseMs)
  t.match(await refusalOf(change(w, grant.id, longer)), { code: 'grant-state', init: { retryAfterSeconds: 1 } })
  w.clock.advance(10_800_000)
  t.match(await refusalOf(change(w, grant.id, longer)), { code: 'grant-state', message: 'The grant’s window is over.' })
  await end(w.healthy.deps, owner, grant.id, 'completed')
  t.match(await refusalOf(change(w, grant.id, longer)), { code: 'grant-state', message: 'The grant is completed.' })
})

t.test('a provider that refuses: the old policy is put again', async t => {
  const w = await world(t)
  const { grant, credentials } = await give(w)
  w.iam.faults.on({ action: 'PutUserPolicy', nth: 1 }, { kind: 'errorAfter', code: 'MalformedPolicyDocument' })
  t.match(await refusalOf(change(w, grant.id, { window: { durationSeconds: 20_000 } })), { code: 'iam-refused' })
  t.match(await w.store.get(grant.id), { expiresAt: grant.expiresAt, policyHash: grant.policyHash, claimedUntil: null })
  t.not((await disorder(w)).length, 0, 'it has the new one')
  await w.pass(0)
  t.same(await disorder(w), [])
  await whole(t, w, { grant, credentials })
})

t.test('a scheduled grant that is minted at this very moment', async t => {
  const w = await world(t)
  const { grant } = await give(w, { issueAt: at(startOfTime + 600_000) })
  w.clock.advance(600_000)
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    if (call === 'claim') await w.pass(0)
    return effect()
  }
  await extend(r.deps, owner, grant.id, { window: { durationSeconds: 20_000 } })
  t.match(await w.store.get(grant.id), { state: 'active', expiresAt: startOfTime + 20_600_000, dueAt: startOfTime + 20_600_000 })
  t.same(await disorder(w), [])
})

t.test('a scheduled grant is changed before it is made', async t => {
  const w = await world(t)
  const { grant } = await give(w, { issueAt: at(startOfTime + 600_000), window: { notBefore: at(startOfTime), durationSeconds: 10_800 } })
  const changed = await change(w, grant.id, { window: { durationSeconds: 20_000 } })
  t.match(changed, { state: 'pending', dueAt: startOfTime + 600_000, expiresAt: startOfTime + 20_000_000, claimedUntil: null })
  t.same(actions(w), [])
  t.match(await refusalOf(change(w, grant.id, { window: { durationSeconds: 600 } })),
    { code: 'window-invalid', init: { pointer: '/window' } }, 'not so that it ends before its key is made')
  t.match(await w.store.get(grant.id), { expiresAt: startOfTime + 20_000_000, claimedUntil: null })
  await w.pass(600_000)
  t.same(await disorder(w), [])
  t.match(await w.store.get(grant.id), { state: 'active' })
})

t.test('the guardrails see the same attachment as at the issue', async t => {
  const w = await world(t)
  w.healthy.deps.guardrails = inForce(`@id("open") permit (principal, action, resource);
    @id("auto-only") forbid (principal, action in [JobAccess::Action::"issue", JobAccess::Action::"extend"], resource)
    when { context.attach != "auto" };`)
  const { grant } = await give(w)
  t.equal(grant.attach, 'inline')
  t.match(await change(w, grant.id, { window: { durationSeconds: 20_000 } }), { attach: 'inline', spec: { attach: 'auto' } })
})
