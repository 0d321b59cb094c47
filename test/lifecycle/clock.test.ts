import t, { type Test } from 'tap'
import { compose, type Composed } from '../../src/compose.ts'
import { readConfig } from '../../src/config.ts'
import type { DatedAnswer } from '../../src/iam/client.ts'
import { openLedger } from '../../src/ledger/open.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { watchClocks, type Reference } from '../../src/lifecycle/clock.ts'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { reconcile } from '../../src/lifecycle/reconcile.ts'
import { rotate } from '../../src/lifecycle/rotate.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { createMetrics } from '../../src/metrics/metrics.ts'
import { startTestIam, type TestIam } from '../embedded-iam/levers/start.ts'
import { appOf, callerNamed, guideJob } from '../harness.ts'
import { samples } from '../metrics/scrape.ts'
import { sweepFast } from './world.ts'

// A replica whose clock is wrong ends, issues and changes nothing by it, for itself and for the others, and says so.

const hour = 3_600_000

/** A watch whose clocks the test sets. `answer` is what a reference that is `theirs` ms ahead of the true time says, after `tookMs`. */
const watched = (mostMs = 30_000) => {
  const time = { wall: Date.parse('2025-07-16T00:30:00Z'), monotonic: 5_000 }
  const heard: Record<Reference, DatedAnswer[]> = { provider: [], ledger: [] }
  const asked: Reference[] = []
  const told: Array<number | null> = []
  let truth = time.wall
  const pass = (ms: number) => {
    time.wall += ms
    time.monotonic += ms
    truth += ms
  }
  const answer = (theirs = 0, { tookMs = 0, from = 'provider' }: { tookMs?: number, from?: Reference } = {}) => {
    const askedAt = time.monotonic
    pass(tookMs)
    const at = truth - tookMs / 2 + theirs
    const precisionMs = from === 'provider' ? 1000 : 1
    heard[from].push({ theirs: Math.floor(at / precisionMs) * precisionMs, precisionMs, askedAt, heardAt: time.monotonic })
  }
  const says: Record<Reference, () => Promise<void>> = { provider: async () => answer(), ledger: async () => {} }
  const clocks = watchClocks({
    ours: () => time.wall,
    wall: () => time.wall,
    monotonic: () => time.monotonic,
    mostMs,
    heard,
    ask: {
      provider: async () => { asked.push('provider'); await says.provider() },
      ledger: async () => { asked.push('ledger'); await says.ledger() }
    },
    changed: wrong => told.push(wrong && Math.round(wrong.aheadMs / 1000))
  })
  return { clocks, heard, time, pass, answer, says, asked, told, step: (ms: number) => { time.wall += ms }, truth: () => truth }
}

