import t from 'tap'
import type { Grant } from '../../src/domain/grant.ts'
import { settleMs } from '../../src/iam/provisioner.ts'
import { LedgerUnavailableError } from '../../src/ledger/ledger.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue, type Issued } from '../../src/lifecycle/issue.ts'
import { deadline } from '../../src/lifecycle/lease.ts'
import { fetchCredentials, rotate } from '../../src/lifecycle/rotate.ts'
import { ProblemError } from '../../src/problems.ts'
import type { GrantRequest } from '../../src/request.ts'
import { disorder, noSecret, whole } from './order.ts'
import {
  actions, arnOf, at, identityOf, orderOf, jobRequest, leaseMs, never, owner, refusalOf, role, rows, startOfTime, swept,
  world, type Replica, type World
} from './world.ts'

const ask = (r: Replica, request: Partial<GrantRequest> = {}, key?: string, actor = owner): Promise<Issued> =>
  issue(r.deps, actor, orderOf(jobRequest(request), key))

t.test('a new grant', async t => {
  const w = await world(t)
  const delivery = await ask(w.healthy)
  const { grant, credentials } = delivery
  await whole(t, w, delivery)
  t.ok(delivery.created)
  t.match(grant, { state: 'active', attach: 'inline', owner: 'token:nlp', deliveredAt: startOfTime, mintedAt: startOfTime })
  t.match(grant, { dueAt: grant.expiresAt, claimedUntil: null })
  const user = w.iam.state.user(grant.principal.name)
  t.same(JSON.parse(user?.inline['job-access'] ?? ''), grant.policy)
  t.match(user, {
    path: `/job-access/${grant.expiresAt / 1000}/`,
    keys: [{ id: credentials?.accessKeyId }],
    tags: {
      'job-access:grant': grant.id,
      'job-access:job': 'wiki-finetune-42',
      'job-access:team': 'nlp',
      'job-access:expires': '2025-07-16T03:30:00.000Z'
    }
  })
  t.same((await w.store.events(grant.id)).map(({ action, actor, requestId }) => [action, actor, requestId]),
    [['pending', 'token:nlp', 'req-1'], ['active', 'token:nlp', 'req-1']])
  t.same(await disorder(w), [])
  await noSecret(t, w)
})

t.test('two round trips deep: policy and key go side by side', async t => {
  const w = await world(t)
  // Either waits for the other: one after the other would never end.
  const both = Promise.withResolvers<void>()
  let arrived = 0
  const meet = async () => {
    if (++arrived === 2) both.resolve()
    await both.promise
  }
  w.iam.faults.on({ action: ['PutUserPolicy', 'CreateAccessKey'] }, { kind: 'run', before: meet })
  await ask(w.healthy)
  const [first, ...rest] = actions(w)
  t.equal(first, 'CreateUser')
  t.same(rest.sort(), ['CreateAccessKey', 'PutUserPolicy'])
})

t.test('a request for a job whose key was delivered', async t => {
  const first = { attempt: '1' }
  const cases: Array<[name: string, key: string | undefined, request: Partial<GrantRequest>, attempt: string | null]> = [
    ['the same Idempotency-Key: a retry', 'k-1', first, '1'],
    ['the same Idempotency-Key, and no attempt any more', 'k-1', {}, '1'],
    ['the same attempt: a retry', undefined, first, '1'],
    ['another attempt: the process before is gone', undefined, { attempt: '2' }, '2'],
    ['replace', undefined, { replace: true }, null]
  ]
  for (const [name, key, request, attempt] of cases) {
    await t.test(`${name}: the same grant and a fresh key, the one before deleted first`, async t => {
      const w = await world(t)
      const before = await ask(w.healthy, first, key)
      const seen = w.iam.calls.length
      w.clock.advance(1000)
      const again = await ask(w.healthy, request, key)
      t.equal(again.grant.id, before.grant.id)
      t.notOk(again.created)
      t.not(again.credentials?.accessKeyId, before.credentials?.accessKeyId)
      await whole(t, w, again)
      t.equal(await identityOf(w, before.credentials), undefined, 'the first key is dead')
      t.same(actions(w, seen), ['ListAccessKeys', 'DeleteAccessKey', 'CreateAccessKey'])
      t.match(await w.store.get(before.grant.id), { deliveredAt: startOfTime + 1000, attempt })
      t.equal(w.iam.state.userCount, 1)
      t.same(await disorder(w), [])
    })
  }
  const refused: Array<[name: string, request: Partial<GrantRequest>]> = [
    ['the name alone', {}], ['replace: false', { replace: false }], ['another window', { window: { durationSeconds: 3600 } }]
  ]
  for (const [name, request] of refused) {
    await t.test(`${name}: refused, and the key before works on`, async t => {
      const w = await world(t)
      const before = await ask(w.healthy, first)
      const seen = w.iam.calls.length
      const refusal = await refusalOf(ask(w.healthy, request))
      t.match(refusal, { code: 'key-delivered', status: 409, init: { detail: /2025-07-16T00:30:00.000Z for attempt "1"/, hint: /another `attempt`/ } })
      t.notMatch(refusal, { init: { retryAfterSeconds: Number } }, 'sending it again does not help')
      t.same(actions(w, seen), [])
      await whole(t, w, before)
    })
  }
})

