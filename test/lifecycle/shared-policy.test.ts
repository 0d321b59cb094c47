import t from 'tap'
import type { Grant } from '../../src/domain/grant.ts'
import type { PolicyDocument, Statement } from '../../src/domain/policy-document.ts'
import { grantView } from '../../src/http/delivery.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue, type Issued } from '../../src/lifecycle/issue.ts'
import { endWorker, join } from '../../src/lifecycle/join.ts'
import { measure } from '../../src/policy/measure.ts'
import { prove } from '../../src/policy/prove/prove.ts'
import type { GrantRequest, JoinRequest } from '../../src/request.ts'
import { disorder, watchSources, whole } from './order.ts'
import {
  actions, identityOf, jobRequest, leaseMs, orderOf, owner, reconciled, refusalOf, startOfTime, world, type Replica, type World
} from './world.ts'

const { sourceIps: _, ...sourceless } = jobRequest()

const orderFor = (request: Partial<GrantRequest> = {}) => orderOf({ ...sourceless, attach: 'managed', workers: { max: 100 }, ...request })
const open = async ({ healthy }: World, request: Partial<GrantRequest> = {}): Promise<Grant> =>
  (await issue(healthy.deps, owner, orderFor(request))).grant

const joinAs = (r: Replica, job: Grant, n: number, request: Partial<JoinRequest> = {}): Promise<Issued> =>
  join(r.deps, owner, job.id, { name: `w-${n}`, sourceIps: [`203.0.113.${n}`], ...request })

const joinMany = (w: World, job: Grant, count: number) =>
  Promise.all(Array.from({ length: count }, (_, n) => joinAs(w.healthy, job, n)))

const lengthen = (w: World, job: Grant, durationSeconds: number) => extend(w.healthy.deps, owner, job.id, { window: { durationSeconds } })

/** What the provider has for a user, all policies together. */
const inForce = ({ iam }: World, { principal }: Grant): PolicyDocument => {
  const user = iam.state.user(principal.name)
  const texts = [
    ...iam.state.policies.filter(({ attachedTo }) => attachedTo.includes(principal.name)).map(({ versions, defaultVersion }) =>
      versions[defaultVersion]),
    ...Object.values(user?.inline ?? {})
  ]
  return { Version: '2012-10-17', Statement: texts.flatMap(text => (JSON.parse(text ?? '') as { Statement: Statement[] }).Statement) }
}

t.test('a change of the window takes as many calls for 64 workers as for 4', async t => {
  const ofFive: string[][] = []
  for (const count of [4, 64]) {
    const w = await world(t)
    const job = await open(w)
    t.same(actions(w), ['CreatePolicy'], 'to issue: one call')
    const seen = w.iam.calls.length
    const joined = await joinMany(w, job, count)
    t.equal(actions(w, seen).length, 4 * count, 'to join: four')
    t.equal(w.iam.state.policies.length, 1, 'one managed policy, of a quota of 1,500')
    const calls: string[] = []
    for (let hours = 4; hours <= 8; hours++) {
      const before = w.iam.calls.length
      const changed = await lengthen(w, job, hours * 3600)
      t.match(changed, { expiresAt: startOfTime + hours * 3_600_000, dueAt: changed.expiresAt, claimedUntil: null }, 'nothing is left to do')
      calls.push(actions(w, before).join(' '))
    }
    ofFive.push(calls)
    for (const { grant, credentials } of joined) {
      const stored = await w.store.get(grant.id) as Grant
      t.equal(stored.expiresAt, startOfTime + 8 * 3_600_000)
      await whole(t, w, { grant: stored, credentials })
      const proof = prove(inForce(w, stored), stored.spec)
      t.ok(proof.ok, 'what is in force is the job’s access, in the new window, from this worker’s source alone')
    }
    t.same(await disorder(w), [])
  }
  const deletions = Array.from({ length: 4 }, () => 'DeletePolicyVersion')
  const cleared = ['CreatePolicyVersion', 'ListPolicyVersions', ...deletions, 'CreatePolicyVersion'].join(' ')
  const one = 'CreatePolicyVersion'
  t.same(ofFive, [[one, one, one, one, cleared], [one, one, one, one, cleared]])
})

