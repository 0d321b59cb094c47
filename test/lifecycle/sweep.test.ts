import { mock } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { DeleteAccessKeyCommand, DeleteUserCommand, DeleteUserPolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { settleMs } from '../../src/iam/provisioner.ts'
import { systemClock } from '../../src/iam/retry.ts'
import { backoffMs, end } from '../../src/lifecycle/end.ts'
import { periodic } from '../../src/lifecycle/periodic.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import type { Delivery } from '../../src/lifecycle/provision.ts'
import { rotate } from '../../src/lifecycle/rotate.ts'
import { paced, sweep } from '../../src/lifecycle/sweep.ts'
import type { GrantRequest } from '../../src/request.ts'
import { disorder, whole } from './order.ts'
import {
  actions, at, byHand, identityOf, orderOf, jobRequest, leaseMs, owner, rows, startOfTime, sweepFast, swept, world, type Replica,
  type World
} from './world.ts'

const give = ({ healthy }: World, id: string, request: Partial<GrantRequest> = {}) =>
  issue(healthy.deps, owner, orderOf(jobRequest({ job: { id, team: 'nlp' }, ...request })))

const died = async (w: World, call: string, act: (r: Replica) => Promise<unknown>) => {
  const dying = await w.replica()
  w.iam.faults.on({ action: call, nth: 1 }, { kind: 'run', after: () => dying.die() })
  await Promise.race([act(dying).catch(() => {}), dying.died])
  w.iam.faults.clear()
}

t.test('what is due, each kind once, and nothing else', async t => {
  const w = await world(t)
  const hour = { window: { durationSeconds: 3600 } }
  await give(w, 'expires', hour)
  await give(w, 'lives')
  const overlapping = await give(w, 'rotated')
  await rotate(w.healthy.deps, owner, overlapping.grant.id, 3600)
  await give(w, 'scheduled', { issueAt: at(startOfTime + 3_600_000) })
  await give(w, 'later', { issueAt: at(startOfTime + 3_700_000) })
  await died(w, 'CreateUser', ({ deps }) => issue(deps, owner, orderOf(jobRequest({ job: { id: 'crashed', team: 'nlp' } }))))
  const stuck = await give(w, 'stuck')
  w.iam.faults.on({ action: 'DeleteUser', nth: 1, times: 20 }, { kind: 'error', code: 'ServiceUnavailable' })
  await end(w.healthy.deps, owner, stuck.grant.id, 'completed')
  w.iam.faults.clear()
  const seen = w.iam.calls.length
  t.same(await w.pass(3_600_000), { handled: 5, failed: 0 })
  t.same(Object.fromEntries((await rows(w)).map(({ jobId, state }) => [jobId, state])), {
    expires: 'expired', lives: 'active', rotated: 'active', scheduled: 'active', later: 'pending', crashed: 'failed', stuck: 'revoked'
  })
  t.equal(actions(w, seen).filter(action => action === 'DeleteUser').length, 3)
  t.same(await disorder(w), [])
  const quiet = w.iam.calls.length
  t.same(await swept(w.healthy), { handled: 0, failed: 0 })
  t.same(actions(w, quiet), [])
})

t.test('a stale intent that made nothing counts as gone after five minutes', async t => {
  const w = await world(t)
  await died(w, 'CreateUser', async ({ deps, die }) => {
    w.iam.faults.clear()
    w.iam.faults.on({ action: 'CreateUser' }, { kind: 'run', before: die })
    w.iam.faults.on({ action: 'CreateUser' }, { kind: 'drop' })
    await issue(deps, owner, orderOf(jobRequest()))
  })
  await w.pass(leaseMs)
  t.match(await rows(w), [{ state: 'revoking', ending: 'failed', attempts: 1, idempotencyKey: null }])
  for (const seconds of [60, 60, 60, 60]) await w.pass(seconds * 1000)
  t.match(await rows(w), [{ state: 'revoking' }])
  await w.pass(120_000)
  t.match(await rows(w), [{ state: 'failed' }])
})

t.test('backoff per grant, and its end', async t => {
  const seconds = Array.from({ length: 12 }, (_, attempts) => backoffMs(attempts) / 1000)
  t.same(seconds, [5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300])
  t.equal(backoffMs(1e9), 300_000)
  const w = await world(t)
  const { grant } = await give(w, 'stuck', { window: { durationSeconds: 60 } })
  w.iam.faults.on({ action: 'DeleteUser' }, { kind: 'error', code: 'AccessDenied' })
  await w.pass(60_000)
  const waits: number[] = []
  for (let i = 0; i < 8; i++) {
    const { dueAt, attempts } = await w.store.get(grant.id) ?? {}
    t.equal(attempts, i + 1)
    const wait = (dueAt ?? 0) - w.clock.now
    waits.push(wait / 1000)
    t.same(await w.pass(wait - 1), { handled: 0, failed: 0 }, 'not before its time')
    await w.pass(1)
  }
  t.same(waits, [5, 10, 20, 40, 80, 160, 300, 300])
  w.iam.faults.clear()
  await w.pass(300_000)
  t.match(await w.store.get(grant.id), { state: 'expired', attempts: 0 })
  const failures = (await w.store.events(grant.id)).filter(({ action }) => action === 'attempt-failed')
  t.equal(failures.length, 9)
  t.match(failures[0], { actor: 'sweeper', detail: { operation: 'DeleteUser', kind: 'denied', code: 'AccessDenied', attempt: 1 } })
})

t.test('failing grants never stop the others', async t => {
  const w = await world(t)
  const hour = { window: { durationSeconds: 3600 } }
  const failing = new Set<string>()
  for (let i = 0; i < 30; i++) {
    const { grant } = await give(w, `job-${i}`, hour)
    if (i % 3 > 0) continue
    failing.add(grant.id)
    w.iam.faults.on({ action: 'DeleteUser', params: { UserName: grant.principal.name } }, { kind: 'error', code: 'ServiceUnavailable' })
  }
  w.clock.advance(3_600_000)
  const report = await swept(w.healthy, { concurrency: 2 })
  t.match(report, { failed: 0 })
  t.ok(report.handled >= 30)
  for (const grant of await rows(w)) t.equal(grant.state, failing.has(grant.id) ? 'revoking' : 'expired')
  t.equal(w.iam.state.userCount, 10)
  w.iam.faults.clear()
  await w.pass(300_000)
  t.equal(w.iam.state.userCount, 0)
})

t.test('a grant whose ledger row cannot be changed does not stop the others', async t => {
  const w = await world(t)
  const hour = { window: { durationSeconds: 3600 } }
  for (const id of ['a', 'b', 'c']) await give(w, id, hour)
  const r = await w.replica()
  let updates = 0
  r.intercept = async (call, effect) => {
    if (call.startsWith('update') && ++updates === 1) throw new TypeError('a bug')
    return effect()
  }
  w.clock.advance(3_600_000)
  t.same(await swept(r, { concurrency: 1 }), { handled: 3, failed: 1 })
  t.same((await rows(w)).map(({ state }) => state).sort(), ['active', 'expired', 'expired'])
  await w.pass(5_000)
  t.same(await disorder(w), [])
})

t.test('a ledger that is down fails the pass, and a stop ends it', async t => {
  const w = await world(t)
  const r = await w.replica()
  r.intercept = async () => { throw new Error('down') }
  await t.rejects(swept(r), { message: 'down' })
  for (const id of ['a', 'b', 'c']) await give(w, id, { window: { durationSeconds: 3600 } })
  w.clock.advance(3_600_000)
  const stop = new AbortController()
  w.iam.faults.on({ action: 'DeleteUser', nth: 1 }, { kind: 'run', before: () => stop.abort() })
  t.same(await sweep(w.healthy.deps, { ...sweepFast, concurrency: 1 }, stop.signal),
    { handled: 1, failed: 0 }, 'what was begun is finished')
  t.same((await rows(w)).map(({ state }) => state).sort(), ['active', 'active', 'expired'])
  t.same(await swept(w.healthy), { handled: 2, failed: 0 }, 'and the rest is held by nobody')
  t.same((await rows(w)).map(({ state }) => state), ['expired', 'expired', 'expired'])
})

t.test('what waits for its turn is held by nobody', async t => {
  const w = await world(t)
  for (let i = 0; i < 6; i++) await give(w, `job-${i}`, { window: { durationSeconds: 3600 } })
  const last = (await rows(w))[0]?.id ?? ''
  w.clock.advance(3_600_000)
  const [r, other] = [await w.replica(), await w.replica()]
  let ends = 0
  // Every teardown takes five seconds. In the first one another replica sweeps, and the owner of the last grant ends it.
  w.iam.faults.on({ action: 'DeleteUser' }, { kind: 'run', before: () => w.clock.advance(5_000) })
  r.intercept = async (call, effect) => {
    if (call === 'update revoking' && ++ends === 1) {
      t.match(await end(w.healthy.deps, owner, last, 'completed'), { state: 'revoked' })
      t.same(await swept(other, { concurrency: 1 }), { handled: 4, failed: 0 })
    }
    return effect()
  }
  t.same(await swept(r, { concurrency: 1 }), { handled: 1, failed: 0 })
  t.equal(actions(w).filter(action => action === 'DeleteUser').length, 6, 'each once')
  t.ok((await rows(w)).every(({ dueAt }) => dueAt === null))
})

t.test('what fails again and again does not keep a pass from its end', async t => {
  const w = await world(t)
  for (let i = 0; i < 4; i++) await give(w, `job-${i}`, { window: { durationSeconds: 3600 } })
  w.clock.advance(3_600_000)
  // Each is due again before the last one is done.
  w.iam.faults.on({ action: 'DeleteUser' }, { kind: 'run', before: () => w.clock.advance(8_000) })
  w.iam.faults.on({ action: 'DeleteUser' }, { kind: 'error', code: 'AccessDenied' })
  t.same(await swept(w.healthy, { concurrency: 1 }), { handled: 4, failed: 0 })
})

t.test('what the ledger gave too late is left: another operation may hold it', async t => {
  const w = await world(t)
  const first = await give(w, 'job')
  await died(w, 'CreateAccessKey', r => rotate(r.deps, owner, first.grant.id, 60))
  w.clock.advance(leaseMs)
  const r = await w.replica()
  let later: Delivery | undefined
  r.intercept = async (call, effect) => {
    const answer = await effect()
    if (call !== 'claimDue' || later) return answer
    w.clock.advance(leaseMs)
    later = await rotate(w.healthy.deps, owner, first.grant.id, 60)
    return answer
  }
  t.same(await swept(r), { handled: 1, failed: 0 }, 'when it is claimed again')
  t.ok(await identityOf(w, later?.credentials ?? null), 'the key that was delivered meanwhile works')
})

t.test('two replicas at once sweep each grant once', async t => {
  const w = await world(t)
  for (let i = 0; i < 20; i++) await give(w, `job-${i}`, { window: { durationSeconds: 3600 } })
  w.clock.advance(3_600_000)
  const [a, b] = await Promise.all([swept(await w.replica()), swept(await w.replica())])
  t.equal(a.handled + b.handled, 20)
  t.equal(actions(w).filter(action => action === 'DeleteUser').length, 20)
  t.same(await disorder(w), [])
})

t.test('mends towards the ledger', async t => {
  const longer = { window: { durationSeconds: 20_000 } }
  const job = { id: 'job', team: 'nlp' }
  const cases: Array<[name: string, call: string, act: (r: Replica, id: string) => Promise<unknown>]> = [
    ['a rotation that died with its key', 'CreateAccessKey', ({ deps }, id) => rotate(deps, owner, id, 60)],
    ['an extension that died before its answer', 'PutUserPolicy', ({ deps }, id) => extend(deps, owner, id, longer)],
    ['a redelivery that died with its key', 'CreateAccessKey', r => issue(r.deps, owner, orderOf(jobRequest({ job, attempt: '2' })))],
    ['a change in place that died with its key', 'CreateAccessKey',
      r => issue(r.deps, owner, orderOf(jobRequest({ job, attempt: '2', ...longer })))]
  ]
  for (const [name, call, act] of cases) {
    const w = await world(t)
    const given = await give(w, 'job')
    await died(w, call, r => act(r, given.grant.id))
    t.same(await swept(w.healthy), { handled: 0, failed: 0 }, `${name}: not while it may be at work`)
    t.same(await w.pass(leaseMs), { handled: 1, failed: 0 }, name)
    t.same(await disorder(w), [], name)
    await w.pass(settleMs)
    const stored = await w.store.get(given.grant.id)
    t.match(stored, { state: 'active', dyingKeys: [], dueAt: stored?.expiresAt, claimedUntil: null, attempts: 0 }, name)
    if (stored?.accessKeyId) await whole(t, w, { ...given, grant: stored })
  }
})

t.test('a live grant whose user somebody deleted ends, when that can be believed', async t => {
  for (const missingUser of ['NoSuchEntity', 'AccessDenied'] as const) {
    const w = await world(t, { missingUser })
    const { grant, credentials } = await give(w, 'job')
    await rotate(w.healthy.deps, owner, grant.id, 60)
    const UserName = grant.principal.name
    await byHand(w, async client => {
      for (const { id } of w.iam.state.keys) await client.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId: id }))
      await client.send(new DeleteUserPolicyCommand({ UserName, PolicyName: 'job-access' }))
      await client.send(new DeleteUserCommand({ UserName }))
    })
    await extend(w.healthy.deps, owner, grant.id, { window: { durationSeconds: 20_000 } }).catch(() => {})
    await w.pass(100_000)
    t.match(await w.store.get(grant.id), { state: 'active', attempts: 1 }, missingUser)
    for (const seconds of [100, 100, 200]) await w.pass(seconds * 1000)
    t.match(await w.store.get(grant.id), { state: 'revoked', ending: 'revoked' }, missingUser)
    t.ok(credentials)
  }
})