t.test('a request whose job gets its key at the same moment does not end that key', async t => {
  const w = await world(t)
  const dying = await w.replica()
  w.iam.faults.on({ action: 'CreateUser', nth: 1 }, { kind: 'run', after: () => dying.die() })
  await Promise.race([ask(dying).catch(() => {}), dying.died])
  w.iam.faults.clear()
  w.clock.advance(leaseMs)
  // Both saw a grant without a key; the other one claims it first.
  const late = await w.replica()
  let other: Issued | undefined
  late.intercept = async (call, effect) => {
    if (call === 'claim') other ??= await ask(w.healthy)
    return effect()
  }
  t.match(await refusalOf(ask(late)), { code: 'idempotency-busy', init: { retryAfterSeconds: 1 } })
  if (other) await whole(t, w, other)
  t.match(await refusalOf(ask(late)), { code: 'key-delivered' })
  t.same((await rows(w)).map(({ claimedUntil }) => claimedUntil), [null])
})

t.test('a retry that asks for something else changes the grant in place', async t => {
  const sourceIps = ['203.0.113.43']
  const ends = (notAfter: string) => [{ Condition: { DateLessThan: { 'aws:CurrentTime': notAfter } } }]
  const cases: Array<[name: string, request: Partial<GrantRequest>, policy: object]> = [
    ['another source', { sourceIps }, [{ Condition: { IpAddress: { 'aws:SourceIp': '203.0.113.43/32' } } }]],
    ['a longer window', { window: { durationSeconds: 14_400 } }, ends('2025-07-16T04:30:01Z')],
    ['a shorter window', { window: { durationSeconds: 3600 } }, ends('2025-07-16T01:30:01Z')],
    ['another end', { window: { notAfter: '2025-07-16T05:00:00Z' } }, ends('2025-07-16T05:00:00Z')]
  ]
  for (const attach of ['inline', 'managed'] as const) {
    for (const [name, request, policy] of cases) {
      await t.test(`${name}, ${attach}`, async t => {
        const w = await world(t)
        const before = await ask(w.healthy, { attach }, 'k-1')
        w.clock.advance(1000)
        const changed = await ask(w.healthy, { attach, ...request }, 'k-1')
        t.equal(changed.grant.id, before.grant.id)
        t.match(changed.grant.policy.Statement, policy)
        t.not(changed.grant.policyHash, before.grant.policyHash)
        await whole(t, w, changed)
        t.equal(await identityOf(w, before.credentials), undefined, 'the key before is dead')
        t.match(await w.store.get(before.grant.id), { policyHash: changed.grant.policyHash, expiresAt: changed.grant.expiresAt })
        t.same(await disorder(w), [], 'the provider has the policy of the ledger')
        t.match((await w.store.events(before.grant.id)).slice(2), [
          { action: 'rekeying', policyHash: changed.grant.policyHash }, { action: 'delivered', policyHash: changed.grant.policyHash }
        ])
        t.equal(w.iam.state.userCount, 1)
        await noSecret(t, w)
      })
    }
  }
  await t.test('the same for another start', async t => {
    const w = await world(t)
    const before = await ask(w.healthy, { attempt: '1' })
    const changed = await ask(w.healthy, { attempt: '2', sourceIps })
    t.same([changed.grant.id, changed.grant.spec.source], [before.grant.id, { kind: 'ip', cidrs: ['203.0.113.43/32'] }])
    await whole(t, w, changed)
    t.equal(await identityOf(w, before.credentials), undefined)
    t.same(await disorder(w), [])
  })
  await t.test('after PATCH the first request asks for the first source again', async t => {
    const w = await world(t)
    const before = await ask(w.healthy, {}, 'k-1')
    const patched = await extend(w.healthy.deps, owner, before.grant.id, { sourceIps })
    t.not(patched.policyHash, before.grant.policyHash)
    const again = await ask(w.healthy, {}, 'k-1')
    t.equal(again.grant.policyHash, before.grant.policyHash)
    await whole(t, w, again)
    t.same(await disorder(w), [])
  })
  await t.test('what cannot be changed is a conflict, and the key before works on', async t => {
    const others: Array<Partial<GrantRequest>> = [
      { datasets: [{ bucket: 'acmeco-other-datasets' }] },
      { job: { id: 'wiki-finetune-42', team: 'nlp', labels: { run: '7' } } },
      { layout: 'guarded' },
      { attach: 'managed' },
      { workers: { max: 2 }, sourceIps: undefined as never },
      { job: { id: 'other', team: 'nlp' } }
    ]
    const w = await world(t)
    const before = await ask(w.healthy, {}, 'k-1')
    for (const other of others) {
      t.match(await refusalOf(ask(w.healthy, { ...other, replace: true }, 'k-1')), { code: 'idempotency-conflict', status: 409 }, JSON.stringify(other))
    }
    await whole(t, w, before)
  })
  await t.test('a refused change leaves the key before', async t => {
    const w = await world(t)
    const before = await ask(w.healthy, {}, 'k-1')
    w.clock.advance(3_600_000)
    // Its whole life would be longer than allowed: a change is checked like PATCH.
    t.match(await refusalOf(ask(w.healthy, { window: { durationSeconds: 86_400 * 30 } }, 'k-1')), { status: 422 })
    await whole(t, w, before)
    t.match(await w.store.get(before.grant.id), { claimedUntil: null, policyHash: before.grant.policyHash })
  })
})

