import t, { type Test } from 'tap'
import type { Grant } from '../../src/domain/grant.ts'
import { settleMs, type PrincipalProvisioner } from '../../src/iam/provisioner.ts'
import { dying, stillDying, targetOf, withLate } from '../../src/lifecycle/dying-keys.ts'
import { end } from '../../src/lifecycle/end.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import type { Delivery } from '../../src/lifecycle/provision.ts'
import { fetchCredentials, rotate } from '../../src/lifecycle/rotate.ts'
import type { GrantRequest } from '../../src/request.ts'
import { disorder, whole } from './order.ts'
import {
  at, identityOf, jobRequest, orderOf, owner, reconciled, refusalOf, startOfTime, swept, world, type Replica, type World
} from './world.ts'

// IAM is eventually consistent: neither "NoSuchEntity" nor a list proves anything of a young key. No key may be forgotten while it lives.

const ask = ({ deps }: Replica, request: Partial<GrantRequest> = {}): Promise<Delivery> => issue(deps, owner, orderOf(jobRequest({ attempt: '1', ...request })))

const emptyList = '<ListAccessKeysResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListAccessKeysResult><AccessKeyMetadata/>' +
  '<IsTruncated>false</IsTruncated></ListAccessKeysResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></ListAccessKeysResponse>'

/** The provider does not list any key for now. */
const hideKeys = ({ iam }: World) =>
  iam.faults.on({ action: 'ListAccessKeys' }, { kind: 'answer', status: 200, type: 'text/xml', body: emptyList })

const notKnown = ({ iam }: World, times = 1) =>
  iam.faults.on({ action: 'DeleteAccessKey', times }, { kind: 'error', code: 'NoSuchEntity' })

/** Five minutes later nothing of it is left to look at, and the answered key still works. */
const settled = async (t: Test, w: World, given: Delivery): Promise<void> => {
  for (let passed = 0; passed <= settleMs; passed += 30_000) await w.pass(30_000)
  t.match(await w.store.get(given.grant.id), { state: 'active', previousKeyId: null, dyingKeys: [], dueAt: given.grant.expiresAt })
  t.same(await disorder(w), [])
  await whole(t, w, given)
}

t.test('a rotation whose old key is not known yet: it is named until it is dead', async t => {
  const w = await world(t)
  const first = await ask(w.healthy)
  notKnown(w)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  t.match(second.grant, { previousKeyId: first.credentials?.accessKeyId, dueAt: startOfTime + 5_000 })
  t.notOk((await w.store.events(first.grant.id)).some(({ action }) => action === 'previous-key-deleted'), 'nothing false in the history')
  await w.pass(5_000)
  t.equal(await identityOf(w, first.credentials), undefined, 'deleted at the next try')
  await settled(t, w, second)
})

t.test('an old key that stays unknown is asked for until five minutes have passed, then it is dead', async t => {
  const w = await world(t)
  const first = await ask(w.healthy)
  notKnown(w, 100)
  hideKeys(w)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  await w.pass(settleMs - 1)
  t.match(await w.store.get(first.grant.id), { previousKeyId: first.credentials?.accessKeyId, state: 'active' }, 'one millisecond too early')
  w.iam.faults.clear()
  await w.pass(1)
  t.equal(await identityOf(w, first.credentials), undefined)
  await settled(t, w, second)
})

t.test('the end of an overlap, and a rotation within one', async t => {
  const w = await world(t)
  const first = await ask(w.healthy)
  await rotate(w.healthy.deps, owner, first.grant.id, 60)
  notKnown(w)
  await w.pass(60_000)
  t.match(await w.store.get(first.grant.id), { previousKeyId: first.credentials?.accessKeyId })
  await w.pass(5_000)
  t.equal(await identityOf(w, first.credentials), undefined)

  const third = await rotate(w.healthy.deps, owner, first.grant.id, 600)
  notKnown(w)
  const fourth = await rotate(w.healthy.deps, owner, first.grant.id, 0)
  await w.pass(5_000)
  t.equal(await identityOf(w, third.credentials), undefined)
  await settled(t, w, fourth)
})

t.test('a re-delivery deletes the keys that the ledger knows, listed or not', async t => {
  for (const overlapSeconds of [0, 600]) {
    const w = await world(t)
    const first = await ask(w.healthy)
    const second = overlapSeconds > 0 ? await rotate(w.healthy.deps, owner, first.grant.id, overlapSeconds) : first
    hideKeys(w)
    const again = await ask(w.healthy)
    for (const { credentials } of [first, second]) t.equal(await identityOf(w, credentials), undefined)
    w.iam.faults.clear()
    await settled(t, w, again)
  }
})

t.test('a re-delivery whose old key is not known yet', async t => {
  const w = await world(t)
  const first = await ask(w.healthy)
  hideKeys(w)
  notKnown(w)
  const again = await ask(w.healthy)
  t.match((await w.store.get(first.grant.id))?.dyingKeys, [{ id: first.credentials?.accessKeyId, since: startOfTime }])
  await w.pass(5_000)
  t.equal(await identityOf(w, first.credentials), undefined, 'known, so deleted, though it is not listed')
  w.iam.faults.clear()
  await settled(t, w, again)
})

