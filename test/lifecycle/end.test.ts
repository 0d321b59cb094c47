import { AttachUserPolicyCommand, CreateAccessKeyCommand, CreatePolicyCommand, PutUserPolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { withExpiry } from '../../src/iam/names.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { rotate } from '../../src/lifecycle/rotate.ts'
import type { GrantRequest } from '../../src/request.ts'
import { disorder, noSecret } from './order.ts'
import {
  actions, at, byHand, identityOf, orderOf, jobRequest, leaseMs, owner, refusalOf, role, startOfTime, swept, world,
  type World
} from './world.ts'

const give = ({ healthy }: World, request: Partial<GrantRequest> = {}, key?: string) =>
  issue(healthy.deps, owner, orderOf(jobRequest(request), key))

const complete = ({ healthy }: World, id: string) => end(healthy.deps, owner, id, 'completed')

t.test('the key dies with the first call, then policy and user go', async t => {
  const cases: Array<[attach: 'inline' | 'managed', calls: string[]]> = [
    ['inline', ['DeleteAccessKey', 'DeleteUserPolicy', 'DeleteUser']],
    ['managed', ['DeleteAccessKey', 'DetachUserPolicy', 'DeletePolicy', 'DeleteUser']]
  ]
  for (const [attach, calls] of cases) {
    const w = await world(t)
    const { grant, credentials } = await give(w, { attach })
    const seen = w.iam.calls.length
    let alive: boolean | undefined
    w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'run', after: () => { alive = w.iam.state.keyCount > 0 } })
    t.match(await complete(w, grant.id), { state: 'revoked', dueAt: null, claimedUntil: null, attempts: 0 })
    t.same(actions(w, seen), calls)
    t.equal(alive, false, 'after the first call')
    t.equal(await identityOf(w, credentials), undefined)
    t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
    const events = await w.store.events(grant.id)
    t.match(events.slice(-2), [
      { action: 'revoking', actor: 'token:nlp', detail: { reason: 'completed', accessKeyId: credentials?.accessKeyId } },
      { action: 'revoked', actor: 'token:nlp' }
    ])
    await noSecret(t, w)
  }
})

t.test('may be called again and again', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const first = await complete(w, grant.id)
  const seen = w.iam.calls.length
  t.same(await complete(w, grant.id), first)
  t.same(actions(w, seen), [])
  t.equal((await w.store.events(grant.id)).length, 4, 'and leaves nothing in the history')
  t.match(await refusalOf(complete(w, 'unknown')), { code: 'grant-unknown', status: 404 })
})

t.test('both keys of an overlap die first, side by side', async t => {
  const w = await world(t)
  const first = await give(w)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 600)
  const seen = w.iam.calls.length
  await complete(w, first.grant.id)
  t.same(actions(w, seen).slice(0, 3), ['DeleteAccessKey', 'DeleteAccessKey', 'DeleteUserPolicy'])
  for (const { credentials } of [first, second]) t.equal(await identityOf(w, credentials), undefined)
})

t.test('whatever somebody hung on the user goes too; a policy that is not ours is only detached', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const UserName = grant.principal.name
  const PolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }] })
  await byHand(w, async client => {
    await client.send(new CreateAccessKeyCommand({ UserName }))
    await client.send(new PutUserPolicyCommand({ UserName, PolicyName: 'by-hand', PolicyDocument }))
    await client.send(new CreatePolicyCommand({ PolicyName: 'theirs', PolicyDocument }))
    await client.send(new AttachUserPolicyCommand({ UserName, PolicyArn: 'arn:aws:iam::000000000000:policy/theirs' }))
  })
  t.match(await complete(w, grant.id), { state: 'revoked' })
  t.equal(w.iam.state.userCount, 0)
  t.match(w.iam.state.policies, [{ name: 'theirs', attachedTo: [] }])
})

t.test('a managed policy goes with all its versions', async t => {
  const w = await world(t)
  const { grant } = await give(w, { attach: 'managed' })
  for (let i = 1; i <= 7; i++) await extend(w.healthy.deps, owner, grant.id, { window: { durationSeconds: 10_800 + i } })
  const versions = Object.keys(w.iam.state.policies[0]?.versions ?? {}).length
  t.ok(versions > 1 && versions <= 5, `${versions} versions`)
  t.match(await complete(w, grant.id), { state: 'revoked' })
  t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
})