t.test('what is the same request, and what is another', async t => {
  const other = { ...owner, id: 'token:vision' }
  const cases: Array<[name: string, request: Partial<GrantRequest>, key: string | undefined, actor: typeof owner, outcome: string]> = [
    ['the same job', {}, undefined, owner, 'key-delivered'],
    ['another start of the same job', { attempt: '2' }, undefined, owner, 'same'],
    ['the same job, other buckets', { datasets: [{ bucket: 'acmeco-other-datasets' }] }, undefined, owner, 'idempotency-conflict'],
    ['another job', { job: { id: 'other', team: 'nlp' } }, undefined, owner, 'new'],
    ['the same job id of another team', { job: { id: 'wiki-finetune-42', team: 'vision' } }, undefined, owner, 'new'],
    ['the same job, another token', {}, undefined, other, 'new'],
    ['the same job under a key of its own', {}, 'k-1', owner, 'new'],
    ['a key that reads like a job', {}, 'job:nlp/wiki-finetune-42', owner, 'new']
  ]
  for (const [name, request, key, actor, outcome] of cases) {
    const w = await world(t)
    const first = await ask(w.healthy)
    const got = await ask(w.healthy, request, key, actor).then(({ grant }) => grant.id === first.grant.id ? 'same' : 'new', codeOf)
    t.equal(got, outcome, name)
    t.equal(w.iam.state.userCount, outcome === 'new' ? 2 : 1, name)
  }
  const w = await world(t)
  await ask(w.healthy, {}, 'k-1')
  t.equal(await ask(w.healthy, { job: { id: 'other', team: 'nlp' } }, 'k-1').catch(codeOf),
    'idempotency-conflict', 'an explicit key with another body')
  t.equal(await ask(w.healthy, { format: 'env' }, 'k-2').then(() => 'new'), 'new')
})

t.test('concurrent retries: one wins, the others get 409 with Retry-After', async t => {
  const w = await world(t)
  const replicas = [w.healthy, await w.replica(), await w.replica()]
  for (const round of ['the first requests', 'retries of a live grant']) {
    const outcomes = await Promise.all([...replicas, ...replicas].map(r => ask(r, {}, 'k-1').then(delivery => ({ delivery }), error => ({ error }))))
    const answered = outcomes.flatMap(outcome => 'delivery' in outcome ? [outcome.delivery] : [])
    const refused = outcomes.flatMap(outcome => 'error' in outcome ? [outcome.error] : [])
    t.ok(answered.length >= 1, round)
    for (const error of refused) t.match(error, { code: 'idempotency-busy', status: 409, init: { retryAfterSeconds: 1 } })
    t.equal(w.iam.state.userCount, 1)
    const [grant] = await rows(w)
    const winner = answered.find(({ credentials }) => credentials?.accessKeyId === grant?.accessKeyId)
    if (winner) await whole(t, w, winner)
    t.ok(winner, 'the last one that was answered holds')
    if (round === 'the first requests') t.equal(answered.filter(({ created }) => created).length, 1)
    t.same(await disorder(w), [])
  }
})