t.test('a key that a lost call makes later', async t => {
  const operations: Array<[name: string, act: (r: Replica, id: string) => Promise<Delivery>]> = [
    ['a re-delivery', r => ask(r)], ['a rotation', ({ deps }, id) => rotate(deps, owner, id, 0)]
  ]
  for (const lateAfter of [0, 60_000, settleMs - 2_000]) {
    for (const [name, act] of operations) {
      const w = await world(t)
      const first = await ask(w.healthy)
      w.iam.faults.on({ action: 'CreateAccessKey', nth: 1 }, { kind: 'drop' })
      const given = await act(w.healthy, first.grant.id)
      await w.pass(lateAfter)
      const late = await w.ask.createAccessKey(given.grant.principal.name, Infinity)
      w.iam.faults.clear()
      await settled(t, w, given)
      t.equal(await identityOf(w, { ...late, expiresAt: null }), undefined, `${name}: it dies`)
    }
  }
  const w = await world(t)
  w.iam.faults.on({ action: 'CreateAccessKey', nth: 1 }, { kind: 'drop' })
  const issued = await ask(w.healthy)
  await w.ask.createAccessKey(issued.grant.principal.name, Infinity)
  await settled(t, w, issued)
})

t.test('a rotation that fails deletes its key by its id', async t => {
  const w = await world(t)
  const r = await w.replica()
  const first = await ask(w.healthy)
  hideKeys(w)
  r.intercept = async (call, effect) => {
    if (call === 'record rotated') throw new Error('the audit does not take it')
    return effect()
  }
  await refusalOf(rotate(r.deps, owner, first.grant.id, 0))
  t.same(w.iam.state.keys.map(({ id }) => id), [first.credentials?.accessKeyId])
  w.iam.faults.clear()
  await settled(t, w, { ...first, grant: await w.store.get(first.grant.id) ?? first.grant })
})

t.test('a scheduled grant whose key could not be delivered: it dies by its id', async t => {
  const w = await world(t)
  const issueAt = startOfTime + 600_000
  const { grant } = await ask(w.healthy, { issueAt: at(issueAt) })
  w.clock.advance(600_000)
  hideKeys(w)
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    if (call === 'record active') throw new Error('the audit does not take it')
    return effect()
  }
  await refusalOf(fetchCredentials(r.deps, owner, grant.id))
  t.same(w.iam.state.keys, [])
  w.iam.faults.clear()
  await w.pass(10_000)
  await settled(t, w, await fetchCredentials(w.healthy.deps, owner, grant.id))
})

t.test('a principal that was made again is young again', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy, { issueAt: at(startOfTime + 600_000) })
  w.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'ServiceUnavailable' })
  await w.pass(600_000)
  w.clock.advance(settleMs)
  w.iam.faults.clear()
  await swept(w.healthy)
  t.match(await w.store.get(grant.id), { state: 'active' })
  w.iam.faults.on({ action: ['DeleteUserPolicy', 'DeleteUser'], times: 2 }, { kind: 'error', code: 'NoSuchEntity' })
  t.match(await end(w.healthy.deps, owner, grant.id, 'completed'), { state: 'revoking' }, 'not believed')
  w.iam.faults.clear()
  await w.pass(5_000)
  t.same([await w.store.get(grant.id).then(grant => grant?.state), w.iam.state.userCount], ['revoked', 0])
})

t.test('reconcile removes a key that no grant knows', async t => {
  const w = await world(t)
  const first = await ask(w.healthy)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 3600)
  t.match(await reconciled(w.healthy), { findings: [] }, 'two keys that the ledger knows')
  w.clock.advance(3_600_000)
  await swept(w.healthy)
  const { name } = first.grant.principal
  const stranger = await w.ask.createAccessKey(name, Infinity)
  const finding = { kind: 'key', grantId: first.grant.id, name, accessKeyId: stranger.accessKeyId }
  t.same((await reconciled(w.healthy, { dryRun: true })).findings, [{ ...finding, done: false }])
  t.equal(w.iam.state.keyCount, 2, 'a dry run deletes nothing')
  notKnown(w)
  t.same((await reconciled(w.healthy)).findings, [{ ...finding, done: true }])
  t.equal(w.iam.state.keyCount, 2, 'not known yet')
  await w.pass(5_000)
  t.equal(await identityOf(w, { ...stranger, expiresAt: null }), undefined)
  await settled(t, w, second)
  t.match(await reconciled(w.healthy), { findings: [], failed: 0 })
})

t.test('reconcile leaves a grant alone that an operation holds', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy)
  await w.ask.createAccessKey(grant.principal.name, Infinity)
  const claimed = await w.store.claim(grant.id, w.clock.now, w.clock.now + 1_000)
  t.match(await reconciled(w.healthy), { findings: [], failed: 0 })
  t.match(await w.store.get(grant.id), { version: claimed?.version })
  t.equal(w.iam.state.keyCount, 2)
})