t.test('a bounded rate and a bounded number at once', async t => {
  // A clock of the test's own: on a busy machine two timers fire late, and so together.
  mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  t.teardown(() => mock.timers.reset())
  const started: number[] = []
  let running = 0
  let most = 0
  const all = paced(Array.from({ length: 7 }, (_, i) => i), { concurrency: 3, perSecond: 50 }, async () => {
    started.push(Date.now())
    most = Math.max(most, ++running)
    await new Promise(resolve => setTimeout(resolve, 100))
    running--
  }, { ...systemClock, now: () => Date.now() })
  for (let ms = 0; ms < 400; ms++) {
    mock.timers.tick(1)
    await setImmediate()
  }
  await all
  t.equal(most, 3)
  const [first = Infinity] = started
  t.ok(first <= 2, 'the first at once')
  t.strictSame(started.map(at => at - first), [0, 20, 40, 100, 120, 140, 200], '20 ms between two starts')
})

t.test('what was begun ends before an error is told', async t => {
  const slow = Promise.withResolvers<void>()
  const items = async function * () {
    yield 'slow'
    yield 'other'
    throw new Error('the ledger is down')
  }
  const done: string[] = []
  const all = paced(items(), { concurrency: 4, perSecond: Infinity }, async item => {
    if (item === 'slow') await slow.promise
    done.push(item)
  })
  const early = await Promise.race([all.catch(() => 'early'), setImmediate('not yet')])
  slow.resolve()
  await t.rejects(all, { message: 'the ledger is down' })
  t.strictSame([early, done], ['not yet', ['other', 'slow']])
  await t.rejects(paced(['a', 'b'], { concurrency: 1, perSecond: Infinity }, async item => { throw new Error(item) }), { message: 'a' })
})

t.test('periodic runs one after another, goes on after a failure, and stops when what is under way has ended', async t => {
  let runs = 0
  const errors: unknown[] = []
  const third = Promise.withResolvers<void>()
  const finish = Promise.withResolvers<void>()
  const clock = periodic(1, async stop => {
    runs++
    if (runs === 1) throw new Error('first')
    if (runs < 3) return
    third.resolve()
    await finish.promise
    t.ok(stop.aborted)
  }, error => errors.push(error))
  await third.promise
  const stopped = clock.stop()
  finish.resolve()
  await stopped
  t.equal(runs, 3)
  t.match(errors, [{ message: 'first' }])
  const idle = periodic(1_000_000, async () => { runs++ }, () => {})
  await idle.stop()
  t.equal(runs, 3)
})