t.test('after the end', async t => {
  const cases: Array<[key: string | undefined, outcome: string]> = [[undefined, 'new'], ['k-1', 'grant-state']]
  for (const [key, outcome] of cases) {
    for (const how of ['complete', 'expiry, swept', 'expiry, not yet swept']) {
      const w = await world(t)
      const first = await ask(w.healthy, {}, key)
      if (how === 'complete') await end(w.healthy.deps, owner, first.grant.id, 'completed')
      else w.clock.advance(10_800_000)
      if (how === 'expiry, swept') await swept(w.healthy)
      const got = await ask(w.healthy, {}, key)
        .then(({ created, grant }) => created && grant.id !== first.grant.id ? 'new' : 'same', codeOf)
      t.equal(got, outcome, `${key ?? 'the job’s own key'}, ${how}`)
      if (outcome === 'new') t.same((await rows(w)).map(({ state }) => state), ['active', how === 'complete' ? 'revoked' : 'expired'])
      t.equal(w.iam.state.userCount, outcome === 'new' || how === 'expiry, not yet swept' ? 1 : 0)
    }
  }
})

t.test('a failed issue', async t => {
  await t.test('that made nothing is over at once, and its key is free', async t => {
    const w = await world(t)
    w.iam.faults.on({ action: 'CreateUser', nth: 1 }, { kind: 'error', code: 'LimitExceeded' })
    t.match(await refusalOf(ask(w.healthy, {}, 'k-1')), { code: 'iam-refused', status: 502 })
    t.match(await rows(w), [{ state: 'failed', idempotencyKey: null, dueAt: null }])
    t.same(actions(w), ['CreateUser'])
    await whole(t, w, await ask(w.healthy, {}, 'k-1'))
  })
  await t.test('is not taken for one that made nothing when an answer before was lost', async t => {
    const w = await world(t)
    w.iam.faults.on({ action: 'CreateUser', nth: 1 }, { kind: 'errorAfter' })
    w.iam.faults.on({ action: 'CreateUser', nth: 2 }, { kind: 'error', code: 'LimitExceeded' })
    t.match(await refusalOf(ask(w.healthy)), { code: 'iam-refused' })
    t.match(await rows(w), [{ state: 'failed' }])
    t.equal(w.iam.state.userCount, 0)
  })
  await t.test('that cannot be torn down holds its key, so that no second user is made; a retry tears down itself', async t => {
    const w = await world(t)
    const down = [
      w.iam.faults.on({ action: 'PutUserPolicy' }, { kind: 'error', code: 'MalformedPolicyDocument' }),
      w.iam.faults.on({ action: ['ListAccessKeys', 'DeleteAccessKey', 'DeleteUser'] }, { kind: 'error', code: 'ServiceUnavailable' })
    ]
    t.match(await refusalOf(ask(w.healthy)), { code: 'iam-refused' })
    t.match(await rows(w), [{ state: 'revoking', ending: 'failed' }])
    t.match(await refusalOf(ask(w.healthy)), { code: 'idempotency-busy', init: { retryAfterSeconds: 5 } })
    t.equal(w.iam.state.userCount, 1)
    for (const fault of down) fault.remove()
    await whole(t, w, await ask(w.healthy))
    t.match((await rows(w)).map(({ state }) => state), ['active', 'failed'])
    t.equal(w.iam.state.userCount, 1)
  })
  await t.test('that the provider knows nothing of frees its key before that can be believed', async t => {
    const w = await world(t)
    const down = w.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'ServiceUnavailable' })
    t.match(await refusalOf(ask(w.healthy)), { code: 'iam-unavailable', status: 503, init: { retryAfterSeconds: 5 } })
    t.match(await rows(w), [{ state: 'revoking', ending: 'failed', idempotencyKey: null }])
    down.remove()
    await whole(t, w, await ask(w.healthy))
  })
  await t.test('that cannot be audited makes nothing', async t => {
    const w = await world(t)
    const r = await w.replica()
    r.intercept = async (call, effect) => {
      if (call === 'record pending') throw new Error('no audit')
      return effect()
    }
    await t.rejects(ask(r), { message: 'no audit' })
    t.match(await rows(w), [{ state: 'failed', idempotencyKey: null }])
    t.same(actions(w), [])
  })
})