t.test('a missing user counts as gone after five minutes only', async t => {
  for (const missingUser of ['NoSuchEntity', 'AccessDenied'] as const) {
    for (const attach of ['inline', 'managed'] as const) {
      const cases: Array<[ageMs: number, state: string]> = [[299_999, 'revoking'], [300_000, 'revoked']]
      for (const [ageMs, state] of cases) {
        const w = await world(t, { missingUser })
        const { grant, credentials } = await give(w, { attach })
        const { name, policyArn } = grant.principal
        await w.ask.deleteAccessKey(name, credentials?.accessKeyId ?? '', Infinity)
        if (policyArn) await w.ask.detachUserPolicy(name, policyArn, Infinity)
        else await w.ask.deleteUserPolicy(name, 'job-access', Infinity)
        await w.ask.deleteUser(name, Infinity)
        w.clock.advance(ageMs)
        const ended = await complete(w, grant.id)
        const what = `${missingUser}, ${attach}, ${ageMs} ms`
        t.equal(ended.state, state, what)
        if (state === 'revoking') {
          t.match(ended, { attempts: 1, dueAt: w.clock.now + 5000, claimedUntil: null, idempotencyKey: null }, what)
          await w.pass(5000)
          t.match(await w.store.get(grant.id), { state: 'revoked' }, what)
        }
        t.same(w.iam.state.policies, [], `${what}: its policy goes all the same`)
      }
    }
  }
})

t.test('a denied call is no missing user while the list has it', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  w.clock.advance(600_000)
  w.iam.faults.on({ action: 'DeleteUser' }, { kind: 'error', code: 'AccessDenied' })
  t.match(await complete(w, grant.id), { state: 'revoking', attempts: 1 })
  t.equal(w.iam.state.userCount, 1)
  w.iam.faults.clear()
  await w.pass(5000)
  t.equal(w.iam.state.userCount, 0)
})

t.test('while the provider is down', async t => {
  const w = await world(t)
  const { grant, credentials } = await give(w, {}, 'k-1')
  w.iam.faults.on({}, { kind: 'error', code: 'ServiceUnavailable' })
  t.match(await complete(w, grant.id), { state: 'revoking', ending: 'revoked', attempts: 1, claimedUntil: null, idempotencyKey: 'key:k-1' })
  t.match(await complete(w, grant.id), { state: 'revoking', attempts: 2 }, 'again: it tries again')
  t.match(await refusalOf(give(w, {}, 'k-1')), { code: 'idempotency-busy', init: { retryAfterSeconds: 5 } })
  t.match(await refusalOf(rotate(w.healthy.deps, owner, grant.id, 0)), { code: 'grant-state', status: 409 })
  t.match(await refusalOf(extend(w.healthy.deps, owner, grant.id, {})), { code: 'grant-state', status: 409 })
  w.iam.faults.clear()
  await w.pass(60_000)
  t.match(await w.store.get(grant.id), { state: 'revoked', idempotencyKey: 'key:k-1', attempts: 0 })
  t.equal(await identityOf(w, credentials), undefined)
  t.match(await refusalOf(give(w, {}, 'k-1')), { code: 'grant-state' }, 'an explicit key stays taken')
})

t.test('while another operation holds the grant', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  await w.store.claim(grant.id, w.clock.now, w.clock.now + leaseMs)
  t.match(await refusalOf(complete(w, grant.id)), { code: 'grant-state', status: 409, init: { retryAfterSeconds: 1 } })
  w.clock.advance(leaseMs)
  t.match(await complete(w, grant.id), { state: 'revoked' })
})

t.test('a scheduled grant whose time has not come leaves the provider alone', async t => {
  const w = await world(t)
  const { grant } = await give(w, { issueAt: at(startOfTime + 600_000) })
  t.match(await complete(w, grant.id), { state: 'revoked' })
  await w.pass(600_000)
  t.same(actions(w), [])
})

