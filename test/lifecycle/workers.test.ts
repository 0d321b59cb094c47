import fc from 'fast-check'
import t from 'tap'
import type { Grant } from '../../src/domain/grant.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import type { GrantDeps } from '../../src/lifecycle/deps.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue, type Issued } from '../../src/lifecycle/issue.ts'
import { endWorker, join, workerOf } from '../../src/lifecycle/join.ts'
import { fetchCredentials, rotate } from '../../src/lifecycle/rotate.ts'
import { prove } from '../../src/policy/prove/prove.ts'
import { ProblemError } from '../../src/problems.ts'
import type { GrantRequest, JoinRequest } from '../../src/request.ts'
import { inForce } from '../harness.ts'
import { disorder, noSecret, whole } from './order.ts'
import {
  actions, at, deadlineMs, identityOf, jobRequest, leaseMs, never, orderOf, owner, reconciled, refusalOf, role, rows, startOfTime, swept,
  world, type Replica, type World
} from './world.ts'

const { sourceIps: _, ...sourceless } = jobRequest()

const open = async ({ healthy }: World, request: Partial<GrantRequest> = {}): Promise<Grant> =>
  (await issue(healthy.deps, owner, orderOf({ ...sourceless, workers: { max: 8 }, ...request }))).grant

const address = (n: number) => `203.0.113.${n + 1}`
const joinAs = (r: Replica, job: Grant, n: number, request: Partial<JoinRequest> = {}): Promise<Issued> =>
  join(r.deps, owner, job.id, { name: `w-${n}`, sourceIps: [address(n)], ...request })

const codeOf = async (work: Promise<unknown>): Promise<unknown> => {
  const error = await refusalOf(work)
  return error instanceof ProblemError ? error.code : error
}

const sourceOf = (grant: Grant | undefined) => grant?.spec.source.kind === 'ip' ? grant.spec.source.cidrs : grant?.spec.source

t.test('a job of workers has no principal, and costs no IAM call', async t => {
  const w = await world(t)
  const { grant, credentials, created } = await issue(w.healthy.deps, owner, orderOf({ ...sourceless, workers: { max: 8 } }))
  t.match(grant, { state: 'active', maxWorkers: 8, accessKeyId: null, mintedAt: null, deliveredAt: null, dueAt: grant.expiresAt })
  t.same([credentials, created, actions(w)], [null, true, []])
  const again = await issue(w.healthy.deps, owner, orderOf({ ...sourceless, workers: { max: 8 } }))
  t.match(again, { created: false, credentials: null, grant: { id: grant.id } }, 'asked again, it is there')
  t.match(await end(w.healthy.deps, owner, grant.id, 'completed'), { state: 'revoked', idempotencyKey: null })
  t.same(actions(w), [])
})

t.test('what is about one key is refused in its request', async t => {
  const w = await world(t)
  const refused: Array<[Partial<GrantRequest>, string]> = [
    [{ sourceIps: ['203.0.113.1'] }, '/sourceIps'],
    [{ vpc: { vpcIds: ['vpc-0123456789abcdef0'] } }, '/vpc'],
    [{ issueAt: at(startOfTime + 60_000) }, '/issueAt'],
    [{ waitUntilReady: true }, '/waitUntilReady'],
    [{ format: 'env' }, '/format']
  ]
  for (const [request, pointer] of refused) {
    t.match(await refusalOf(open(w, request)), { code: 'workers-unfit', init: { pointer } }, pointer)
  }
  t.same(await rows(w), [])
})

t.test('workers that ask at once get a key each, from their own source alone', async t => {
  const w = await world(t, { profiles: { default: role } })
  for (const attach of ['inline', 'managed', 'session'] as const) {
    const job = await open(w, { attach, job: { id: `job-${attach}`, team: 'nlp' }, workers: { max: 32 } })
    const seen = w.iam.calls.length
    const replicas = [w.healthy, await w.replica()]
    const joined = await Promise.all(Array.from({ length: 32 }, (_, n) => joinAs(replicas[n % 2] ?? w.healthy, job, n)))
    const perWorker = { inline: 3, managed: 4, session: 1 }[attach]
    t.equal(actions(w, seen).length, 32 * perWorker, `${attach}: IAM calls do not grow with the others`)
    t.equal(new Set(joined.map(({ credentials }) => credentials?.accessKeyId)).size, 32)
    for (const [n, { grant, credentials }] of joined.entries()) {
      await whole(t, w, { grant, credentials })
      t.match(grant, { parentId: job.id, worker: `w-${n}`, owner: job.owner, expiresAt: job.expiresAt })
      t.same(sourceOf(grant), [`${address(n)}/32`])
      t.ok(prove(grant.policy, { ...job.spec, source: { kind: 'ip', cidrs: [`${address(n)}/32`] } }).ok, 'the job’s access, from there')
    }
    t.same(await disorder(w), [])
    await end(w.healthy.deps, owner, job.id, 'completed')
  }
  t.equal(w.iam.state.userCount, 0)
  await noSecret(t, w)
})

