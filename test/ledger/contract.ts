import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Test } from 'tap'
import { transitions, type Grant, type GrantState } from '../../src/domain/grant.ts'
import {
  IllegalTransitionError, LedgerUnavailableError, SchemaTooNewError, StaleGrantError, type GrantFilter, type Ledger
} from '../../src/ledger/ledger.ts'
import { begun, event, grantIn, isEnd, moved, newGrant, start, states, unlimited } from './grants.ts'

/** A separate database, and the ways to access it. */
export interface Database {
  /** A ledger on it, as of one more replica. Closed at the end of the test. */
  open(): Promise<Ledger>
  /** Accesses the database without the ledger, as an operator would. */
  query(text: string): Promise<Array<Record<string, unknown>>>
}

/** What the ledger must do on every database. */
export async function contract (t: Test, fresh: (t: Test) => Promise<Database>): Promise<void> {
  const ledgerOf = async (t: Test) => (await fresh(t)).open()
  const test = (name: string, body: (t: Test) => Promise<void>) => t.test(name, body)

  await test('begin writes a pending grant and its first event', async (t) => {
    const ledger = await ledgerOf(t)
    const grant = newGrant({ idempotencyKey: 'k', jobId: 'wiki-finetune-42' })
    const first = event('pending', { policyHash: grant.policyHash, detail: { key: 'value', n: 1, yes: true, none: null } })
    const result = await ledger.begin(grant, first, unlimited)
    const stored = { ...grant, state: 'pending' as const, version: 1, updatedAt: grant.createdAt }
    t.strictSame(result, { outcome: 'created', grant: stored })
    t.strictSame(await ledger.get(grant.id), stored)
    t.strictSame(await ledger.events(grant.id), [{ ...first, grantId: grant.id, at: grant.createdAt }])
  })

  await test('get and events of an unknown grant', async (t) => {
    const ledger = await ledgerOf(t)
    t.equal(await ledger.get('nobody'), undefined)
    t.strictSame(await ledger.events('nobody'), [])
  })

  await test('a grant is read as it was stored, with the key order of its policy', async (t) => {
    const ledger = await ledgerOf(t)
    const word = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((text) => !text.includes('\0'))
    const instant = fc.integer({ min: 0, max: 8_640_000_000_000_000 })
    const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value)
    const record = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(fields, { noNullPrototype: true })
    const given = record({
      jobId: word,
      ending: maybe(fc.constantFrom('revoked', 'expired', 'failed')),
      endReason: maybe(fc.constantFrom('completed', 'the job has ended')),
      attach: fc.constantFrom('inline', 'managed', 'session'),
      principal: record({ name: word, path: word, policyArn: maybe(word), roleArn: maybe(word) }),
      policy: record({
        Statement: fc.array(record({
          Resource: fc.array(fc.oneof(word, fc.constantFrom('', '"', '\\', '\0', '\u2028', '\ud800', '$', '/*'))),
          Effect: fc.constantFrom('Allow', 'Deny'),
          Action: word
        })),
        Version: fc.constant('2012-10-17')
      }),
      accessKeyId: maybe(word),
      previousKeyId: maybe(word),
      previousKeyDiesAt: maybe(instant),
      dyingKeys: fc.array(record({ id: maybe(word), since: instant, askAt: instant })),
      issueAt: maybe(instant),
      mintedAt: maybe(instant),
      deliveredAt: maybe(instant),
      sessionsEndAt: maybe(instant),
      notBefore: instant,
      expiresAt: instant,
      createdAt: instant,
      dueAt: instant,
      attempts: fc.nat(),
      claimedUntil: maybe(instant)
    }) as fc.Arbitrary<Partial<Grant>>
    await fc.assert(fc.asyncProperty(given, async (given) => {
      const { id, ...rest } = newGrant(given)
      await begun(ledger, { id, ...rest })
      const { state, version, updatedAt, ...stored } = await ledger.get(id) as Grant
      assert.deepEqual(stored, { id, ...rest })
      assert.equal(JSON.stringify(stored.policy), JSON.stringify(rest.policy))

      const { owner, team, jobId, maxWorkers, parentId, worker, createdAt, ...change } = rest
      const other = await begun(ledger)
      const changed = await ledger.update(other, change, event('all'), start + 7)
      assert.deepEqual(changed, { ...other, ...change, version: 2, updatedAt: start + 7 })
      assert.deepEqual(await ledger.get(other.id), changed)
    }), { numRuns: 25 })
  })

  await test('the same owner and key: returns the existing grant and writes nothing', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    const grant = await grantIn(ledger, 'active', { idempotencyKey: 'k' })
    const before = await dump(query)
    const result = await ledger.begin(newGrant({ idempotencyKey: 'k', team: 'other', attempt: 'c' }), event('pending'), unlimited)
    t.strictSame(result, { outcome: 'existing', grant })
    const full = await ledger.begin(newGrant({ idempotencyKey: 'k' }), event('pending'), { perOwner: 0, total: 0 })
    t.equal(full.outcome, 'existing', 'a repeated request is answered even when the limit is reached')
    t.strictSame(await dump(query), before)
  })

  await test('a key of another owner, no key, or a released key: a new grant', async (t) => {
    const ledger = await ledgerOf(t)
    const first = await begun(ledger, { idempotencyKey: 'k' })
    await begun(ledger, { idempotencyKey: 'k', owner: 'token:other' })
    await begun(ledger)
    await begun(ledger)
    await ledger.update(first, { idempotencyKey: null }, event('key-freed'), start)
    const second = await begun(ledger, { idempotencyKey: 'k' })
    t.not(second.id, first.id)
  })

  await test('limits count outstanding grants, per owner and in total', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    const grant = await begun(ledger)
    await grantIn(ledger, 'active')
    await grantIn(ledger, 'revoking')
    for (const end of ['revoked', 'expired', 'failed'] as const) await grantIn(ledger, end)
    const before = await dump(query)
    const ask = (owner: string, perOwner: number, total: number) =>
      ledger.begin(newGrant({ owner }), event('pending'), { perOwner, total })
    t.strictSame(await ask('token:ci', 3, 9), { outcome: 'limited', limit: 'perOwner', outstanding: 3 })
    t.strictSame(await ask('token:ci', 4, 3), { outcome: 'limited', limit: 'total', outstanding: 3 })
    t.strictSame(await ask('token:other', 1, 3), { outcome: 'limited', limit: 'total', outstanding: 3 })
    t.strictSame(await dump(query), before, 'nothing written')
    t.equal((await ask('token:other', 1, 4)).outcome, 'created')
    t.strictSame(await ask('token:other', 1, 9), { outcome: 'limited', limit: 'perOwner', outstanding: 1 })
    await moved(ledger, grant, 'failed')
    t.equal((await ask('token:ci', 3, 9)).outcome, 'created')
  })

  await test('only legal state changes are possible', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    for (const from of states) {
      for (const to of states) {
        const grant = await grantIn(ledger, from)
        const before = await dump(query)
        if (transitions[from].includes(to)) {
          const after = await moved(ledger, grant, to)
          t.match(after, { state: to, version: grant.version + 1 }, `${from} to ${to}`)
          t.strictSame(await ledger.get(grant.id), after)
          t.match((await ledger.events(grant.id)).at(-1), { action: to, at: start + 1 })
        } else {
          await t.rejects(moved(ledger, grant, to), IllegalTransitionError, `${from} to ${to} is refused`)
          t.strictSame(await dump(query), before)
        }
      }
    }
  })

  await test('an update without a state keeps it, in every state', async (t) => {
    const ledger = await ledgerOf(t)
    for (const state of states) {
      const grant = await grantIn(ledger, state)
      const after = await ledger.update(grant, { attempts: 3 }, event('attempt-failed'), start + 5)
      t.strictSame(after, { ...grant, attempts: 3, version: grant.version + 1, updatedAt: start + 5 })
      const untouched = await ledger.update(after, {}, event('seen'), start + 6)
      t.strictSame(untouched, { ...after, version: after.version + 1, updatedAt: start + 6 })
      t.strictSame((await ledger.events(grant.id)).slice(-2).map(({ action, at }) => [action, at]),
        [['attempt-failed', start + 5], ['seen', start + 6]])
    }
  })

  await test('an update with an old version is refused', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    const grant = await begun(ledger)
    await ledger.update(grant, { attempts: 1 }, event('one'), start)
    const before = await dump(query)
    await t.rejects(ledger.update(grant, { attempts: 2 }, event('two'), start), StaleGrantError)
    await t.rejects(ledger.update({ ...grant, version: 99 }, { attempts: 2 }, event('two'), start), StaleGrantError)
    await t.rejects(ledger.update({ ...grant, id: 'nobody' }, { attempts: 2 }, event('two'), start), StaleGrantError)
    t.strictSame(await dump(query), before)
  })

  await test('a change and its event: both or neither', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    const grant = await begun(ledger)
    const before = await dump(query)
    const unwritable = { ...event('broken'), actor: null as unknown as string }
    const failure = await ledger.update(grant, { state: 'failed', dueAt: null }, unwritable, start).catch((error) => error)
    t.ok(failure instanceof Error && !(failure instanceof LedgerUnavailableError), 'a bug is not reported as unavailable')
    await t.rejects(ledger.begin(newGrant(), unwritable, unlimited))
    t.strictSame(await dump(query), before)
  })

  await test('unknown fields and undefined values are refused', async (t) => {
    const ledger = await ledgerOf(t)
    const grant = await begun(ledger)
    for (const change of [{ secret: 'x' }, { dueAt: undefined }, { __proto__: null, toString: 1 }] as object[]) {
      await t.rejects(ledger.update(grant, change, event('x'), start), TypeError)
    }
  })

  await test('an outstanding grant always has a dueAt, an ended grant never', async (t) => {
    const ledger = await ledgerOf(t)
    const refused = async (attempt: Promise<unknown>) => {
      const failure = await attempt.catch((error) => error)
      t.ok(failure instanceof Error && !(failure instanceof LedgerUnavailableError))
    }
    await refused(ledger.begin(newGrant({ dueAt: null }), event('pending'), unlimited))
    const grant = await begun(ledger)
    await refused(ledger.update(grant, { dueAt: null }, event('x'), start))
    await refused(ledger.update(grant, { state: 'failed' }, event('x'), start))
    await refused(ledger.update(await grantIn(ledger, 'revoked'), { dueAt: start }, event('x'), start))
    t.strictSame(await ledger.get(grant.id), grant)
  })

  await test('claim', async (t) => {
    const ledger = await ledgerOf(t)
    const grant = await begun(ledger)
    t.equal(await ledger.claim('nobody', start, start + 10), undefined)
    const claimed = await ledger.claim(grant.id, start, start + 10) as Grant
    t.strictSame(claimed, { ...grant, claimedUntil: start + 10, version: 2, updatedAt: start })
    t.equal(await ledger.claim(grant.id, start + 9, start + 20), undefined, 'claimed')
    await t.rejects(ledger.update(grant, {}, event('x'), start), StaleGrantError, 'the version from before the claim')
    t.match(await ledger.claim(grant.id, start + 10, start + 20), { claimedUntil: start + 20, version: 3 }, 'lapsed')
    await t.rejects(ledger.update(claimed, {}, event('x'), start), StaleGrantError, 'the version of a claim that lapsed and was replaced')
    const again = await ledger.get(grant.id) as Grant
    const released = await ledger.update(again, { claimedUntil: null }, event('done'), start)
    t.match(await ledger.claim(grant.id, start + 11, start + 20), { version: released.version + 1 }, 'released')
    t.equal((await ledger.events(grant.id)).length, 2, 'a claim is no event')
  })

  await test('a claim of a clock that was set back since lapses at once; one of a clock a little ahead does not', async (t) => {
    const ledger = await ledgerOf(t)
    const { id } = await begun(ledger)
    const lease = 45_000
    await ledger.claim(id, start + 7_200_000, start + 7_200_000 + lease)
    t.match(await ledger.claim(id, start, start + lease), { claimedUntil: start + lease }, 'two hours ahead')
    const another = await begun(ledger)
    await ledger.claim(another.id, start + 100_000, start + 100_000 + lease)
    t.equal(await ledger.claim(another.id, start, start + lease), undefined, '100 s ahead')
    const due = await begun(ledger, { dueAt: start })
    await ledger.claim(due.id, start + 7_200_000, start + 7_200_000 + lease)
    t.match((await ledger.claimDue(start, start + lease, 10)).map(({ id }) => id), [due.id], 'for the sweeper, too')
  })

  await test('claimDue claims the unclaimed due grants, oldest due first', async (t) => {
    const ledger = await ledgerOf(t)
    const [third, first, second] = await Promise.all([3, 1, 2].map((at) => begun(ledger, { dueAt: start + at })))
    await begun(ledger, { dueAt: start + 11 })
    await begun(ledger, { dueAt: start + 1, claimedUntil: start + 11 })
    const lapsed = await begun(ledger, { dueAt: start + 10, claimedUntil: start + 10 })
    for (const end of ['revoked', 'expired', 'failed'] as const) await grantIn(ledger, end, { dueAt: start + 1 })

    const one = await ledger.claimDue(start + 10, start + 50, 2)
    t.strictSame(one.map(({ id }) => id), [first?.id, second?.id])
    t.strictSame(one[0], { ...first, claimedUntil: start + 50, version: 2, updatedAt: start + 10 })
    t.strictSame(await ledger.get(first?.id ?? ''), one[0])
    const two = await ledger.claimDue(start + 10, start + 50, 9)
    t.strictSame(two.map(({ id }) => id), [third?.id, lapsed.id])
    t.strictSame(await ledger.claimDue(start + 10, start + 50, 9), [])
    t.equal((await ledger.claimDue(start + 50, start + 90, 9)).length, 6)
    for (const limit of [0, -1, 1.5, NaN]) await t.rejects(ledger.claimDue(start, start + 1, limit), RangeError)
  })

  await test('known: the names of principals of outstanding grants', async (t) => {
    const ledger = await ledgerOf(t)
    const outstanding: string[] = []
    const ended: string[] = []
    for (const state of states) {
      const { principal } = await grantIn(ledger, state)
      const names = isEnd(state) ? ended : outstanding
      names.push(principal.name)
    }
    const strangers = Array.from({ length: 2500 }, (_, index) => `stranger-${index}`)
    t.strictSame(await ledger.known([...ended, ...strangers, ...outstanding, ...outstanding]), new Set(outstanding))
    t.strictSame(await ledger.known([]), new Set())
  })

  await test('stats', async (t) => {
    const ledger = await ledgerOf(t)
    const none = { pending: 0, active: 0, revoking: 0, revoked: 0, expired: 0, failed: 0 }
    t.strictSame(await ledger.stats(start), { byState: none, oldestOverdueExpiry: null, oldestDue: null })
    for (const state of states) await grantIn(ledger, state, { expiresAt: isEnd(state) ? start + 1 : start + 100 })
    await grantIn(ledger, 'revoking', { expiresAt: start + 50, dueAt: start + 999 })
    const byState = { pending: 1, active: 1, revoking: 2, revoked: 1, expired: 1, failed: 1 }
    const overdueAt = async (now: number) => (await ledger.stats(now)).oldestOverdueExpiry
    t.strictSame((await ledger.stats(start + 49)).byState, byState)
    t.equal(await overdueAt(start + 49), null, 'an ended grant is not overdue')
    t.equal(await overdueAt(start + 50), start + 50)
    t.equal(await overdueAt(start + 500), start + 50)
  })

  await test('stats: the earliest dueAt of an unclaimed grant', async (t) => {
    const ledger = await ledgerOf(t)
    const dueAt = async (now: number) => (await ledger.stats(now)).oldestDue
    const first = await grantIn(ledger, 'active', { dueAt: start + 10, claimedUntil: null })
    await grantIn(ledger, 'active', { dueAt: start + 20, claimedUntil: null })
    await grantIn(ledger, 'expired')
    t.equal(await dueAt(start + 9), null)
    t.equal(await dueAt(start + 10), start + 10)
    await ledger.claim(first.id, start + 10, start + 100)
    t.equal(await dueAt(start + 10), null, 'it is claimed')
    t.equal(await dueAt(start + 30), start + 20)
    t.equal(await dueAt(start + 100), start + 10, 'until the claim lapses')
  })

  await test('list: every filter and page size gives the same grants as a simple filter in memory', async (t) => {
    const ledger = await ledgerOf(t)
    const all: Grant[] = []
    for (let index = 0; index < 90; index++) {
      const state = states[(index * 7) % states.length] as GrantState
      all.unshift(await grantIn(ledger, state, {
        team: `team-${index % 4}`, jobId: `job-${index % 5}`, ...(index % 3 === 0 && index > 0 && { parentId: all.at(-1)?.id ?? null })
      }))
    }
    const some = (values: readonly string[]) => fc.array(fc.constantFrom(...values, 'none-such'), { maxLength: 6 })
    const filters = fc.record({
      teams: some(['team-0', 'team-1', 'team-2', 'team-3']),
      states: fc.array(fc.constantFrom(...states), { maxLength: 7 }),
      jobId: fc.constantFrom('job-0', 'job-1', 'none-such'),
      parentId: fc.constantFrom(null, all.at(-1)?.id ?? '', 'none-such')
    }, { requiredKeys: [] }) as fc.Arbitrary<GrantFilter>
    await fc.assert(fc.asyncProperty(filters, fc.integer({ min: 1, max: 40 }), async (filter, limit) => {
      const expected = all.filter((grant) => fits(grant, filter))
      assert.deepEqual(await pages(ledger, filter, limit), expected)
    }), { numRuns: 60 })
    const manyTeams = Array.from({ length: 700 }, (_, index) => `team-${index}`)
    const twoStates = { states: ['active', 'failed'] as GrantState[] }
    for (const given of [{}, twoStates, { parentId: null }, { parentId: null, ...twoStates }]) {
      const filter = { teams: manyTeams, ...given }
      t.strictSame(await pages(ledger, filter, 13), all.filter((grant) => fits(grant, filter)))
    }
    for (const limit of [0, -1, 1.5, NaN]) await t.rejects(ledger.list({}, { limit }), RangeError)
  })

  await test('list: pages neither repeat nor miss a grant while new grants are added', async (t) => {
    const ledger = await ledgerOf(t)
    const before: string[] = []
    for (let index = 0; index < 20; index++) before.unshift((await begun(ledger)).id)
    const seen: string[] = []
    let after: string | undefined
    for (;;) {
      const page = await ledger.list({ teams: ['nlp'] }, { limit: 6, ...after !== undefined && { after } })
      seen.push(...page.map(({ id }) => id))
      after = page.at(-1)?.id
      if (after === undefined) break
      await begun(ledger)
    }
    t.strictSame(seen, before)
  })

  await test('many concurrent begins with one key: exactly one grant', async (t) => {
    const { open } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const results = await Promise.all(Array.from({ length: 24 }, (_, index) =>
      replica(replicas, index).begin(newGrant({ idempotencyKey: 'k' }), event('pending'), unlimited)))
    t.equal(results.filter(({ outcome }) => outcome === 'created').length, 1)
    t.equal(results.filter(({ outcome }) => outcome === 'existing').length, 23)
    t.equal(new Set(results.map((result) => 'grant' in result && result.grant.id)).size, 1)
    t.equal((await replicas[0].list({}, { limit: 99 })).length, 1)
  })

  await test('the limit of managed policies: of grants that have one, and never exceeded, by joins neither', async (t) => {
    const { open, query } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const limits = { ...unlimited, managed: 7 }
    const job = await grantIn(replicas[0], 'active', { maxWorkers: 50, attach: 'managed', mintedAt: null })
    const results = await Promise.all(Array.from({ length: 40 }, (_, index) => replica(replicas, index).begin(newGrant({
      attach: index % 4 === 3 ? 'inline' : 'managed', ...(index % 2 === 0 && { parentId: job.id, worker: `w-${index}` })
    }), event('pending'), limits, index % 2 === 0 ? job : undefined)))
    const created = results.flatMap((result) => result.outcome === 'created' ? [result.grant] : [])
    t.equal(created.filter(({ attach }) => attach === 'inline').length, 10, 'inline ones are not refused')
    const managed = created.filter(({ attach }) => attach === 'managed')
    t.equal(managed.length, 7)
    const limited = results.filter((result) => result.outcome === 'limited')
    t.equal(limited.length, 23)
    for (const result of limited) t.strictSame(result, { outcome: 'limited', limit: 'managed', outstanding: 7 })
    await countsAreRight(t, query)
    await open()
    await countsAreRight(t, query)
    const again = () => replicas[1].begin(newGrant({ attach: 'managed' }), event('pending'), limits)
    t.match(await again(), { outcome: 'limited' })
    await moved(replicas[0], managed[0] as Grant, 'failed')
    t.match(await again(), { outcome: 'created' }, 'who has ended makes room')
    await countsAreRight(t, query)
  })

  await test('many concurrent begins reach the limit and never exceed it', async (t) => {
    const { open, query } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const begins = (owner: string, count: number) => Array.from({ length: count }, (_, index) =>
      replica(replicas, index).begin(newGrant({ owner }), event('pending'), { perOwner: 7, total: 16 }))
    const owners = ['a', 'b', 'c']
    const results = await Promise.all(owners.flatMap((owner) => begins(owner, 15)))
    const created = results.flatMap((result) => result.outcome === 'created' ? [result.grant.owner] : [])
    t.equal(created.length, 16)
    for (const owner of owners) t.ok(created.filter((name) => name === owner).length <= 7)
    t.ok(results.some((result) => result.outcome === 'limited' && result.limit === 'total'))
    await countsAreRight(t, query)
  })

  await test('workers join an active job, up to its limit, however many ask at once on however many replicas', async (t) => {
    const { open, query } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const job = await grantIn(replicas[0], 'active', { maxWorkers: 5 })
    const other = await grantIn(replicas[0], 'active', { maxWorkers: 5 })
    const joins = await Promise.all(Array.from({ length: 20 }, (_, n) => replica(replicas, n).begin(
      newGrant({ parentId: job.id, worker: `w-${n}`, idempotencyKey: `worker:${job.id}/w-${n}` }), event('pending'), unlimited, job)))
    const created = joins.flatMap((result) => result.outcome === 'created' ? [result.grant] : [])
    t.equal(created.length, 5)
    const limited = joins.filter((result) => result.outcome === 'limited' && result.limit === 'workers' && result.outstanding === 5)
    t.equal(limited.length, 15)
    const named = (grants: Grant[]) => grants.map(({ worker }) => worker).sort()
    t.same(named(await replicas[1].workersOf(job.id)), named(created))
    t.same(await replicas[1].workersOf(other.id), [])
    t.same(named(await replicas[0].list({ parentId: job.id }, { limit: 99 })), named(created))
    const byName = await replicas[0].list({ parentId: job.id, worker: created[0]?.worker ?? '' }, { limit: 9 })
    t.same(byName.map(({ id }) => id), [created[0]?.id])
    for (const filter of [{ parentId: null }, { parentId: null, teams: ['nlp'] }, { parentId: null, states: ['active' as const] }]) {
      const jobs = await replicas[0].list(filter, { limit: 99 })
      t.same(new Set(jobs.map(({ id }) => id)), new Set([job.id, other.id]), JSON.stringify(filter))
    }
    await moved(replicas[0], await moved(replicas[0], created[0] as Grant, 'revoking'), 'revoked')
    t.equal((await replicas[0].workersOf(job.id)).length, 4)
    const again = newGrant({ parentId: job.id, worker: 'w-99' })
    t.match(await replicas[0].begin(again, event('pending'), unlimited, job), { outcome: 'created' }, 'who has ended makes room')
    await countsAreRight(t, query)
  })

  await test('no worker joins a job that was changed or ended', async (t) => {
    const ledger = await ledgerOf(t)
    const job = await grantIn(ledger, 'active', { maxWorkers: 5 })
    const join = () => ledger.begin(newGrant({ parentId: job.id, worker: 'w' }), event('pending'), unlimited, job)
    let back = job
    // In layout `guide` the policy of what is only read says nothing of the window.
    for (const change of [{ policyHash: 'c'.repeat(64) }, { notBefore: job.notBefore + 1 }, { expiresAt: job.expiresAt + 1 }]) {
      const changed = await ledger.update(back, change, event('extended'), start)
      t.same(await join(), { outcome: 'job-changed' }, JSON.stringify(change))
      const { policyHash, notBefore, expiresAt } = job
      back = await ledger.update(changed, { policyHash, notBefore, expiresAt }, event('extended'), start)
    }
    t.match(await join(), { outcome: 'created' })
    await ledger.update(back, { state: 'revoking', ending: 'revoked' }, event('revoking'), start)
    t.same(await join(), { outcome: 'job-changed' })
    t.equal((await ledger.workersOf(job.id)).length, 1)
  })

  await test('many concurrent claims: one succeeds', async (t) => {
    const { open } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const { id } = await begun(replicas[0])
    const claims = await Promise.all(Array.from({ length: 20 }, (_, index) => replica(replicas, index).claim(id, start, start + 10)))
    t.equal(claims.filter((claim) => claim !== undefined).length, 1)
  })

  await test('many concurrent updates of one version: one succeeds', async (t) => {
    const { open } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const grant = await begun(replicas[0])
    const updates = await Promise.allSettled(Array.from({ length: 20 }, (_, index) =>
      replica(replicas, index).update(grant, { attempts: index }, event('x'), start)))
    t.equal(updates.filter(({ status }) => status === 'fulfilled').length, 1)
    for (const update of updates) if (update.status === 'rejected') t.type(update.reason, StaleGrantError)
    t.equal((await replicas[0].events(grant.id)).length, 2)
  })

  await test('replicas that claim due grants concurrently claim each grant exactly once', async (t) => {
    const { open } = await fresh(t)
    const replicas = await Promise.all([open(), open(), open()])
    const due = await Promise.all(Array.from({ length: 200 }, () => begun(replicas[0])))
    const drained = await Promise.all(replicas.map(async (ledger) => {
      const taken: string[] = []
      for (;;) {
        const batch = await ledger.claimDue(start + 60_000, start + 90_000, 9)
        if (batch.length === 0) return taken
        t.ok(batch.length <= 9)
        taken.push(...batch.map(({ id }) => id))
      }
    }))
    t.strictSame(drained.flat().sort(), due.map(({ id }) => id).sort())
  })

  await test('the counts stay correct under a mixed load, and wrong counts are corrected at the next start', async (t) => {
    const { open, query } = await fresh(t)
    const replicas = await Promise.all([open(), open()])
    const life = async (index: number) => {
      const ledger = replica(replicas, index)
      const result = await ledger.begin(newGrant({ owner: `o${index % 3}` }), event('pending'), { perOwner: 12, total: 30 })
      if (result.outcome !== 'created') return
      const end = states[index % states.length] as GrantState
      const path: GrantState[] = index % 2 === 0 ? ['active', 'revoking', 'revoked'] : ['revoking', 'failed']
      let grant = result.grant
      for (const next of path) {
        if (grant.state === end) return
        grant = await moved(ledger, grant, next)
        await moved(ledger, result.grant, 'failed').catch((error) => t.type(error, StaleGrantError))
      }
    }
    for (let round = 0; round < 4; round++) {
      await Promise.all(Array.from({ length: 25 }, (_, index) => life(index + round)))
      await countsAreRight(t, query)
    }
    await query("update grant_counts set outstanding = 1000000 where owner in ('', 'o1')")
    await query("insert into grant_counts values ('nobody', 5)")
    await open()
    await countsAreRight(t, query)
  })

  await test('a ledger is unchanged after closing and opening; opening it twice changes nothing', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    const grant = await grantIn(ledger, 'active')
    const before = await dump(query)
    await ledger.close()
    const again = await open()
    t.strictSame(await again.get(grant.id), grant)
    await open()
    t.strictSame(await dump(query), before)
  })

  await test('replicas that start at the same time on an empty database migrate it once', async (t) => {
    const { open, query } = await fresh(t)
    const replicas = await Promise.all([open(), open(), open(), open()])
    for (const ledger of replicas) await begun(ledger)
    t.equal((await replicas[0]?.list({}, { limit: 9 }))?.length, 4)
    const applied = (await query('select name from ledger_migration order by name')).map(({ name }) => name)
    t.strictSame(applied, [
      '0001_grants', '0002_guards', '0003_workers', '0004_sessions_end', '0005_dying_keys', '0006_indexes_of_jobs', '0007_end_reason',
      '0008_account'
    ])
  })

  await test('a schema newer than the service is refused and stays unchanged', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    await begun(ledger)
    await ledger.close()
    await query("insert into ledger_migration (name, timestamp) values ('9999_from_the_future', '2030-01-01T00:00:00.000Z')")
    const before = await dump(query)
    await t.rejects(open(), { name: SchemaTooNewError.name, message: /newer than this version.*9999_from_the_future/ })
    t.strictSame(await dump(query), before)
  })

  await test('the database itself protects the history', async (t) => {
    const { open, query } = await fresh(t)
    const ledger = await open()
    const grant = await begun(ledger)
    const before = await dump(query)
    for (const tampering of [
      "update grant_events set detail = '{}'",
      "update grant_events set actor = 'nobody' where version = 1",
      'delete from grant_events',
      `delete from grants where id = '${grant.id}'`,
      "update grants set owner = 'other'",
      "update grants set team = 'other'",
      "update grants set job_id = 'other'",
      "update grants set id = 'other'",
      'update grants set created_at = 1',
      'update grants set max_workers = 9',
      'update grants set parent_id = id',
      "update grants set worker = 'x'"
    ]) await t.rejects(query(tampering), { message: /append-only|never/ }, tampering)
    await t.rejects(query(
      'insert into grant_events (grant_id, version, at, actor, action, detail) ' +
      `values ('${grant.id}', 1, 1, 'x', 'x', '{}')`), 'an event twice')
    await t.rejects(query(
      "insert into grant_events (grant_id, version, at, actor, action, detail) values ('nobody', 1, 1, 'x', 'x', '{}')"
    ), 'an event of no grant')
    t.strictSame(await dump(query), before)
  })

  await test('no column is for a secret', async (t) => {
    const { open, query } = await fresh(t)
    await open()
    for (const table of ['grants', 'grant_events', 'grant_counts']) {
      const columns = await columnsIn(query, table)
      t.ok(columns.length > 1)
      for (const column of columns) t.notMatch(column, /secret|password|token|credential|private/i)
    }
  })

  await test('a closed ledger is unavailable', async (t) => {
    const ledger = await ledgerOf(t)
    const grant = await begun(ledger)
    await ledger.close()
    for (const attempt of [
      () => ledger.ping(),
      () => ledger.get('x'),
      () => ledger.list({}, { limit: 1 }),
      () => ledger.begin(newGrant(), event('pending'), unlimited),
      () => ledger.update(grant, {}, event('x'), start),
      () => ledger.claim('x', 1, 2),
      () => ledger.claimDue(1, 2, 3),
      () => ledger.known(['x']),
      () => ledger.events('x'),
      () => ledger.stats(1)
    ]) await t.rejects(async () => { await attempt() }, LedgerUnavailableError)
  })

  await test('the database’s clock, where it may be on another machine', async (t) => {
    const ledger = await ledgerOf(t)
    const theirs = await ledger.time()
    t.ok(theirs === null || Math.abs(theirs - Date.now()) < 10_000, `${theirs}`)
  })

  await test('ping', async (t) => {
    const ledger = await ledgerOf(t)
    t.equal(await ledger.ping(), undefined)
  })
}