t.test('while only the ledger is behind, the policy is not changed once more', async t => {
  const w = await world(t)
  const job = await open(w)
  const [held] = await joinMany(w, job, 2)
  await w.store.claim(held?.grant.id ?? '', w.clock.now, w.clock.now + leaseMs)
  const seen = w.iam.calls.length
  t.match(await lengthen(w, job, 20_000), { attempts: 1 }, 'a worker is left')
  for (let tries = 0; tries < 3; tries++) await w.pass(10_000)
  t.equal(actions(w, seen).filter(action => action === 'CreatePolicyVersion').length, 1, 'a policy has five versions, and the account a rate')
  // Somebody changed it meanwhile.
  await w.ask.createPolicyVersion(job.principal.policyArn ?? '', JSON.stringify(job.policy), Infinity)
  await w.pass(leaseMs)
  await w.pass(leaseMs)
  t.match((await w.store.get(job.id)), { attempts: 0, expiresAt: startOfTime + 20_000_000 })
  t.same(await disorder(w), [])
})

t.test('each worker is bound to its source at all times', async t => {
  const w = await world(t)
  const sources = watchSources(w)
  const job = await open(w)
  const first = await joinAs(w.healthy, job, 1, { attempt: '0' })
  t.match(first.grant, { attach: 'inline', principal: { policyArn: job.principal.policyArn }, spec: { shared: true, attach: 'managed' } })
  const { grant, credentials } = await joinAs(w.healthy, job, 1, { attempt: '1', sourceIps: ['203.0.113.99'] })
  await whole(t, w, { grant, credentials })
  t.ok(prove(inForce(w, grant), { ...job.spec, source: { kind: 'ip', cidrs: ['203.0.113.99/32'] } }).ok)
  t.same([job, grant].map(each => grantView(each).user.policyArn), [job.principal.policyArn, job.principal.policyArn], 'a caller sees it')
  t.match(grantView(grant), { attach: 'inline', policy: { Statement: [...job.policy.Statement, { Sid: 'DenyOtherSources' }] } })
  await joinAs(w.healthy, job, 2)
  const seen = w.iam.calls.length
  await endWorker(w.healthy.deps, owner, job.id, 'w-1')
  t.same(actions(w, seen), ['DeleteAccessKey', 'DetachUserPolicy', 'DeleteUserPolicy', 'DeleteUser'], 'what allows goes before what denies')
  t.same(await disorder(w), [])
  const before = w.iam.calls.length
  t.match(await end(w.healthy.deps, owner, job.id, 'completed'), { state: 'revoked' })
  t.equal(actions(w, before).at(-1), 'DeletePolicy', 'the shared policy is the last to go')
  t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
  t.same(sources.unbound(), [])
})

t.test('join is two calls deep', async t => {
  const w = await world(t)
  const job = await open(w)
  const seen: string[] = []
  const release = Promise.withResolvers<undefined>()
  const waiting = ['PutUserPolicy', 'AttachUserPolicy', 'CreateAccessKey']
  w.iam.faults.on({ action: waiting }, {
    kind: 'run',
    before: async ({ action }) => {
      seen.push(action)
      if (seen.length === waiting.length) release.resolve(undefined)
      await release.promise
    }
  })
  await whole(t, w, await joinAs(w.healthy, job, 0))
  t.same(seen.sort(), waiting.sort(), 'after CreateUser all are under way at once')
})

t.test('a key is not delivered when any of the three calls fails', async t => {
  for (const action of ['PutUserPolicy', 'AttachUserPolicy', 'CreateAccessKey']) {
    const w = await world(t)
    const job = await open(w)
    w.iam.faults.on({ action }, { kind: 'error', code: 'MalformedPolicyDocument' })
    t.match(await refusalOf(joinAs(w.healthy, job, 0)), { code: 'iam-refused' }, action)
    t.same([w.iam.state.userCount, w.iam.state.policies.length], [0, 1], 'nothing but the policy of the job is left')
  }
})