t.test('what counts as a wrong clock', async t => {
  type Watched = ReturnType<typeof watched>
  const cases: Array<[string, boolean, (it: Watched) => void]> = [
    ['nobody has said anything', false, () => {}],
    ['it agrees', false, it => it.answer()],
    ['29 s ahead', false, it => { it.answer(-29_000) }],
    ['32 s ahead', true, it => { it.answer(-32_000) }],
    ['32 s behind', true, it => { it.answer(32_000) }],
    ['a step by 2 h, without another answer', true, it => { it.answer(); it.step(2 * hour) }],
    ['a step back by 2 h, without another answer', true, it => { it.answer(); it.step(-2 * hour) }],
    ['a step that was undone', false, it => { it.answer(); it.step(2 * hour); it.clocks.wrong(); it.step(-2 * hour) }],
    ['hours pass', false, it => { it.answer(); it.pass(20 * hour) }],
    ['an answer that took a minute says nothing of half a minute', false, it => it.answer(-31_000, { tookMs: 60_000 })],
    ['an answer that took a minute says something of 2 h', true, it => it.answer(-2 * hour, { tookMs: 60_000 })],
    ['one wrong server', false, it => { it.answer(); it.answer(); it.answer(-2 * hour) }],
    ['two wrong servers of three', false, it => { it.answer(); it.answer(-2 * hour); it.answer(-2 * hour) }],
    ['three answers in a row', true, it => { it.answer(); for (let i = 0; i < 3; i++) it.answer(-2 * hour) }],
    ['a wrong server at a wrong time is no reason to believe either', true, it => { it.step(2 * hour); it.answer(-hour) }],
    ['the database alone', true, it => it.answer(-2 * hour, { from: 'ledger' })],
    ['the provider agrees, the database does not', false, it => { it.answer(); it.answer(-2 * hour, { from: 'ledger' }) }],
    ['the database agrees, on the same machine; the provider does not', true, it => { it.answer(-2 * hour); it.answer(0, { from: 'ledger' }) }]
  ]
  for (const [name, wrong, happens] of cases) {
    const it = watched()
    happens(it)
    t.equal(it.clocks.wrong() !== null, wrong, name)
    const right = wrong && name !== 'a wrong server at a wrong time is no reason to believe either'
    if (right && it.time.wall !== it.truth()) t.ok(Math.abs(it.clocks.now() - it.truth()) <= 1_000, `${name}: the time meanwhile`)
    if (!wrong) t.equal(it.clocks.now(), it.time.wall, `${name}: its own time`)
  }
  const off = watched(0)
  off.answer(-2 * hour)
  t.equal(off.clocks.wrong(), null, 'not compared')
})

t.test('no more answers are kept than count, of either', t => {
  const it = watched()
  for (const from of ['provider', 'ledger'] as const) for (let i = 0; i < 10; i++) it.answer(0, { from })
  it.clocks.wrong()
  t.same([it.heard.provider.length, it.heard.ledger.length], [3, 3])
  t.end()
})

t.test('it is told once, and again when it is right', async t => {
  const it = watched()
  it.answer()
  it.step(2 * hour)
  for (let i = 0; i < 3; i++) it.clocks.wrong()
  t.same(it.told, [7200])
  it.step(-2 * hour + 20_000)
  t.ok(it.clocks.wrong(), 'not yet by 20 s: it must not change with every answer')
  it.step(-10_000)
  t.notOk(it.clocks.wrong())
  t.same(it.told, [7200, null])
})

t.test('whom a check asks', async t => {
  const it = watched()
  await it.clocks.check()
  t.same(it.asked.splice(0), ['provider', 'ledger'], 'all, at the start')
  it.says.ledger = async () => it.answer(0, { from: 'ledger' })
  await it.clocks.check()
  t.same(it.asked.splice(0), ['ledger'], 'who has said nothing yet')
  it.pass(59_000)
  await it.clocks.check()
  t.same(it.asked.splice(0), [])
  it.pass(2_000)
  await it.clocks.check()
  t.same(it.asked.splice(0), ['provider', 'ledger'], 'whose answer is old')
  // A machine that slept: its clock is right, and the answers before do not say so.
  it.step(2 * hour)
  it.says.provider = async () => it.answer(2 * hour)
  await t.resolves(it.clocks.check())
  t.same(it.asked.splice(0), ['provider', 'ledger'], 'who contradicts')
  it.step(hour)
  await t.rejects(it.clocks.check(), { name: 'WrongClockError', message: /^The service’s clock is (1 h|59 min \d+ s) ahead of that of the provider\.$/ })
})

t.test('without any answer there is no time to sweep by', async t => {
  const it = watched()
  it.says.provider = async () => { throw new Error('lost') }
  await t.rejects(it.clocks.check(), { message: 'lost' })
  it.says.provider = async () => {}
  await t.resolves(it.clocks.check(), 'an answer without a date is one')
})

// --- a service ---

const owner = callerNamed('token:nlp', ['*'])

interface Replica extends Composed { log: string[] }