t.test('a name that has a key', async t => {
  const cases: Array<[name: string, first: Partial<JoinRequest>, second: Partial<JoinRequest>, expected: 'fresh' | string]> = [
    ['nothing said', {}, {}, 'key-delivered'],
    ['nothing said, from elsewhere', {}, { sourceIps: ['203.0.113.99'] }, 'key-delivered'],
    ['nothing said, after an attempt', { attempt: '0' }, {}, 'key-delivered'],
    ['the same attempt: a retry', { attempt: '0' }, { attempt: '0' }, 'fresh'],
    ['the same attempt, from elsewhere', { attempt: '0' }, { attempt: '0', sourceIps: ['203.0.113.99'] }, 'fresh'],
    ['another attempt', { attempt: '0' }, { attempt: '1' }, 'fresh'],
    ['another attempt, from elsewhere', { attempt: '0' }, { attempt: '1', sourceIps: ['203.0.113.99'] }, 'fresh'],
    ['an attempt after none', {}, { attempt: '1' }, 'fresh'],
    ['replaced', {}, { replace: true }, 'fresh']
  ]
  for (const [name, first, second, expected] of cases) {
    const w = await world(t)
    const job = await open(w)
    const before = await joinAs(w.healthy, job, 0, first)
    const neighbour = await joinAs(w.healthy, job, 1)
    const answer = await joinAs(w.healthy, job, 0, second).catch((error: ProblemError) => error)
    if (answer instanceof ProblemError) {
      t.equal(answer.code, expected, name)
      t.match(answer.init.hint, /attempt.*replace/, 'it says what to send')
      await whole(t, w, before)
    } else {
      t.equal(expected, 'fresh', name)
      t.match(answer, { created: false, grant: { id: before.grant.id, attempt: second.attempt ?? null } }, name)
      await whole(t, w, answer)
      t.equal(await identityOf(w, before.credentials), undefined, `${name}: the key before is dead`)
      t.same(sourceOf(answer.grant), [`${second.sourceIps?.[0] ?? address(0)}/32`], `${name}: from the source of this start`)
    }
    await whole(t, w, neighbour)
    t.same(await disorder(w), [], name)
  }
})

t.test('an attempt that was followed by another one does not come back', async t => {
  const w = await world(t)
  const job = await open(w)
  await joinAs(w.healthy, job, 0, { attempt: 'a' })
  const second = await joinAs(w.healthy, job, 0, { attempt: 'b' })
  t.match(await refusalOf(joinAs(w.healthy, job, 0, { attempt: 'a' })),
    { code: 'key-delivered', init: { detail: /came after attempt "a".*: attempt "b"/ } })
  await whole(t, w, second)
  const replaced = await joinAs(w.healthy, job, 0, { replace: true })
  t.equal(replaced.grant.attempt, null, 'who replaced it without an attempt has none')
  t.equal(await codeOf(joinAs(w.healthy, job, 0, { attempt: 'b' })), 'key-delivered')
  t.match(await joinAs(w.healthy, job, 0, { attempt: 'c' }), { grant: { attempt: 'c' } })
})

t.test('an attempt that never had the key may come back, one that had it may not', async t => {
  const w = await world(t)
  const job = await open(w)
  await joinAs(w.healthy, job, 0, { attempt: 'a' })
  const failing = await w.replica()
  failing.intercept = (call, effect) => call === 'update delivered' ? Promise.reject(new Error('down')) : effect()
  await refusalOf(joinAs(failing, job, 0, { attempt: 'b' }))
  await w.pass(leaseMs + 1)
  await whole(t, w, await joinAs(w.healthy, job, 0, { attempt: 'a' }))
  const second = await joinAs(w.healthy, job, 0, { attempt: 'b' })
  await whole(t, w, second)
  t.equal(await codeOf(joinAs(w.healthy, job, 0, { attempt: 'a' })), 'key-delivered')

  const single = (attempt: string, idempotencyKey?: string) =>
    issue(w.healthy.deps, owner, orderOf(jobRequest({ job: { id: 'single', team: 'nlp' }, attempt }), idempotencyKey))
  await single('0', 'k')
  const next = await single('1', 'k')
  t.equal(await codeOf(single('0', 'k')), 'key-delivered', 'whatever the Idempotency-Key says')
  await whole(t, w, next)
})

t.test('a worker that the longer window has not reached is neither expired nor anybody’s', async t => {
  const w = await world(t)
  const job = await open(w)
  const first = await joinAs(w.healthy, job, 0)
  w.clock.advance(10_790_000)
  w.iam.faults.on({ action: 'PutUserPolicy' }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
  await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
  await w.pass(15_000)
  t.match(await w.store.get(first.grant.id), { state: 'active' }, 'past its own end, within its job’s')
  t.equal(await codeOf(joinAs(w.healthy, job, 0)), 'key-delivered', 'its name gives nobody its key')
  w.iam.faults.clear()
  // Worker and job may be due in the same pass: the job of a worker that is held then comes again, and the worker later.
  for (let passes = 0; passes < 40; passes++) await w.pass(5_000)
  t.match(await w.store.get(first.grant.id), { state: 'active', expiresAt: startOfTime + 20_000_000 })
  await whole(t, w, first)
  t.same(await disorder(w), [])
})

t.test('in layout guide the policy says nothing of what is only read: window and source are compared', async t => {
  const w = await world(t)
  const reads = { layout: 'guide' as const, datasets: [{ bucket: 'acmeco-datasets' }] }
  const { output, baseModels, ...rest } = sourceless
  const { grant: job } = await issue(w.healthy.deps, owner, orderOf({ ...rest, ...reads, workers: { max: 8 } }))
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    if (call === 'begin') await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
    return effect()
  }
  t.equal(await codeOf(joinAs(r, job, 0)), 'grant-state', 'the job was changed meanwhile')
  await joinAs(w.healthy, job, 0, { attempt: 'a' })
  t.same(sourceOf((await joinAs(w.healthy, job, 0, { attempt: 'b', sourceIps: ['203.0.113.9'] })).grant), ['203.0.113.9/32'])
})

t.test('a job that cannot be audited does not stand, nor does its window', async t => {
  const w = await world(t)
  const unaudited = (event: string) => async () => {
    const r = await w.replica()
    r.intercept = (call, effect) => call === `record ${event}` ? Promise.reject(new Error('audit')) : effect()
    return r
  }
  const opening = await unaudited('active')()
  await refusalOf(issue(opening.deps, owner, orderOf({ ...sourceless, workers: { max: 8 } })))
  t.match(await rows(w), [{ state: 'failed', idempotencyKey: null }])
  const job = await open(w)
  const { grant: worker } = await joinAs(w.healthy, job, 0)
  const extending = await unaudited('extending')()
  await refusalOf(extend(extending.deps, owner, job.id, { window: { durationSeconds: 20_000 } }))
  await w.pass(leaseMs + 1)
  t.match(await w.store.get(job.id), { state: 'active', expiresAt: job.expiresAt, dueAt: job.expiresAt })
  t.match(await w.store.get(worker.id), { expiresAt: job.expiresAt })
})