t.test('what is tried again within the deadline', async t => {
  for (const [code, tries] of [['Throttling', 3], ['ConcurrentModification', 3], ['ServiceFailure', 3]] as const) {
    const w = await world(t)
    w.iam.faults.on({ action: 'CreateUser', nth: 1, times: tries - 1 }, { kind: 'error', code })
    await whole(t, w, await ask(w.healthy))
    t.equal(actions(w).filter(action => action === 'CreateUser').length, tries, code)
  }
  const w = await world(t)
  w.iam.faults.on({}, { kind: 'throttle' })
  t.match(await refusalOf(ask(w.healthy)), { code: 'iam-unavailable', init: { retryAfterSeconds: 5 } })
  t.match(await rows(w), [{ state: 'failed' }], 'all of it was throttled, so nothing was made')
  t.ok(w.iam.calls.length < 20, `${w.iam.calls.length} tries`)
})

t.test('a user that has not spread yet', async t => {
  for (const code of ['NoSuchEntity', 'AccessDenied']) {
    const w = await world(t)
    w.iam.faults.on({ action: 'PutUserPolicy', nth: 1, times: 3 }, { kind: 'error', code })
    w.iam.faults.on({ action: 'CreateAccessKey', nth: 1, times: 2 }, { kind: 'error', code })
    await whole(t, w, await ask(w.healthy))
    t.equal(w.iam.state.keyCount, 1)
  }
})

t.test('a policy too large for a user goes into a managed one', async t => {
  const w = await world(t)
  const datasets = Array.from({ length: 12 }, (_, i) => ({ bucket: `acmeco-training-datasets-wikipedia-2025-${i + 10}` }))
  const delivery = await ask(w.healthy, { datasets })
  await whole(t, w, delivery)
  const { grant } = delivery
  t.equal(grant.attach, 'managed')
  t.match(w.iam.state.policies,
    [{ name: grant.principal.name, path: grant.principal.path, attachedTo: [grant.principal.name], arn: grant.principal.policyArn }])
  t.same(w.iam.state.user(grant.principal.name)?.inline, {})
  t.same(actions(w).sort(), ['AttachUserPolicy', 'CreateAccessKey', 'CreatePolicy', 'CreateUser'])
  t.same(await disorder(w), [])
})

t.test('a session', async t => {
  await t.test('is one call, and its end is that of the window', async t => {
    const w = await world(t, { profiles: { default: role } })
    const delivery = await ask(w.healthy, { attach: 'session' })
    await whole(t, w, delivery)
    t.same(actions(w), ['AssumeRole'])
    const call = w.iam.calls.find(({ action }) => action === 'AssumeRole')
    t.match(call?.params, {
      RoleSessionName: delivery.grant.principal.name,
      SourceIdentity: delivery.grant.principal.name,
      DurationSeconds: '10800',
      Policy: JSON.stringify(delivery.grant.policy)
    })
    t.ok(delivery.credentials?.sessionToken)
    t.equal(w.iam.state.userCount, 0)
    t.equal(await identityOf(w, delivery.credentials), arnOf(delivery.grant))
  })
  await t.test('lasts no longer than its role, and the ledger knows its end', async t => {
    const cases: Array<[maxSessionSeconds: number, chained: boolean, durationSeconds: number, lasts: number]> = [
      [7200, false, 7200, 7200],
      [7200, false, 7201, 7200],
      [43_200, true, 3600, 3600],
      [43_200, true, 3601, 3600],
      [43_200, true, 60, 60]
    ]
    for (const [maxSessionSeconds, chained, durationSeconds, lasts] of cases) {
      const w = await world(t, { profiles: { default: { ...role, maxSessionSeconds, chained } } })
      const { grant } = await ask(w.healthy, { attach: 'session', window: { durationSeconds } })
      t.equal(grant.sessionsEndAt, startOfTime + lasts * 1000, `${durationSeconds} s of ${maxSessionSeconds}`)
      t.equal(grant.expiresAt, startOfTime + durationSeconds * 1000, 'the window is the one that was asked for')
    }
  })
})