t.test('what a worker is said to have is what the job has, also when an earlier release rendered it otherwise', async t => {
  const w = await world(t)
  const job = await open(w)
  const policy = { ...job.policy, Statement: job.policy.Statement.toReversed() }
  const policyHash = measure(policy).sha256
  await w.store.update(job, { policy, policyHash }, { actor: 'test', requestId: null, action: 'extended', policyHash, detail: {} }, w.clock.now)
  await w.ask.createPolicyVersion(job.principal.policyArn ?? '', JSON.stringify(policy), Infinity)
  await whole(t, w, await joinAs(w.healthy, job, 0))
  t.same(await disorder(w), [])
})

t.test('the end of a worker that was never made leaves the policy to those who come', async t => {
  const w = await world(t)
  const job = await open(w)
  w.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'ServiceUnavailable' })
  await refusalOf(joinAs(w.healthy, job, 0))
  w.iam.faults.clear()
  // Past the time after which an unknown user is believed to be none.
  for (let minutes = 0; minutes < 12; minutes++) await w.pass(60_000)
  t.same(await w.store.workersOf(job.id), [])
  await whole(t, w, await joinAs(w.healthy, job, 1))
  t.same(await disorder(w), [])
})

t.test('who joins while the policy is being changed gets the window of the job', async t => {
  for (const moment of ['before', 'after'] as const) {
    const w = await world(t)
    const job = await open(w)
    await joinAs(w.healthy, job, 0)
    const during: Issued[] = []
    w.iam.faults.on({ action: 'CreatePolicyVersion' }, {
      kind: 'run', [moment]: async () => { during.push(await joinAs(w.healthy, await w.store.get(job.id) as Grant, 1)) }
    })
    const changed = await lengthen(w, job, 20_000)
    for (const { grant, credentials } of during) {
      const stored = await w.store.get(grant.id) as Grant
      t.equal(stored.expiresAt, changed.expiresAt)
      await whole(t, w, { grant: stored, credentials })
      t.ok(prove(inForce(w, stored), stored.spec).ok, moment)
    }
    t.equal(during.length, 1)
    t.same(await disorder(w), [])
  }
})

t.test('a change that the provider does not take comes later', async t => {
  const w = await world(t)
  const job = await open(w)
  const worker = await joinAs(w.healthy, job, 0)
  w.iam.faults.on({ action: 'CreatePolicyVersion' }, { kind: 'error', code: 'AccessDenied' })
  const changed = await lengthen(w, job, 20_000)
  t.ok(changed.dueAt !== null && changed.dueAt < changed.expiresAt, 'the job is due')
  t.match((await w.store.events(job.id)).at(-1), { action: 'attempt-failed', detail: { operation: 'CreatePolicyVersion' } })
  t.equal((await w.store.get(worker.grant.id))?.expiresAt, job.expiresAt, 'the worker is not said to have it')
  w.iam.faults.clear()
  await w.pass(60_000)
  t.match(await w.store.get(worker.grant.id), { expiresAt: changed.expiresAt })
  t.match(await w.store.get(job.id), { dueAt: changed.expiresAt, attempts: 0 })
  t.same(await disorder(w), [])
})

t.test('an older window that comes late does not stay', async t => {
  const w = await world(t)
  const job = await open(w)
  await joinAs(w.healthy, job, 0)
  const stalled = await w.replica()
  w.iam.faults.on({ action: 'CreatePolicyVersion', nth: 1 }, {
    kind: 'run',
    before: async () => {
      w.clock.advance(leaseMs + 1)
      await w.pass(0)
      await lengthen(w, job, 30_000)
    }
  })
  await refusalOf(extend(stalled.deps, owner, job.id, { window: { durationSeconds: 20_000 } }))
  t.not((await disorder(w)).length, 0, 'the older one is in force for now')
  await w.pass(5_000)
  t.match(await w.store.get(job.id), { state: 'active', dyingKeys: [] })
  t.same(await disorder(w), [])
})