t.test('a job whose issue died is opened by the retry', async t => {
  const w = await world(t)
  const dying = await w.replica()
  dying.intercept = (call, effect) => {
    if (call !== 'update active') return effect()
    dying.die()
    return new Promise(() => {})
  }
  const order = orderOf({ ...sourceless, workers: { max: 8 } })
  await Promise.race([issue(dying.deps, owner, order), dying.died])
  w.clock.advance(leaseMs + 1)
  const longer = orderOf({ ...sourceless, workers: { max: 8 }, window: { notAfter: '2025-07-16T05:00:00Z' } })
  const { grant: job } = await issue(w.healthy.deps, owner, longer)
  t.equal(job.state, 'active')
  t.equal(job.spec.window.notAfter, '2025-07-16T05:00:00Z', 'in the window that is asked for now')
  await whole(t, w, await joinAs(w.healthy, job, 0))
})

t.test('no key for a worker of a job that is ending, and one that restarts in the grace gets its key', async t => {
  const w = await world(t)
  const job = await open(w, { window: { durationSeconds: 3_600, outputGraceSeconds: 600 } })
  const { grant } = await joinAs(w.healthy, job, 0)
  w.clock.advance(3_700_000)
  await whole(t, w, await joinAs(w.healthy, job, 0, { replace: true }))
  await w.store.claim(grant.id, w.clock.now, w.clock.now + 1_000)
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoking' })
  w.clock.advance(2_000)
  t.equal(await codeOf(rotate(w.healthy.deps, owner, grant.id, 0)), 'grant-state')
})

t.test('a role that is not in the configuration any more gives no session of another one', async t => {
  const other = { ...role, name: 'x', roleArn: 'arn:aws:iam::000000000000:role/other' }
  const w = await world(t, { profiles: { default: role, x: other } })
  const { grant: job } = await issue(w.healthy.deps, owner, orderOf({ ...sourceless, attach: 'session', profile: 'x', workers: { max: 8 } }))
  const without = { ...w.healthy.deps, deployment: { ...w.healthy.deps.deployment, profiles: { default: role } } }
  t.equal(await codeOf(join(without, owner, job.id, { name: 'w', sourceIps: ['203.0.113.1'] })), 'session-unfit')
})

t.test('no request ends the key of another worker, whatever is asked in whatever order', async t => {
  const request = fc.record({
    n: fc.nat(2),
    attempt: fc.option(fc.constantFrom('0', '1'), { nil: undefined }),
    replace: fc.boolean(),
    from: fc.nat(4),
    what: fc.constantFrom('join', 'join', 'join', 'end')
  })
  await fc.assert(fc.asyncProperty(fc.array(request, { minLength: 2, maxLength: 8 }), async asked => {
    const w = await world(t)
    const job = await open(w)
    const held = new Map<number, Issued>()
    const used = new Map<number, Set<string>>()
    for (const { n, attempt, replace, from, what } of asked) {
      const others = [...held].filter(([m]) => m !== n)
      if (what === 'end' && held.has(n)) {
        await endWorker(w.healthy.deps, owner, job.id, `w-${n}`)
        held.delete(n)
        used.delete(n)
      } else if (what === 'join') {
        const answer = await joinAs(w.healthy, job, n, { sourceIps: [address(from)], replace, ...(attempt !== undefined && { attempt }) })
          .catch((error: ProblemError) => error)
        const now = held.get(n)?.grant.attempt ?? null
        const goesOn = attempt !== undefined && (attempt === now || !used.get(n)?.has(attempt))
        const may = !held.has(n) || replace || goesOn
        if (may !== !(answer instanceof ProblemError)) throw new Error(`join as w-${n}: ${String(answer)}`)
        if (!(answer instanceof ProblemError)) held.set(n, answer)
        if (may && attempt !== undefined) used.set(n, new Set([...used.get(n) ?? [], attempt]))
      }
      for (const [m, { credentials }] of others) {
        if (!await identityOf(w, credentials)) throw new Error(`the key of w-${m} ended when w-${n} asked`)
      }
    }
    for (const [m, { credentials }] of held) if (!await identityOf(w, credentials)) throw new Error(`w-${m} has lost its key`)
    const wrong = await disorder(w)
    if (wrong.length > 0) throw new Error(wrong.join('; '))
  }), { numRuns: 15 })
})

t.test('as many as the job may have, and one who ends makes room', async t => {
  const w = await world(t)
  const job = await open(w, { workers: { max: 2 } })
  const results = await Promise.allSettled(Array.from({ length: 6 }, (_, n) => joinAs(w.healthy, job, n)))
  const codes = results.map(result => result.status === 'rejected' ? (result.reason as ProblemError).code : 'joined')
  t.same(codes.sort(), ['joined', 'joined', 'workers-full', 'workers-full', 'workers-full', 'workers-full'])
  const [first] = await w.store.workersOf(job.id)
  t.match(await endWorker(w.healthy.deps, owner, job.id, first?.worker ?? ''), { state: 'revoked' })
  t.match(await endWorker(w.healthy.deps, owner, job.id, first?.worker ?? ''), { state: 'revoked' }, 'twice')
  await whole(t, w, await joinAs(w.healthy, job, 7))
  t.equal(await codeOf(endWorker(w.healthy.deps, owner, job.id, 'nobody')), 'worker-unknown')
})