t.test('a scheduled grant', async t => {
  const issueAt = startOfTime + 600_000
  const scheduled = (w: World) => ask(w.healthy, { issueAt: at(issueAt) })
  await t.test('is minted by the scheduler and fetched once', async t => {
    const w = await world(t)
    const promised = await scheduled(w)
    const { id } = promised.grant
    t.match(promised, { created: true, credentials: null, grant: { state: 'pending', issueAt, mintedAt: null, dueAt: issueAt } })
    t.match(await scheduled(w), { created: false, credentials: null, grant: { id } }, 'a retry')
    await w.pass(599_000)
    t.match(await refusalOf(fetchCredentials(w.healthy.deps, owner, id)),
      { code: 'grant-state', status: 409, init: { retryAfterSeconds: 1 } })
    t.same(actions(w), [], 'nothing is made before its time')
    await w.pass(1000)
    t.match(await w.store.get(id), { state: 'active', accessKeyId: null, deliveredAt: null, mintedAt: issueAt })
    t.match(w.iam.state.users, [{ keys: [] }], 'a user without a key')
    await whole(t, w, await fetchCredentials(w.healthy.deps, owner, id))
    t.match(await refusalOf(fetchCredentials(w.healthy.deps, owner, id)), { code: 'grant-state' }, 'once')
    await whole(t, w, await rotate(w.healthy.deps, owner, id, 0))
    t.same(await disorder(w), [])
  })
  await t.test('has a window that starts with it, unless the request gives another start', async t => {
    const w = await world(t)
    const window = { durationSeconds: 300 }
    const given = await ask(w.healthy, { issueAt: at(issueAt), window })
    t.match(given.grant, { notBefore: issueAt, expiresAt: issueAt + 300_000 })
    t.strictSame(given.warnings.map(({ code }) => code).filter(code => code === 'window-starts-now'), [])
    t.match(await ask(w.healthy, { issueAt: at(issueAt), window }), { created: false, grant: { id: given.grant.id } }, 'a retry')
    const earlier = await ask(w.healthy, {
      job: { id: 'earlier', team: 'nlp' }, issueAt: at(issueAt), window: { notBefore: at(startOfTime), durationSeconds: 900 }
    })
    t.match(earlier.grant, { notBefore: startOfTime, expiresAt: startOfTime + 900_000 })
    const refused = (request: Partial<GrantRequest>) => refusalOf(ask(w.healthy, { job: { id: 'no', team: 'nlp' }, ...request }))
    t.match(await refused({ issueAt: at(issueAt), window: { notAfter: at(issueAt) } }), { code: 'window-invalid', init: { pointer: '/issueAt' } })
    t.match(await refused({ issueAt: '2026-07-16T00:00:00Z', window }), { code: 'window-too-far', init: { pointer: '/issueAt' } })
    t.match(await refused({ issueAt: at(issueAt), window: { notAfter: at(startOfTime) } }),
      { code: 'window-over', init: { pointer: '/window/notAfter' } })
  })
  await t.test('is minted by its owner, when the scheduler is late', async t => {
    const w = await world(t)
    const { grant } = await scheduled(w)
    w.clock.advance(600_000)
    await whole(t, w, await fetchCredentials(w.healthy.deps, owner, grant.id))
    t.match(await refusalOf(fetchCredentials(w.healthy.deps, owner, grant.id)), { code: 'grant-state' }, 'once')
  })
  await t.test('outlives a provider that was down at its time', async t => {
    const w = await world(t)
    const { grant } = await scheduled(w)
    const down = w.iam.faults.on({}, { kind: 'error', code: 'ServiceUnavailable' })
    await w.pass(600_000)
    await w.pass(60_000)
    t.match(await w.store.get(grant.id), { state: 'pending', attempts: 2 })
    t.match(await refusalOf(fetchCredentials(w.healthy.deps, owner, grant.id)), { code: 'iam-unavailable' })
    down.remove()
    await w.pass(300_000)
    await whole(t, w, await fetchCredentials(w.healthy.deps, owner, grant.id))
  })
  await t.test('whose fetch failed leaves no key, and can be fetched again', async t => {
    for (const [call, lateMs] of [['update active', 0], ['record active', 0], ['update delivered', 1], ['record delivered', 1]] as const) {
      const w = await world(t)
      const { grant } = await scheduled(w)
      w.clock.advance(600_000)
      // Minted by the sweeper, it is rekeyed; before that it is made.
      if (lateMs > 0) await w.pass(lateMs)
      const r = await w.replica()
      r.intercept = async (name, effect) => {
        const answer = await effect()
        if (name === call) throw new LedgerUnavailableError('injected')
        return answer
      }
      await t.rejects(fetchCredentials(r.deps, owner, grant.id), { name: 'LedgerUnavailableError' }, call)
      t.equal(w.iam.state.keyCount, 0, `${call}: the key is gone at once`)
      t.match(await w.store.get(grant.id), { accessKeyId: null, deliveredAt: null, claimedUntil: null }, call)
      await whole(t, w, await fetchCredentials(w.healthy.deps, owner, grant.id))
    }
  })
  await t.test('that never could be minted ends with its window', async t => {
    const w = await world(t)
    const { grant } = await scheduled(w)
    w.iam.faults.on({ action: 'PutUserPolicy' }, { kind: 'error', code: 'MalformedPolicyDocument' })
    await w.pass(600_000)
    t.match(await w.store.get(grant.id), { state: 'pending', attempts: 1 })
    await w.pass(10_800_000)
    t.match(await w.store.get(grant.id), { state: 'failed' })
    t.equal(w.iam.state.userCount, 0)
  })
  await t.test('with a time in the past is issued now', async t => {
    const w = await world(t)
    await whole(t, w, await ask(w.healthy, { issueAt: at(startOfTime - 1000) }))
  })
})