t.test('reconciliation leaves the policy of a living job alone, and removes it afterwards', async t => {
  const w = await world(t)
  const job = await open(w)
  await lengthen(w, job, 50_000)
  w.clock.advance(40_000_000)
  t.match(await reconciled(w.healthy), { findings: [], failed: 0 }, 'before anybody joins, and long after the end that its path states')
  const { credentials } = await joinAs(w.healthy, job, 0)
  t.match(await reconciled(w.healthy), { findings: [], failed: 0 })
  t.ok(await identityOf(w, credentials))

  // The job is completed, and a call whose answer was lost makes the policy once more.
  const policy = w.iam.state.policies[0]
  await end(w.healthy.deps, owner, job.id, 'completed')
  const { name, path } = job.principal
  await w.ask.createPolicy({ name, path, document: policy?.versions[policy.defaultVersion] ?? '' }, Infinity)
  t.match(await reconciled(w.healthy), { findings: [{ kind: 'stray', name, done: true }], failed: 0 })
  t.same(w.iam.state.policies, [])
})

t.test('a lost database: users and policy stay until the end that the policy states', async t => {
  const w = await world(t)
  const job = await open(w)
  const { grant, credentials } = await joinAs(w.healthy, job, 0)
  await joinAs(w.healthy, job, 1)
  await lengthen(w, job, 20_000)
  const empty = await world(t, { on: w.iam })
  const graceMs = 3_600_000
  empty.clock.now = startOfTime + 20_000_000 + graceMs - 1
  t.match(await reconciled(empty.healthy), { findings: [], failed: 0 })
  t.ok(await identityOf(w, credentials))
  empty.clock.advance(1)
  const found = await reconciled(empty.healthy)
  t.equal(found.failed, 0)
  t.equal(found.findings.length, 3)
  t.ok(found.findings.some(finding => finding.kind === 'stray' && finding.name === job.principal.name && finding.done))
  t.ok(found.findings.some(finding => finding.kind === 'stray' && finding.name === grant.principal.name && finding.done))
  t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
})

t.test('no policy is shared unless it is asked for and can be', async t => {
  const w = await world(t)
  const cases: Array<[string, Partial<GrantRequest>, typeof dialects.aws]> = [
    ['auto', { attach: 'auto' }, dialects.aws],
    ['inline', { attach: 'inline' }, dialects.aws],
    ['the guide’s words', { layout: 'guide' }, dialects.aws],
    ['a provider that cannot change a policy', {}, { ...dialects.aws, policyVersions: false }]
  ]
  for (const [name, request, dialect] of cases) {
    const r = await w.replica()
    const deps = { ...r.deps, deployment: { ...r.deps.deployment, dialect } }
    const seen = w.iam.calls.length
    const { grant: job } = await issue(deps, owner, orderFor({ job: { id: name.replaceAll(/\W+/g, '-'), team: 'nlp' }, ...request }))
    t.match(job, { mintedAt: null, principal: { policyArn: null } }, name)
    t.same(actions(w, seen), [], name)
    const { grant } = await join(deps, owner, job.id, { name: 'w', sourceIps: ['203.0.113.1'] })
    t.equal(grant.spec.shared, undefined, name)
    t.ok(prove(inForce(w, grant), grant.spec).ok, name)
  }
  t.same(await disorder(w), [])
})

t.test('more addresses than an inline policy has room for are refused, and leave nothing', async t => {
  const w = await world(t)
  const job = await open(w)
  const sourceIps = Array.from({ length: 200 }, (_, n) => `203.0.${n}.1`)
  t.match(await refusalOf(joinAs(w.healthy, job, 0, { sourceIps })),
    { code: 'policy-too-large', init: { detail: /own policy.*at most 2048/, hint: 'Send fewer source CIDRs. Or issue the job with attach `auto`: then no policy is shared.' } })
  t.equal(w.iam.state.userCount, 0)
})

t.test('reconciliation removes the policy that a provider without versions has left under its spare name', async t => {
  const w = await world(t)
  const job = await open(w)
  await end(w.healthy.deps, owner, job.id, 'completed')
  const { name, path } = job.principal
  await w.ask.createPolicy({ name: `${name}-b`, path, document: JSON.stringify(job.policy) }, Infinity)
  t.match(await reconciled(w.healthy), { findings: [{ kind: 'stray', name, done: true }], failed: 0 })
  t.same(w.iam.state.policies, [])
})