t.test('an end that is meant for one attempt ends no other', async t => {
  const w = await world(t)
  const job = await open(w)
  const { deps } = w.healthy
  const first = await joinAs(w.healthy, job, 0, { attempt: '1' })
  t.match(await refusalOf(endWorker(deps, owner, job.id, 'w-0', '0')), { code: 'worker-replaced', message: /Attempt "0" of worker w-0 does not have its key: attempt "1" has its key/ })
  // Between the look at the worker and the commit of its end, another start joins.
  let second: Issued | undefined
  const late: GrantDeps = {
    ...deps,
    ledger: {
      ...deps.ledger,
      update: async (...args) => {
        second ??= await joinAs(w.healthy, job, 0, { attempt: '2' })
        return deps.ledger.update(...args)
      }
    }
  }
  t.match(await refusalOf(endWorker(late, owner, job.id, 'w-0', '1')), { code: 'worker-replaced', message: /attempt "2" has its key/ })
  t.ok(second && await identityOf(w, second.credentials), 'the later start has its key')
  t.notOk(await identityOf(w, first.credentials))
  t.match(await endWorker(deps, owner, job.id, 'w-0', '2'), { state: 'revoked' })
  t.match(await endWorker(deps, owner, job.id, 'w-0', '2'), { state: 'revoked' }, 'twice')
  t.match(await endWorker(deps, owner, job.id, 'w-0', '1'), { state: 'revoked' }, 'nothing is left to end')
  const third = await joinAs(w.healthy, job, 0)
  t.match(await refusalOf(endWorker(deps, owner, job.id, 'w-0', '2')), { code: 'worker-replaced', message: /a start without an attempt has its key/ })
  t.ok(await identityOf(w, third.credentials))
  t.match(await endWorker(deps, owner, job.id, 'w-0'), { state: 'revoked' }, 'whichever it is')
  t.same(await disorder(w), [])
})

t.test('a worker that has ended counts while its session cannot be revoked, and who is refused reads until when', async t => {
  const w = await world(t, { profiles: { default: { ...role, revocable: false, maxSessionSeconds: 3_600 } } })
  const job = await open(w, { attach: 'session', workers: { max: 2 } })
  await joinAs(w.healthy, job, 0)
  await joinAs(w.healthy, job, 1)
  t.match(await refusalOf(joinAs(w.healthy, job, 2)), { code: 'workers-full', message: /2 workers, its limit\.$/, init: { hint: /End a worker/ } })
  t.match(await endWorker(w.healthy.deps, owner, job.id, 'w-0'), { state: 'revoking' })
  t.match(await refusalOf(joinAs(w.healthy, job, 2)), {
    code: 'workers-full',
    message: /its limit\. 1 of them has ended, with a role session that cannot be revoked: .* the first at 2025-07-16T01:30:00Z\./,
    init: { hint: /End a worker/, retryAfterSeconds: undefined }
  })
  t.match(await endWorker(w.healthy.deps, owner, job.id, 'w-1'), { state: 'revoking' })
  t.match(await refusalOf(joinAs(w.healthy, job, 0)), { message: / 2 of them have ended, /, init: { hint: /when there is room/ } }, 'its own name, too')
  w.clock.advance(3_600_000)
  await swept(w.healthy)
  await whole(t, w, await joinAs(w.healthy, job, 2))
})

t.test('a worker that is being ended counts, and there is room soon', async t => {
  const w = await world(t)
  const job = await open(w, { workers: { max: 1 } })
  await joinAs(w.healthy, job, 0)
  w.iam.faults.on({ action: 'DeleteUser' }, { kind: 'error', code: 'AccessDenied' })
  t.match(await endWorker(w.healthy.deps, owner, job.id, 'w-0'), { state: 'revoking' })
  t.match(await refusalOf(joinAs(w.healthy, job, 1)), { code: 'workers-full', message: / 1 of them is being ended\./, init: { retryAfterSeconds: 5 } })
})

t.test('what a worker can send when its policy is too large is said, and works', async t => {
  const w = await world(t)
  const job = await open(w)
  const few = await joinAs(w.healthy, job, 0, { attempt: '0' })
  t.equal(few.grant.attach, 'inline')
  const many = { attempt: '1', sourceIps: Array.from({ length: 40 }, (_, n) => `198.51.${100 + n}.7`) }
  t.match(await refusalOf(joinAs(w.healthy, job, 0, many)), {
    code: 'policy-too-large', init: { hint: /^The policy of a worker that has a key stays attached as inline\. End the worker, and join again: .* as managed/ }
  })
  t.ok(await identityOf(w, few.credentials), 'its key works on')
  await endWorker(w.healthy.deps, owner, job.id, 'w-0')
  t.match(await joinAs(w.healthy, job, 0, many), { grant: { attach: 'managed' } })
  const inline = await open(w, { job: { id: 'inline', team: 'nlp' }, attach: 'inline' })
  t.match(await refusalOf(joinAs(w.healthy, inline, 0, many)), {
    code: 'policy-too-large', init: { hint: /^Send fewer source CIDRs\. Or change the request of the job: .*`managed`/ }
  })
})

t.test('a worker whose window is over before its job’s longer one reaches it is not ended, and its history says so', async t => {
  const w = await world(t)
  const job = await open(w, { window: { durationSeconds: 600 } })
  const { grant, credentials } = await joinAs(w.healthy, job, 0)
  w.clock.advance(590_000)
  await w.store.claim(grant.id, w.clock.now, w.clock.now + 20_000)
  await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
  t.match((await w.store.events(job.id)).at(-1), { action: 'workers-left' })
  await w.store.claim(job.id, w.clock.now, w.clock.now + leaseMs)
  await w.pass(25_000)
  t.match((await w.store.events(grant.id)).at(-1), { action: 'behind-job' })
  for (let passes = 0; passes < 20; passes++) await w.pass(5_000)
  t.match(await w.store.get(grant.id), { state: 'active', expiresAt: startOfTime + 20_000_000, claimedUntil: null })
  t.ok(await identityOf(w, credentials))
})