t.test('a session', async t => {
  await t.test('that can be revoked is denied everything by its source identity', async t => {
    const w = await world(t, { profiles: { default: role } })
    const { grant } = await give(w, { attach: 'session' })
    t.match(await complete(w, grant.id), { state: 'revoked' })
    t.same(JSON.parse(w.iam.state.roles[0]?.inline[grant.principal.name] ?? ''), {
      Version: '2012-10-17',
      Statement: [{
        Effect: 'Deny',
        Action: ['*'],
        Resource: ['*'],
        Condition: {
          StringEquals: { 'aws:SourceIdentity': grant.principal.name },
          DateLessThan: { 'aws:TokenIssueTime': '2025-07-16T00:35:00Z' }
        }
      }]
    })
  })
  await t.test('that cannot be revoked says so, and is over with its window', async t => {
    const w = await world(t, { profiles: { default: { ...role, revocable: false } } })
    const { grant } = await give(w, { attach: 'session' })
    t.match(await complete(w, grant.id), { state: 'revoking', dueAt: grant.expiresAt, idempotencyKey: null, claimedUntil: null })
    t.equal((await w.store.events(grant.id)).at(-1)?.action, 'irrevocable')
    await w.pass(grant.expiresAt - startOfTime - 1)
    t.match(await w.store.get(grant.id), { state: 'revoking' })
    await w.pass(1)
    t.match(await w.store.get(grant.id), { state: 'revoked' })
    t.same(actions(w), ['AssumeRole'])
  })
  await t.test('whose role has no room for another revocation is over with its window', async t => {
    const w = await world(t, { profiles: { default: role } })
    const { grant } = await give(w, { attach: 'session' })
    w.iam.faults.on({ action: 'PutRolePolicy' }, { kind: 'error', code: 'LimitExceeded' })
    t.match(await complete(w, grant.id), { state: 'revoking', dueAt: grant.expiresAt })
  })
  await t.test('that has expired needs no revocation: the role’s room is for those that live', async t => {
    const w = await world(t, { profiles: { default: role } })
    const { grant } = await give(w, { attach: 'session', window: { durationSeconds: 60 } })
    await w.pass(60_000)
    t.match(await w.store.get(grant.id), { state: 'expired' })
    t.same(w.iam.state.roles[0]?.inline, {})
  })
  await t.test('in layout guide is revoked when its window ends before it: the reads are not bound to the window', async t => {
    const w = await world(t, { profiles: { default: role } })
    const { grant } = await give(w, { attach: 'session', layout: 'guide', window: { durationSeconds: 60 } })
    await w.pass(60_000)
    t.match(await w.store.get(grant.id), { state: 'expired' })
    t.same(Object.keys(w.iam.state.roles[0]?.inline ?? {}), [withExpiry(grant.principal.name, startOfTime + 900_000)], 'until the session ends')
    const fixed = await world(t, { profiles: { default: { ...role, revocable: false } } })
    const other = await give(fixed, { attach: 'session', layout: 'guide', window: { durationSeconds: 60 } })
    await fixed.pass(60_000)
    t.match(await fixed.store.get(other.grant.id), { state: 'revoking', dueAt: startOfTime + 900_000 })
    await fixed.pass(840_000)
    t.match(await fixed.store.get(other.grant.id), { state: 'expired' })
  })
})

t.test('under rights bound to a path all of it works the same', async t => {
  const w = await world(t, { missingUser: 'AccessDenied' })
  const { grant } = await give(w)
  await rotate(w.healthy.deps, owner, grant.id, 60)
  await extend(w.healthy.deps, owner, grant.id, { window: { durationSeconds: 20_000 } })
  await w.pass(60_000)
  t.same(await disorder(w), [])
  t.match(await complete(w, grant.id), { state: 'revoked' })
  t.equal(w.iam.state.userCount, 0)
  w.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'ServiceUnavailable' })
  await give(w).catch(() => {})
  w.iam.faults.clear()
  for (const ms of [5_000, 60_000, 300_000]) await w.pass(ms)
  t.same(await disorder(w), [], 'a user that was never made')
  t.same(await swept(w.healthy), { handled: 0, failed: 0 })
})

t.test('an end takes the grant and commits its intent in one write', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const r = await w.replica()
  t.match(await end(r.deps, owner, grant.id, 'completed'), { state: 'revoked' })
  t.same(r.calls.filter(call => /^(get|claim|update)/.test(call)), ['get', 'update revoking', 'update revoked'])
})

t.test('an end that another one overtakes is answered with what that one did', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    if (call === 'update revoking') await end(w.healthy.deps, owner, grant.id, 'completed')
    return effect()
  }
  t.match(await end(r.deps, owner, grant.id, 'revoked'), { state: 'revoked', endReason: 'completed', dueAt: null })
  t.equal((await w.store.events(grant.id)).filter(({ action }) => action === 'revoked').length, 1)
})

t.test('a grant that has ended has no key that is to die', async t => {
  const w = await world(t)
  const { grant } = await give(w)
  w.iam.faults.on({ action: 'DeleteAccessKey', times: 1 }, { kind: 'error', code: 'NoSuchEntity' })
  t.match((await rotate(w.healthy.deps, owner, grant.id, 0)).grant.dyingKeys, [{}], 'it is not certainly dead')
  t.match(await end(w.healthy.deps, owner, grant.id, 'completed'), { state: 'revoked', dyingKeys: { length: 0 } })
})