/** A replica whose clock is `aheadMs` ahead. The provider and the ledger have the true time. */
const replica = async (t: Test, { iam, ledger, aheadMs = 0 }: { iam: TestIam, ledger: Ledger, aheadMs?: number }): Promise<Replica> => {
  const log: string[] = []
  const told = (level: string) => (_fields: object, message: string) => { log.push(`${level}: ${message}`) }
  const wall = () => Date.now() + aheadMs
  const parts = await compose(readConfig({}), {
    log: { info: told('info'), warn: told('warn'), error: told('error') },
    overrides: { embedded: iam, ledger, wall, now: wall }
  })
  t.teardown(parts.close)
  return { ...parts, log }
}

const shared = async (t: Test): Promise<{ iam: TestIam, ledger: Ledger }> => {
  const iam = await startTestIam()
  const ledger = await openLedger({ url: ':memory:' })
  t.teardown(async () => {
    await ledger.close()
    await iam.stop()
  })
  return { iam, ledger }
}

const sweepOf = ({ deps }: Composed) => sweep(deps, sweepFast, new AbortController().signal)
const inAnHour = { request: guideJob({ window: { durationSeconds: 3600 } }) }

t.test('of two replicas one is 2 h ahead: no grant ends early, and its caller ends it by either', async t => {
  const both = await shared(t)
  const healthy = await replica(t, both)
  const ahead = await replica(t, { ...both, aheadMs: 2 * hour })
  const { grant } = await issue(healthy.deps, owner, inAnHour)
  await t.rejects(ahead.clocks.check(), { name: 'WrongClockError' })
  t.same(await sweepOf(ahead), { handled: 0, failed: 0 })
  await t.rejects(reconcile(ahead.deps, { dryRun: false, graceMs: 0, concurrency: 1, perSecond: 1000 }), { code: 'clock-wrong' })
  t.match(await both.ledger.get(grant.id), { state: 'active', version: grant.version }, 'nothing was written')
  t.equal(both.iam.state.keyCount, 1)
  t.match(ahead.log, ['error: this machine’s clock is wrong: nothing is issued, changed or swept'])

  const refused = { code: 'clock-wrong', status: 503, message: /^The service’s clock is (2 h|1 h 59 min \d+ s) ahead of that of the provider\.$/ }
  await t.rejects(issue(ahead.deps, owner, { request: guideJob({ ...inAnHour.request, job: { id: 'other', team: 'nlp' } }) }), refused)
  await t.rejects(extend(ahead.deps, owner, grant.id, { window: { durationSeconds: 7200 } }), refused)
  await t.rejects(rotate(ahead.deps, owner, grant.id, 0), refused)
  t.match(await both.ledger.get(grant.id), { state: 'active', version: grant.version })

  t.match(await end(ahead.deps, owner, grant.id, 'completed'), { state: 'revoked' })
  t.equal(both.iam.state.userCount, 0)
})

t.test('an end that fails at a replica that is ahead is taken up by the others at once', async t => {
  const both = await shared(t)
  const healthy = await replica(t, both)
  const ahead = await replica(t, { ...both, aheadMs: 2 * hour })
  const { grant } = await issue(healthy.deps, owner, inAnHour)
  await ahead.clocks.check().catch(() => {})
  both.iam.faults.on({ action: 'DeleteAccessKey' }, { kind: 'error', code: 'AccessDenied' })
  const ending = await end(ahead.deps, owner, grant.id, 'completed')
  t.equal(ending.state, 'revoking')
  t.ok((ending.dueAt ?? Infinity) <= Date.now() + 10_000, 'by the provider’s time')
})

t.test('a clock that is behind, at its first issue: what was made is removed again', async t => {
  const both = await shared(t)
  const behind = await replica(t, { ...both, aheadMs: -2 * hour })
  // Nothing was heard before the calls of this issue.
  await t.rejects(issue(behind.deps, owner, inAnHour), { code: 'clock-wrong', message: /2 h behind|1 h 59 min \d+ s behind/ })
  t.equal(both.iam.state.keyCount, 0)

  const another = await shared(t)
  const ofWorkers = await replica(t, { ...another, aheadMs: -2 * hour })
  const { sourceIps: _, ...job } = inAnHour.request
  await t.rejects(issue(ofWorkers.deps, owner, { request: { ...job, attach: 'managed', workers: { max: 2 } } }), { code: 'clock-wrong' })
  t.same(another.iam.state.policies, [], 'nor the policy that workers would share')
})