t.test('where the provider cannot tell whose a key is, a worker cannot wait for it, and nothing is made', async t => {
  const w = await world(t)
  const job = await open(w)
  const deps = { ...w.healthy.deps, deployment: { ...w.healthy.deps.deployment, dialect: dialects.ceph } }
  t.match(await refusalOf(join(deps, owner, job.id, { name: 'w', sourceIps: ['203.0.113.1'], waitUntilReady: true })),
    { code: 'dialect-unfit', init: { pointer: '/waitUntilReady' } })
  t.same(await w.store.workersOf(job.id), [])
})

t.test('workers count against the ceilings of outstanding grants', async t => {
  const w = await world(t)
  const small = await w.replica({ outstanding: { perOwner: 3, total: 3 } })
  const job = await open(w)
  await joinAs(small, job, 0)
  await joinAs(small, job, 1)
  t.equal(await codeOf(joinAs(small, job, 2)), 'too-many-grants')
})

t.test('grants and workers with a managed policy have a ceiling of their own', async t => {
  const w = await world(t)
  const small = { ...w.healthy, deps: { ...w.healthy.deps, outstanding: { perOwner: 99, total: 99, managed: 1 } } }
  // In layout guide each worker has a policy of its own; elsewhere they share the one of their job.
  const job = await open(w, { attach: 'managed', layout: 'guide' })
  await joinAs(small, job, 0)
  t.match(await refusalOf(joinAs(small, job, 1)), {
    code: 'too-many-managed-policies',
    status: 429,
    message: /has 1 outstanding grants with a managed policy, its limit\.$/,
    init: { hint: /^Use attach `inline` or `auto`: this policy fits\./, retryAfterSeconds: 60 }
  })
  const auto = await open(w, { job: { id: 'auto', team: 'nlp' } })
  const many = { sourceIps: Array.from({ length: 40 }, (_, n) => `198.51.${100 + n}.7`) }
  t.match(await refusalOf(joinAs(small, auto, 0, many)), {
    code: 'too-many-managed-policies', message: /`auto` chose it: the policy has [0-9]+ characters, and an inline one at most 2048\./, init: { hint: /fits inline/ }
  })
  t.match(await joinAs(small, auto, 0), { grant: { attach: 'inline' } })
  t.match(await refusalOf(issue(small.deps, owner, orderOf(jobRequest({ job: { id: 'single', team: 'nlp' }, attach: 'managed' })))),
    { code: 'too-many-managed-policies' })
  const shared = (id: string) => issue(small.deps, owner, orderOf({ ...sourceless, job: { id, team: 'nlp' }, attach: 'managed', workers: { max: 8 } }))
  t.equal(await codeOf(shared('a')), 'too-many-managed-policies')
  await endWorker(w.healthy.deps, owner, job.id, 'w-0')
  const { grant: first } = await shared('a')
  for (const n of [0, 1, 2]) await whole(t, w, await joinAs(small, first, n))
  t.equal(await codeOf(shared('b')), 'too-many-managed-policies', 'a job counts once, whatever the number of its workers')
  await end(small.deps, owner, first.id, 'completed')
  await whole(t, w, await joinAs(small, job, 1))
})

t.test('the window of the job reaches every worker', async t => {
  const w = await world(t, { profiles: { default: role } })
  const job = await open(w)
  const joined = await Promise.all([0, 1, 2].map(n => joinAs(w.healthy, job, n)))
  for (const durationSeconds of [20_000, 600]) {
    const seen = w.iam.calls.length
    const changed = await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds } })
    t.same(actions(w, seen), ['PutUserPolicy', 'PutUserPolicy', 'PutUserPolicy'])
    t.match(changed, { expiresAt: startOfTime + durationSeconds * 1000, dueAt: changed.expiresAt, claimedUntil: null })
    for (const { grant } of joined) t.match(await w.store.get(grant.id), { expiresAt: changed.expiresAt, dueAt: changed.expiresAt })
    t.same(await disorder(w), [])
  }
  for (const { credentials } of joined) t.ok(await identityOf(w, credentials), 'no key was replaced')
  t.match(await joinAs(w.healthy, job, 4), { grant: { expiresAt: startOfTime + 600_000 } }, 'and who joins now has it too')
  t.match(await refusalOf(extend(w.healthy.deps, owner, job.id, { sourceIps: ['203.0.113.9'] })),
    { code: 'workers-unfit', init: { pointer: '/sourceIps' } })
  const [{ grant }] = joined as [Issued, ...Issued[]]
  t.match(await refusalOf(extend(w.healthy.deps, owner, grant.id, { window: { durationSeconds: 60 } })),
    { code: 'workers-unfit', init: { pointer: '/window' } }, 'a worker’s window is its job’s')
  t.match(await refusalOf(extend(w.healthy.deps, owner, grant.id, { sourceIps: ['203.0.113.9'] })),
    { code: 'workers-unfit', init: { pointer: '/sourceIps' } })
})

t.test('a worker that could not be reached gets the window from the sweeper', async t => {
  const w = await world(t)
  const job = await open(w)
  const joined = await Promise.all([0, 1].map(n => joinAs(w.healthy, job, n)))
  const busy = joined[0]?.grant.id ?? ''
  await w.store.claim(busy, w.clock.now, w.clock.now + leaseMs)
  const changed = await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
  t.ok(changed.dueAt !== null && changed.dueAt < changed.expiresAt, 'the job is due')
  t.match((await w.store.events(job.id)).at(-1), { action: 'workers-left', detail: { workers: '1' } })
  t.not((await w.store.get(busy))?.expiresAt, changed.expiresAt)
  await w.pass(leaseMs + 1)
  t.match(await w.store.get(busy), { expiresAt: changed.expiresAt })
  t.match(await w.store.get(job.id), { dueAt: changed.expiresAt, attempts: 0 })
  t.same(await disorder(w), [])
  for (const { credentials } of joined) t.ok(await identityOf(w, credentials))
})