t.test('reconcile leaves the keys of a grant alone whose end began meanwhile', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy)
  await w.ask.createAccessKey(grant.principal.name, Infinity)
  const r = await w.replica()
  r.intercept = async (call, effect) => {
    if (call === 'claim') {
      w.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
      await end(w.healthy.deps, owner, grant.id, 'completed')
      w.iam.faults.clear()
    }
    return effect()
  }
  t.match(await reconciled(r), { findings: { length: 0 }, failed: 0 })
  t.match(await w.store.get(grant.id), { state: 'revoking', attempts: 1, claimedUntil: null })
})

t.test('reconcile keeps both keys of an overlap, at a provider where a user may have three', async t => {
  const w = await world(t)
  const first = await ask(w.healthy)
  const second = await rotate(w.healthy.deps, owner, first.grant.id, 600)
  const known = [second, first].map(({ credentials }) => credentials?.accessKeyId)
  const { provisioners } = w.healthy.deps
  const kept: string[][] = []
  const three: PrincipalProvisioner = {
    ...provisioners.inline,
    keys: async () => [...known, 'AKIAUNKNOWN'] as string[],
    async pruneKeys (_ref, { keep, known }) {
      kept.push(keep)
      return known
    }
  }
  const deps = { ...w.healthy.deps, provisioners: { ...provisioners, inline: three, managed: three } }
  t.match(await reconciled({ ...w.healthy, deps }), { findings: [{ kind: 'key', accessKeyId: 'AKIAUNKNOWN', done: true }] })
  t.same(kept, [known])
})

t.test('reconcile removes at once what a late call made for a grant that has ended', async t => {
  const w = await world(t)
  const { grant } = await ask(w.healthy)
  await end(w.healthy.deps, owner, grant.id, 'completed')
  const { name, path } = grant.principal
  await w.ask.createUser({ name, path, tags: {} }, Infinity)
  await w.ask.createAccessKey(name, Infinity)
  t.match(await reconciled(w.healthy), { findings: [{ kind: 'stray', name, done: true }] })
  t.equal(w.iam.state.userCount, 0)
})

t.test('an answer that is none of IAM’s does not say that nothing was made', async t => {
  const html = { type: 'text/html', body: '<html><body>Sorry</body></html>' }
  const answers = [
    { status: 200, type: 'text/xml', body: '<CreateUserResponse><CreateUserRes' }, { status: 302, ...html }, { status: 400, ...html },
    { status: 400, type: 'text/plain', body: 'Bad Request' }, { status: 403, ...html }, { status: 404, ...html }
  ]
  for (const answer of answers) {
    const w = await world(t)
    w.iam.faults.on({ action: 'CreateUser' }, { kind: 'answerAfter', ...answer })
    t.match(await refusalOf(ask(w.healthy)), { code: 'iam-unavailable' }, `${answer.status} ${answer.type}`)
    w.iam.faults.clear()
    for (const ms of [46_000, 60_000, 60_000, 60_000, 60_000, 60_000, 120_000]) await w.pass(ms)
    t.same([w.iam.state.userCount, await disorder(w)], [0, []])

    const again = await ask(w.healthy)
    w.iam.faults.on({ action: 'DeleteUser', times: 1 }, { kind: 'answer', ...answer })
    await end(w.healthy.deps, owner, again.grant.id, 'completed')
    await w.pass(10_000)
    t.equal(w.iam.state.userCount, 0, 'and not that something is gone')
  }
})

t.test('which keys may still live, and when to look again', async t => {
  const since = startOfTime
  const looks = [[0, 5_000], [5_000, 10_000], [20_000, 40_000], [200_000, settleMs], [settleMs - 1, settleMs]] as const
  for (const [passed, lookAfter] of looks) {
    t.same(stillDying(dying(['A'], since), [], since + passed), [{ id: 'A', since, askAt: since + lookAfter }], `after ${passed} ms`)
  }
  t.same(stillDying(dying(['A', null], since), [], since + settleMs), [], 'five minutes are enough')
  t.match(stillDying(dying(['A', 'B', null], since), ['A'], since), [{ id: 'B' }, { id: null }], 'a deletion says nothing of a call under way')
  const before = dying(['A', null], since)
  t.same(withLate(before, null, since + 1), dying(['A'], since).concat(dying([null], since + 1)), 'one call may be under way, not two')
  t.same(withLate(before, 'B', since + 1), dying(['A'], since).concat(dying(['B', null], since + 1)))
})

t.test('a teardown looks for keys that the ledger does not know, where there may be any', async t => {
  const grant = { attach: 'inline', accessKeyId: 'A', previousKeyId: null, dyingKeys: [], mintedAt: 0 } as unknown as Grant
  for (const [what, change, others] of [
    ['its key is known', {}, false],
    ['a known one is to die', { dyingKeys: dying(['B'], 0) }, false],
    ['a call may still make one', { dyingKeys: dying(['B', null], 0) }, true],
    ['its key is not known', { accessKeyId: null }, true]
  ] as const) t.equal(targetOf({ ...grant, ...change }).others, others, what)
})