t.test('the output’s grace keeps the user, not the reads', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy, { window: { durationSeconds: 3600, outputGraceSeconds: 600 } })
  t.equal(grant.expiresAt, startOfTime + 4_200_000)
  t.match(grant.spec.window, { notAfter: '2025-07-16T01:30:00Z', outputNotAfter: '2025-07-16T01:40:00Z' })
  const ends = grant.policy.Statement.map(({ Sid, Condition }) => [Sid, Condition?.DateLessThan?.['aws:CurrentTime']])
  t.same(Object.fromEntries(ends), {
    WikipediaReadOnly: '2025-07-16T01:30:00Z',
    BaseModelsReadOnly: '2025-07-16T01:30:00Z',
    FinetunedModelsWrite: '2025-07-16T01:40:00Z'
  })
  await w.pass(4_199_000)
  t.match(await rows(w), [{ state: 'active' }])
  await w.pass(1000)
  t.match(await rows(w), [{ state: 'expired' }])
})

t.test('no more outstanding grants than allowed', async t => {
  const w = await world(t)
  const r = await w.replica({ outstanding: { perOwner: 2, total: 3 } })
  const job = (id: string) => ({ job: { id, team: 'nlp' } })
  const other = { ...owner, id: 'token:vision' }
  const first = await ask(r, job('a'), 'a')
  await ask(r, job('b'))
  t.match(await refusalOf(ask(r, job('c'))), { code: 'too-many-grants', status: 429, init: { retryAfterSeconds: 60 } }, 'of one identity')
  t.match(await ask(r, job('a'), 'a'), { created: false }, 'a retry is none more')
  await ask(r, job('d'), undefined, other)
  t.match(await refusalOf(ask(r, job('e'), undefined, other)), { code: 'too-many-grants', status: 429 }, 'of all')
  t.equal(w.iam.state.userCount, 3)
  await end(r.deps, owner, first.grant.id, 'completed')
  await ask(r, job('c'))
})

t.test('a retry takes over what a replica left that died', async t => {
  for (const call of ['CreateUser', 'PutUserPolicy', 'CreateAccessKey']) {
    const w = await world(t)
    const dying = await w.replica()
    w.iam.faults.on({ action: call, nth: 1 }, { kind: 'run', after: () => dying.die() })
    await Promise.race([ask(dying).catch(() => {}), dying.died])
    w.iam.faults.clear()
    t.match(await refusalOf(ask(w.healthy)), { code: 'idempotency-busy', init: { retryAfterSeconds: 1 } }, 'not while it may be at work')
    w.clock.advance(leaseMs)
    const taken = await ask(w.healthy)
    await whole(t, w, taken)
    t.equal(w.iam.state.userCount, 1)
    t.equal(w.iam.state.keyCount, 1)
    await w.pass(settleMs)
    t.match(await w.store.get(taken.grant.id), { dyingKeys: [], dueAt: taken.grant.expiresAt })
    t.equal((await w.store.events(taken.grant.id)).at(-1)?.action, 'repaired', 'and is looked at once more')
    await whole(t, w, taken)
  }
})

t.test('a retry makes the user again that somebody deleted', async t => {
  for (const missingUser of ['NoSuchEntity', 'AccessDenied'] as const) {
    const w = await world(t, { missingUser })
    const first = await ask(w.healthy, {}, 'k-1')
    await w.ask.deleteAccessKey(first.grant.principal.name, first.credentials?.accessKeyId ?? '', Infinity)
    await w.ask.deleteUserPolicy(first.grant.principal.name, 'job-access', Infinity)
    await w.ask.deleteUser(first.grant.principal.name, Infinity)
    const again = await ask(w.healthy, {}, 'k-1')
    t.equal(again.grant.id, first.grant.id)
    await whole(t, w, again)
    t.same(await disorder(w), [])
  }
})