t.test('the end of the job is the end of every worker', async t => {
  for (const how of ['completed', 'expired'] as const) {
    const w = await world(t)
    const job = await open(w)
    const joined = await Promise.all([0, 1, 2].map(n => joinAs(w.healthy, job, n)))
    const busy = joined[0]?.grant.id ?? ''
    if (how === 'completed') {
      await w.store.claim(busy, w.clock.now, w.clock.now + leaseMs)
      t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoking' }, 'one was busy')
      t.equal(w.iam.state.userCount, 1)
      t.equal(await codeOf(joinAs(w.healthy, job, 5)), 'grant-state', 'nobody joins any more')
      await w.pass(leaseMs + 1)
    } else {
      await w.pass(10_800_000)
    }
    await w.pass(leaseMs)
    const ending = how === 'completed' ? 'revoked' : 'expired'
    t.same((await rows(w)).map(({ state }) => state), [ending, ending, ending, ending], how)
    t.match(await w.store.get(job.id), { idempotencyKey: null, dueAt: null })
    t.equal(w.iam.state.userCount, 0)
    for (const { credentials } of joined) t.equal(await identityOf(w, credentials), undefined)
    t.same(await disorder(w), [])
  }
})

t.test('who joins while the job is changed or ended is told so, and leaves nothing', async t => {
  const meanwhile: Array<[string, (w: World, job: Grant) => Promise<unknown>]> = [
    ['changed', (w, job) => extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })],
    ['ended', (w, job) => end(w.healthy.deps, owner, job.id, 'completed')]
  ]
  for (const [name, act] of meanwhile) {
    const w = await world(t)
    const job = await open(w)
    const r = await w.replica()
    r.intercept = async (call, effect) => {
      if (call === 'begin') await act(w, job)
      return effect()
    }
    t.match(await refusalOf(joinAs(r, job, 0)), { code: 'grant-state', init: { retryAfterSeconds: 1 } }, name)
    t.equal(w.iam.state.userCount, 0)
    t.same(await w.store.workersOf(job.id), [])
    r.intercept = null
    if (name === 'changed') t.match(await joinAs(r, job, 0), { grant: { expiresAt: startOfTime + 20_000_000 } })
    else t.equal(await codeOf(joinAs(r, job, 0)), 'grant-state')
  }
})

t.test('who joins again while the job is changed or ended does not undo it', async t => {
  const meanwhile: Array<[string, (w: World, job: Grant, worker: Grant) => Promise<unknown>]> = [
    ['changed', (w, job) => extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })],
    ['ended, and this worker not reached yet', async (w, job, worker) => {
      await w.store.claim(worker.id, w.clock.now, w.clock.now + 1)
      await end(w.healthy.deps, owner, job.id, 'completed')
      w.clock.advance(2)
    }]
  ]
  for (const [name, act] of meanwhile) {
    const w = await world(t)
    const job = await open(w)
    const before = await joinAs(w.healthy, job, 0, { attempt: '0' })
    const r = await w.replica()
    r.intercept = async (call, effect) => {
      if (call === 'begin') await act(w, job, before.grant)
      return effect()
    }
    t.match(await refusalOf(joinAs(r, job, 0, { attempt: '1', sourceIps: ['203.0.113.77'] })),
      { code: 'grant-state', init: { retryAfterSeconds: 1 } }, name)
    t.ok(await identityOf(w, before.credentials), 'its key is left')
    const [worker] = await w.store.workersOf(job.id)
    t.equal(worker?.expiresAt, (await w.store.get(job.id))?.expiresAt, 'with the window of the job')
  }
})

t.test('a job has no key to rotate or fetch, and one with a key has no workers', async t => {
  const w = await world(t)
  const job = await open(w)
  t.equal(await codeOf(rotate(w.healthy.deps, owner, job.id, 0)), 'grant-state')
  t.equal(await codeOf(fetchCredentials(w.healthy.deps, owner, job.id)), 'grant-state')
  const { grant } = await issue(w.healthy.deps, owner, orderOf(jobRequest({ job: { id: 'single', team: 'nlp' } })))
  t.equal(await codeOf(joinAs(w.healthy, grant, 0)), 'grant-state')
  t.same(await reconciled(w.healthy), { seen: 1, findings: [], failed: 0 }, 'a job without a principal is not lost')
  t.same(await swept(w.healthy), { handled: 0, failed: 0 })
})

t.test('the source of a worker: as stated, or as observed, under every ceiling', async t => {
  const w = await world(t)
  const job = await open(w)
  const observed = (ip: string, change: Partial<JoinRequest> = {}) =>
    join(w.healthy.deps, { ...owner, ip }, job.id, { name: 'pod', source: 'observed', replace: true, ...change })
  t.same(sourceOf((await observed('203.0.113.50')).grant), ['203.0.113.50/32'])
  t.same(sourceOf((await observed('::ffff:203.0.113.51')).grant), ['203.0.113.51/32'])
  t.same(sourceOf((await observed('2001:db8:42::1')).grant), ['2001:db8:42::1/128'])
  t.match(await refusalOf(observed('10.0.0.7')), { code: 'ip-private', init: { pointer: '/source' } })
  t.match(await refusalOf(observed('203.0.113.50', { sourceIps: ['203.0.113.51'] })), { code: 'source-ambiguous', init: { pointer: '/sourceIps' } })
  t.match(await refusalOf(join(w.healthy.deps, owner, job.id, { name: 'pod' })), { code: 'source-missing' }, 'none is no source')
  t.match(await refusalOf(joinAs(w.healthy, job, 0, { sourceIps: ['0.0.0.0/1'] })), { code: 'ip-too-wide', init: { pointer: '/sourceIps/0' } })
  const alone = await issue(w.healthy.deps, { ...owner, ip: '203.0.113.60' },
    orderOf({ ...sourceless, job: { id: 'single', team: 'nlp' }, source: 'observed' }))
  t.same(sourceOf(alone.grant), ['203.0.113.60/32'], 'a job with one process, too')
})