const replica = (replicas: Ledger[], index: number): Ledger => replicas[index % replicas.length] as Ledger

const fits = (grant: Grant, { teams, states, jobId, parentId }: GrantFilter): boolean =>
  (parentId === undefined || parentId === grant.parentId) &&
  (teams?.includes(grant.team) ?? true) && (states?.includes(grant.state) ?? true) && (jobId ?? grant.jobId) === grant.jobId

async function pages (ledger: Ledger, filter: GrantFilter, limit: number): Promise<Grant[]> {
  const grants: Grant[] = []
  for (;;) {
    const last = grants.at(-1)
    const page = await ledger.list(filter, { limit, ...last && { after: last.id } })
    grants.push(...page)
    if (page.length < limit) return grants
  }
}

type Query = Database['query']

/** All rows of all tables. */
async function dump (query: Query): Promise<unknown> {
  return {
    grants: await query('select * from grants order by id'),
    events: await query('select * from grant_events order by grant_id, version'),
    counts: await query('select * from grant_counts where outstanding <> 0 order by owner'),
    migrations: await query('select name from ledger_migration order by name')
  }
}

async function countsAreRight (t: Test, query: Query): Promise<void> {
  const counted = await query("select owner, outstanding from grant_counts where outstanding <> 0 and owner not in ('', 'managed policies') order by owner")
  const real = await query(`select owner, count(*) as outstanding from grants
    where state in ('pending', 'active', 'revoking') group by owner order by owner`)
  t.strictSame(counted.map(plain), real.map(plain))
  const policies = await query("select outstanding from grant_counts where owner = 'managed policies'")
  const withPolicy = await query(`select id from grants
    where state in ('pending', 'active', 'revoking') and attach = 'managed' and (max_workers is null or minted_at is not null)`)
  t.equal(Number(policies[0]?.outstanding ?? 0), withPolicy.length)
  const total = await query("select outstanding from grant_counts where owner = ''")
  t.equal(Number(total[0]?.outstanding), real.reduce((sum, { outstanding }) => sum + Number(outstanding), 0))
}

const plain = ({ owner, outstanding }: Record<string, unknown>) => [owner, Number(outstanding)]

async function columnsIn (query: Query, table: string): Promise<string[]> {
  const [row] = await query(`select * from (select 1 as one) as one left join ${table} on false`)
  return Object.keys(row ?? {})
}