t.test('a user that was made again is young again: that it is not there yet is not believed', async t => {
  const w = await world(t)
  const first = await ask(w.healthy, {}, 'k-1')
  const { name } = first.grant.principal
  await w.ask.deleteAccessKey(name, first.credentials?.accessKeyId ?? '', Infinity)
  await w.ask.deleteUserPolicy(name, 'job-access', Infinity)
  await w.ask.deleteUser(name, Infinity)
  w.clock.advance(600_000)
  await ask(w.healthy, {}, 'k-1')
  for (const action of ['DeleteAccessKey', 'DeleteUserPolicy', 'DeleteUser']) w.iam.faults.on({ action, nth: 1 }, { kind: 'error', code: 'NoSuchEntity' })
  t.match(await end(w.healthy.deps, owner, first.grant.id, 'completed'), { state: 'revoking' })
  await w.pass(60_000)
  t.match(await w.store.get(first.grant.id), { state: 'revoked' })
  t.equal(w.iam.state.userCount, 0)
})

t.test('readiness is told, never thrown: the grant stands', async t => {
  const cases: Array<[code: string, times: number, ready: boolean]> = [
    ['InvalidClientTokenId', 2, true],
    ['Throttling', 2, true],
    ['InvalidClientTokenId', 1000, false],
    ['Throttling', 1000, false],
    ['ServiceUnavailable', 1000, false]
  ]
  for (const [code, times, ready] of cases) {
    const w = await world(t)
    const { grant, credentials } = await ask(w.healthy)
    if (!credentials) return t.fail('no credentials')
    w.iam.faults.on({ action: 'GetCallerIdentity', nth: 1, times }, { kind: 'error', code })
    t.equal(await w.healthy.deps.provisioners.inline.ready(grant.principal, credentials, deadline(w.healthy.deps)),
      ready, `${code} ${times} times`)
  }
})

const codeOf = (error: unknown): string => error instanceof ProblemError ? error.code : String(error)

t.test('another start leaves to be repaired what an extension that died left', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy, { attempt: '1' })
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    const answer = await effect()
    if (call !== 'update extending') return answer
    r.die()
    return never()
  }
  await Promise.race([extend(r.deps, owner, grant.id, { sourceIps: ['203.0.113.77'] }), r.died])
  w.clock.advance(leaseMs + 1)
  const again = await ask(w.healthy, { attempt: '2', sourceIps: ['203.0.113.77'] })
  t.ok(again.grant.dueAt !== null && again.grant.dueAt <= w.clock.now, 'the user may have another policy than the ledger')
  await w.pass(1)
  t.same(await disorder(w), [])
  await whole(t, w, again)
})

t.test('a stored policy that is not proven: what an earlier try made is removed', async t => {
  const w = await world(t)
  const r = await w.replica()
  r.intercept = (call, effect) => {
    if (call !== 'update active') return effect()
    r.die()
    return never()
  }
  await Promise.race([ask(r, {}, 'k'), r.died])
  t.equal(w.iam.state.userCount, 1)
  w.clock.advance(leaseMs + 1)
  const [grant] = await w.store.list({}, { limit: 1 })
  const policy = { ...grant?.policy, Statement: [{ Sid: 'All', Effect: 'Allow', Action: ['s3:*'], Resource: ['*'] }] } as Grant['policy']
  if (grant) await w.store.update(grant, { policy }, { actor: 'test', requestId: null, action: 'minting', policyHash: null, detail: {} }, w.clock.now)
  t.match(await refusalOf(ask(w.healthy, {}, 'k')), { code: 'policy-unproven' })
  t.equal(w.iam.state.userCount, 0)
  t.same(await disorder(w), [])
})

t.test('another start with another window that fails: the ledger has the window before', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy, { attempt: '1' })
  w.iam.faults.on({ action: 'CreateAccessKey' }, { kind: 'error', code: 'AccessDenied' })
  t.match(await refusalOf(ask(w.healthy, { attempt: '2', window: { durationSeconds: 20_000 } })), { code: 'iam-refused' })
  t.match(await w.store.get(grant.id), { expiresAt: grant.expiresAt, policyHash: grant.policyHash, attempt: '1' })
  w.iam.faults.clear()
  await w.pass(1)
  t.same(await disorder(w), [])
})