t.test('the launcher may issue, the pods may only join, each as itself', async t => {
  const w = await world(t)
  const rules = inForce(`
    @id("launcher") permit (principal, action, resource) when { principal has namespace && principal.namespace == "launcher" };
    @id("pods-join") permit (principal, action == JobAccess::Action::"join", resource)
      when { principal has worker && context has worker && context.worker == principal.worker };
    @id("pods-read") permit (principal, action == JobAccess::Action::"read", resource is JobAccess::Access);
    @id("pods-write") permit (principal, action == JobAccess::Action::"write", resource is JobAccess::Access)
      when { context has source && context.source.isInRange(ip("203.0.113.0/24")) };
    @id("pods-look") permit (principal, action in [JobAccess::Action::"view", JobAccess::Action::"rotate"], resource)
      when { principal has worker && context has worker && context.worker == principal.worker };`)
  const deps = { ...w.healthy.deps, guardrails: rules }
  const launcher = { ...owner, id: 'oidc:cluster#launcher', attributes: { namespace: 'launcher' } }
  const pod = (name: string) => ({ ...owner, id: `oidc:cluster#${name}`, teams: ['nlp'], attributes: { worker: name } })
  const { grant: job } = await issue(deps, launcher, orderOf({ ...sourceless, workers: { max: 8 } }))
  const asked = (name: string, ip = '203.0.113.5') => ({ name, sourceIps: [ip] })
  t.equal(await codeOf(issue(deps, pod('w-0'), orderOf({ ...sourceless, workers: { max: 8 } }))), 'forbidden')
  const mine = await join(deps, pod('w-0'), job.id, asked('w-0'))
  t.match(mine, { created: true, grant: { owner: launcher.id, worker: 'w-0' } })
  t.match(await refusalOf(join(deps, pod('w-1'), job.id, asked('w-0'))), { code: 'forbidden', init: { pointer: '/name' } })
  t.equal(await codeOf(join(deps, pod('w-1'), job.id, asked('w-1', '198.51.100.5'))), 'forbidden', 'entries are decided with the source')
  t.match(await workerOf(deps, pod('w-0'), job.id, 'w-0', 'view'), { worker: 'w-0' })
  t.equal(await codeOf(workerOf(deps, pod('w-1'), job.id, 'w-0', 'view')), 'forbidden')
  t.equal(await codeOf(rotate(w.healthy.deps, pod('w-1'), mine.grant.id, 0)), 'forbidden', 'whatever the guardrails say')
  t.equal(await codeOf(join(w.healthy.deps, pod('w-1'), job.id, { ...asked('w-0'), replace: true })), 'forbidden')
  t.equal(await codeOf(end(deps, pod('w-0'), job.id, 'completed')), 'forbidden')
  await whole(t, w, mine)
  t.equal(await codeOf(join(deps, { ...pod('w-0'), teams: ['vision'] }, job.id, asked('w-0'))), 'grant-unknown')
})

t.test('the end of a job, asked for again, reaches a worker whose next try is due', async t => {
  const w = await world(t)
  const job = await open(w)
  await joinAs(w.healthy, job, 0)
  w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoking' })
  w.iam.faults.clear()
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoking' }, 'its next try is not due')
  w.clock.advance(60_000)
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoked' })
})

t.test('the name of a job is not free while the key of one of its workers may live', async t => {
  const w = await world(t)
  const job = await open(w)
  const [gone, living] = [await joinAs(w.healthy, job, 0), await joinAs(w.healthy, job, 1)]
  const user = ({ grant }: Issued) => ({ UserName: grant.principal.name })
  w.iam.faults.on({ action: 'DeleteUser', params: user(gone) }, { kind: 'error', code: 'NoSuchEntity' })
  w.iam.faults.on({ action: 'DeleteAccessKey', params: user(living) }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoking', idempotencyKey: job.idempotencyKey })
  t.match(await w.store.get(gone.grant.id), { idempotencyKey: null }, 'of this one no key is left')
})

t.test('a worker that somebody else is ending is given back', async t => {
  const w = await world(t)
  const job = await open(w)
  const { grant } = await joinAs(w.healthy, job, 0)
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    if (call === 'claim') {
      w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
      await endWorker(w.healthy.deps, owner, job.id, 'w-0')
      w.iam.faults.clear()
    }
    return effect()
  }
  t.match(await end(r.deps, owner, job.id, 'completed'), { state: 'revoking' })
  t.match(await w.store.get(grant.id), { state: 'revoking', claimedUntil: null })
})

t.test('workers that are not begun before the deadline are left to the next try, which comes soon after one that reached some', async t => {
  const w = await world(t)
  const job = await open(w)
  for (const n of [0, 1, 2, 3]) await joinAs(w.healthy, job, n)
  const r = await w.replica()
  let claims = 0
  let ofJob = 0
  r.intercept = async (call, effect) => {
    if (call === 'claim' && ++claims === ofJob + 1) w.clock.advance(deadlineMs)
    return effect()
  }
  for (const left of [3, 2, 1]) {
    t.match(await end(r.deps, owner, job.id, 'completed'), { state: 'revoking', dueAt: w.clock.now + 5_000 })
    t.equal((await w.store.workersOf(job.id)).length, left)
    claims = 0
    // From now on the first claim is that of the job.
    ofJob = 1
  }
  await w.pass(60_000)
  t.same(await w.store.workersOf(job.id), [])
})