t.test('/readyz, metrics and recovery', async t => {
  const both = await shared(t)
  const metrics = createMetrics({ now: Date.now, version: '0', provider: 'aws', ceiling: 1, freshMs: 0 })
  const audited: object[] = []
  let aheadMs = 0
  const wall = () => Date.now() + aheadMs
  const parts = await compose(readConfig({}), {
    log: { info () {}, warn () {}, error () {} },
    metrics,
    overrides: { embedded: both.iam, ledger: both.ledger, wall, now: wall, audit: { record: async (event: object) => { audited.push(event) }, check: async () => {}, state: () => ({ head: { seq: 0, hash: '' }, waiting: 0, broken: undefined, writtenAt: 0 }) } as never }
  })
  t.teardown(parts.close)
  // Each check once in a second: the probes of this test are further apart.
  const checks = parts.service.readiness
  const readiness = { clock: () => parts.clocks.check(), ...(checks.iam && { iam: checks.iam }) }
  const app = await appOf(t, { service: { ...parts.service, readiness } })
  const readyz = async () => (await app.inject({ url: '/readyz' })).json()
  const scraped = async () => samples(await metrics.registry.metrics())
  t.match(await readyz(), { status: 'ready', checks: { clock: 'ok' } })
  t.equal((await scraped()).get('job_access_clock_wrong'), 0)

  aheadMs = 2 * hour
  t.match(await readyz(), { status: 'not-ready', checks: { iam: 'ok', clock: 'failed' } })
  t.equal((await scraped()).get('job_access_clock_wrong'), 1)
  const ahead = (await scraped()).get('job_access_clock_ahead_seconds{reference="provider"}') ?? 0
  t.ok(Math.abs(ahead - 7200) <= 1, `${ahead} s`)
  t.match(audited.at(-1), { action: 'clock.wrong', outcome: 'failed', detail: { reference: 'provider' } })

  aheadMs = 0
  t.match(await readyz(), { status: 'ready' }, 'by itself')
  t.equal((await scraped()).get('job_access_clock_wrong'), 0)
  t.match(audited.at(-1), { action: 'clock.right', outcome: 'done' })
})

t.test('after a step the signature is refused for its time: the call goes on, and no word is of wrong credentials', async t => {
  const both = await shared(t)
  const parts = await replica(t, both)
  await issue(parts.deps, owner, inAnHour)
  both.iam.wire.aheadMs = -2 * hour
  const [grant] = await both.ledger.list({}, { limit: 1 })
  t.match(await end(parts.deps, owner, grant?.id ?? '', 'completed'), { state: 'revoked' }, 'an end goes on')
  t.match(both.iam.calls.filter(({ status }) => status === 403).map(({ code }) => code), ['SignatureDoesNotMatch'])

  // Where the provider's Date does not help, it is told as what it is.
  const refused = 'Signature expired: 20250716T003000Z is now earlier than 20250716T021500Z'
  for (const [code, message] of [['SignatureDoesNotMatch', refused], ['RequestTimeTooSkewed', 'x'], ['RequestExpired', 'x']] as const) {
    both.iam.wire.aheadMs = 0
    const again = await replica(t, both)
    both.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code, message, status: 403 })
    await t.rejects(issue(again.deps, owner, { request: guideJob({ job: { id: code, team: 'nlp' }, window: { durationSeconds: 3600 } }) }), {
      code: 'clock-wrong', message: new RegExp(`CreateUser was refused \\(${code}\\) for the time of its signature`)
    })
    both.iam.faults.clear()
  }
  both.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'SignatureDoesNotMatch', message: 'The request signature we calculated does not match' })
  await t.rejects(issue((await replica(t, both)).deps, owner, inAnHour), { code: 'iam-refused' }, 'a wrong secret is one')
})