t.test('neither the next change of a job nor its end waits for tries of before, and no try waits past the lease of a worker', async t => {
  const w = await world(t)
  const job = await open(w)
  const { grant, credentials } = await joinAs(w.healthy, job, 0)
  const held = () => w.store.claim(grant.id, w.clock.now, w.clock.now + leaseMs)
  await held()
  await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
  for (const waits of [10_000, 20_000, 40_000, leaseMs, leaseMs, leaseMs]) {
    w.clock.advance(leaseMs)
    await held()
    await swept(w.healthy)
    t.equal((await w.store.get(job.id))?.dueAt, w.clock.now + waits)
  }
  t.equal((await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 21_000 } })).dueAt, w.clock.now + 5_000)
  for (let tries = 0; tries < 6; tries++) {
    w.clock.advance(leaseMs)
    await held()
    await swept(w.healthy)
  }
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoking', dueAt: w.clock.now + 5_000 })
  t.ok(await identityOf(w, credentials), 'an operation holds the worker')
  await w.pass(leaseMs)
  t.equal(await identityOf(w, credentials), undefined)
})

t.test('a teardown that fails again and again does not make the tries of its job more', async t => {
  const w = await world(t)
  const job = await open(w)
  for (const n of [0, 1, 2]) await joinAs(w.healthy, job, n)
  w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
  await end(w.healthy.deps, owner, job.id, 'completed')
  for (let passes = 0; passes < 60; passes++) await w.pass(5_000)
  const tries = (await w.store.events(job.id)).filter(({ action }) => action === 'workers-left')
  t.match(tries.map(({ detail }) => detail.attempt), ['1', '2', '3', '4', '5', '6'], 'in five minutes')
  w.iam.faults.clear()
  for (let passes = 0; passes < 120; passes++) await w.pass(5_000)
  t.same((await rows(w)).map(({ state }) => state), ['revoked', 'revoked', 'revoked', 'revoked'])
})

t.test('where the ends of some workers fail, the others are not kept waiting', async t => {
  const w = await world(t)
  const job = await open(w, { workers: { max: 20 } })
  for (let n = 0; n < 20; n++) await joinAs(w.healthy, job, n)
  w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
  const r = await w.replica()
  const begun = async (claimed: number) => {
    let claims = 0
    r.intercept = async (call, effect) => {
      if (call === 'claim' && ++claims === claimed) w.clock.advance(deadlineMs)
      return effect()
    }
    await end(r.deps, owner, job.id, 'completed')
    return (await w.store.workersOf(job.id)).filter(({ state }) => state === 'revoking').length
  }
  t.equal(await begun(16), 16, 'the others not before the deadline')
  w.clock.advance(60_000)
  t.equal(await begun(17), 20, 'the claims of the job and of 16 workers')
})

t.test('a worker that an operation holds is not reached, whatever its window says', async t => {
  const w = await world(t)
  const job = await open(w)
  const { grant } = await joinAs(w.healthy, job, 0)
  const held = await w.store.claim(grant.id, w.clock.now, w.clock.now + leaseMs)
  const changed = await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
  const event = { actor: 'test', requestId: null, action: 'extending', policyHash: null, detail: {} } as const
  await w.store.update(held ?? grant, { spec: { ...grant.spec, window: changed.spec.window } }, event, w.clock.now)
  await w.pass(10_000)
  t.match((await w.store.events(job.id)).at(-1), { action: 'workers-left' }, 'that operation may still put it back')
  await w.pass(leaseMs)
  t.match(await w.store.get(job.id), { dueAt: changed.expiresAt })
  t.same(await disorder(w), [])
})

t.test('a worker whose issue died is given back by a change of its job', async t => {
  const w = await world(t)
  const job = await open(w)
  const r = await w.replica()
  r.intercept = (call, effect) => {
    if (call !== 'update active') return effect()
    r.die()
    return never()
  }
  await Promise.race([joinAs(r, job, 0), r.died])
  w.clock.advance(leaseMs + 1)
  await extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 20_000 } })
  t.match(await w.store.workersOf(job.id), [{ state: 'pending', claimedUntil: null }])
})

t.test('a job is not given less than a session of one of its workers still allows', async t => {
  const w = await world(t, { profiles: { default: role } })
  const job = await open(w, { attach: 'session' })
  await joinAs(w.healthy, job, 0)
  t.equal(await codeOf(extend(w.healthy.deps, owner, job.id, { window: { durationSeconds: 600 } })), 'session-unfit')
  t.match(await w.store.get(job.id), { expiresAt: job.expiresAt, claimedUntil: null })
})

t.test('of a name with several grants the one that lives is meant, whatever the ids say', async t => {
  const w = await world(t)
  const job = await open(w)
  await joinAs(w.healthy, job, 0)
  await endWorker(w.healthy.deps, owner, job.id, 'w-0')
  const behind = { ...w.healthy, deps: { ...w.healthy.deps, newId: () => `01j${'0'.repeat(23)}` } }
  const { grant } = await joinAs(behind, job, 0)
  t.match(await workerOf(w.healthy.deps, owner, job.id, 'w-0', 'view'), { id: grant.id, state: 'active' }, 'a clock was behind')
})

t.test('the guardrails hear how many workers a job may have when it is changed, too', async t => {
  const w = await world(t)
  const job = await open(w)
  const guardrails = inForce(`@id("all") permit (principal, action, resource);
    @id("few") forbid (principal, action == JobAccess::Action::"extend", resource) when { context has workers && context.workers > 4 };`)
  const change = { window: { durationSeconds: 20_000 } }
  t.equal(await codeOf(extend({ ...w.healthy.deps, guardrails }, owner, job.id, change)), 'forbidden')
})
