import t, { type Test } from 'tap'
import { LedgerUnavailableError } from '../../src/ledger/ledger.ts'
import { openLedger } from '../../src/ledger/open.ts'
import { reconcile } from '../../src/lifecycle/reconcile.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { createMetrics } from '../../src/metrics/metrics.ts'
import { buildApp } from '../../src/http/app.ts'
import { problems } from '../../src/problems.ts'
import { bearer, bench, guideJob, startOfTime } from '../harness.ts'
import { samples } from './scrape.ts'

const guarded = `@id("open") permit (principal, action, resource);
@id("no-vision") forbid (principal, action == JobAccess::Action::"issue", resource) when { resource.team == "vision" };`

const measured = async (t: Test, guardrails?: string) => {
  let now = startOfTime
  const metrics = createMetrics({ now: () => now, version: '1.0.0', provider: 'embedded', ceiling: 1000, freshMs: 0 })
  const stored = await openLedger({ url: ':memory:' })
  t.teardown(() => stored.close())
  const b = await bench(t, { now: () => now, ledger: () => stored, metrics, onCall: metrics.iamCall, ...(guardrails && { guardrails }) })
  const { service, deps } = b
  let requests = 0
  const app = await buildApp(service, { logger: false, newRequestId: () => `req-${++requests}`, metrics })
  t.teardown(() => app.close())
  const scrape = async () => samples(await metrics.registry.metrics())
  return { b, metrics, app, deps, scrape, advance: (ms: number) => { now += ms } }
}

const paces = { concurrency: 4, perSecond: 1000 }

t.test('what is asked, and what becomes of it', async t => {
  const { b, app, scrape } = await measured(t)
  const before = await scrape()
  t.equal(before.get('job_access_issues_total{outcome="created"}'), 0)
  t.equal(before.get('job_access_problems_total{code="policy-unproven"}'), 0, 'an alert needs the step from 0')
  for (const code of Object.keys(problems)) t.equal(before.get(`job_access_problems_total{code="${code}"}`), 0, code)

  const post = (payload: object, token = b.tokens.nlp) => app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(token), payload })
  t.equal((await post(guideJob())).statusCode, 201)
  t.equal((await post(guideJob())).statusCode, 409)
  t.equal((await post({ ...guideJob(), attempt: '2' })).statusCode, 200)
  t.equal((await post({})).statusCode, 400)
  b.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'AccessDenied' })
  t.equal((await post(guideJob({ job: { id: 'second', team: 'nlp' } }))).statusCode, 502)
  await app.inject({ method: 'GET', url: '/v1/grants' })
  await app.inject({ method: 'GET', url: '/nothing/of/the/kind' })
  await app.inject({ method: 'PUT', url: '/v1/grants' })
  await app.inject('/readyz')

  const after = await scrape()
  const counted = {
    'job_access_issues_total{outcome="created"}': 1,
    'job_access_issues_total{outcome="repeated"}': 1,
    'job_access_issues_total{outcome="key-delivered"}': 1,
    'job_access_issues_total{outcome="request-invalid"}': 1,
    'job_access_issues_total{outcome="iam-refused"}': 1,
    'job_access_problems_total{code="unauthenticated"}': 1,
    'job_access_problems_total{code="route-unknown"}': 1,
    'job_access_problems_total{code="method-not-allowed"}': 1,
    'job_access_auth_refusals_total{reason="header-missing"}': 1,
    'job_access_http_request_duration_seconds_count{method="POST",route="/v1/grants",status="2xx"}': 2,
    'job_access_http_request_duration_seconds_count{method="POST",route="/v1/grants",status="4xx"}': 2,
    'job_access_http_request_duration_seconds_count{method="POST",route="/v1/grants",status="5xx"}': 1,
    'job_access_http_request_duration_seconds_count{method="any",route="unmatched",status="4xx"}': 2,
    'job_access_iam_calls_total{operation="CreateUser",outcome="ok"}': 1,
    'job_access_iam_calls_total{operation="CreateUser",outcome="denied"}': 1,
    'job_access_iam_calls_total{operation="CreateAccessKey",outcome="ok"}': 2,
    'job_access_iam_call_duration_seconds_count{operation="CreateAccessKey"}': 2,
    'job_access_guardrail_decisions_total{action="issue",decision="allowed"}': 4,
    'job_access_grant_events_total{event="pending"}': 2,
    'job_access_grant_events_total{event="active"}': 1,
    'job_access_grants{state="active"}': 1,
    'job_access_grants{state="failed"}': 1,
    job_access_grants_ceiling: 1000,
    job_access_ledger_up: 1,
    'job_access_ready{check="iam"}': 1,
    'job_access_ready{check="ledger"}': 1,
    'job_access_info{version="1.0.0",provider="embedded"}': 1
  }
  for (const [name, value] of Object.entries(counted)) t.equal(after.get(name), value, name)
  t.ok((after.get('job_access_ledger_operation_duration_seconds_count{operation="begin"}') ?? 0) >= 2)
  t.ok(after.has('process_resident_memory_bytes') && after.has('nodejs_eventloop_lag_p99_seconds'), 'the process')
})

t.test('a denial and a fault of the guardrails', async t => {
  const { b, app, scrape } = await measured(t, guarded)
  await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.vision), payload: guideJob({ job: { id: 'x', team: 'vision' } }) })
  const after = await scrape()
  const denied = after.get('job_access_guardrail_decisions_total{action="issue",decision="denied"}') ?? 0
  const fault = after.get('job_access_guardrail_decisions_total{action="issue",decision="fault"}') ?? 0
  t.equal(denied + fault, 1)
  t.equal(after.get('job_access_problems_total{code="forbidden"}'), 1)
})

t.test('what the sweeper and reconciliation did, and what waits for them', async t => {
  const { b, app, deps, metrics, scrape, advance } = await measured(t)
  await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: guideJob() })
  advance(24 * 3600_000)
  const late = await scrape()
  const hours = (value: number | undefined) => (value ?? 0) / 3600
  t.ok(hours(late.get('job_access_oldest_overdue_grant_seconds')) > 20)
  t.equal(late.get('job_access_sweep_lag_seconds'), late.get('job_access_oldest_overdue_grant_seconds'))
  t.equal(late.get('job_access_sweep_last_done_timestamp_seconds'), startOfTime / 1000)

  b.iam.faults.on({ action: 'DeleteUser', nth: 1 }, { kind: 'error', code: 'ServiceFailure' })
  metrics.swept(await sweep(deps, paces, new AbortController().signal))
  metrics.swept(undefined)
  metrics.reconciled(await reconcile(deps, { ...paces, dryRun: false, graceMs: 0 }))
  const after = await scrape()
  t.equal(after.get('job_access_sweeps_total{outcome="done"}'), 1)
  t.equal(after.get('job_access_sweeps_total{outcome="failed"}'), 1)
  t.equal((after.get('job_access_swept_grants_total{outcome="done"}') ?? 0) + (after.get('job_access_swept_grants_total{outcome="failed"}') ?? 0), 1)
  t.equal(after.get('job_access_sweep_last_done_timestamp_seconds'), startOfTime / 1000 + 86_400)
  t.equal(after.get('job_access_reconciliations_total{outcome="done"}'), 1)
  t.equal(after.get('job_access_reconcile_failed'), 0)
  t.equal(after.get('job_access_reconcile_findings_total{kind="stray"}'), 0)
})

t.test('strays, lost and foreign users by kind; a stored policy that is not what was asked', async t => {
  const { metrics, scrape, b, app, deps, advance } = await measured(t)
  metrics.reconciled({
    seen: 4,
    failed: 2,
    findings: [
      { kind: 'stray', name: 'a', expiresAt: '', done: true }, { kind: 'stray', name: 'b', expiresAt: '', done: true },
      { kind: 'lost', grantId: 'g', name: 'c', done: true }, { kind: 'foreign', name: 'd' }
    ]
  })
  const issueAt = new Date(startOfTime + 60_000).toISOString().replace('.000', '')
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: { ...guideJob(), issueAt } })).json()
  const stored = await deps.ledger.get(grant.id)
  const [first, ...rest] = stored?.policy.Statement ?? []
  if (!stored || !first) throw new Error('no grant')
  const wider = { ...stored.policy, Statement: [{ ...first, Resource: ['arn:aws:s3:::*'] }, ...rest] }
  await deps.ledger.update(stored, { policy: wider }, { actor: 'x', requestId: null, action: 'x', policyHash: null, detail: {} }, startOfTime)
  advance(61_000)
  metrics.swept(await sweep(deps, paces, new AbortController().signal))
  const after = await scrape()
  t.equal(after.get('job_access_reconcile_findings_total{kind="stray"}'), 2)
  t.equal(after.get('job_access_reconcile_findings_total{kind="lost"}'), 1)
  t.equal(after.get('job_access_reconcile_foreign'), 1)
  t.equal(after.get('job_access_reconcile_failed'), 2)
  t.ok((after.get('job_access_stored_policies_unproven_total') ?? 0) > 0)
  t.equal(b.iam.state.keyCount, 0, 'and nothing was made of it')
})

t.test('a ledger that does not answer: no old numbers, the rest is told', async t => {
  const metrics = createMetrics({ now: () => startOfTime, version: '1.0.0', provider: 'aws', ceiling: 1 })
  let asked = 0
  const down = async (): Promise<never> => {
    asked++
    throw new LedgerUnavailableError('down')
  }
  metrics.watchLedger({ accounts: async () => [], stats: down })
  const after = samples(await metrics.registry.metrics())
  t.equal(after.get('job_access_ledger_up'), 0)
  t.notOk(after.has('job_access_grants{state="active"}'))
  t.notOk(after.has('job_access_sweep_lag_seconds'))
  t.equal(after.get('job_access_grants_ceiling'), 1)
  await metrics.registry.metrics()
  t.equal(asked, 1, 'scrapes close together cost one question')

  const timed = metrics.timed({ ...await memory(t), get: down })
  await t.rejects(timed.get('x'), LedgerUnavailableError)
  t.equal(samples(await metrics.registry.metrics()).get('job_access_ledger_failures_total{kind="unavailable"}'), 1)
})

t.test('a ledger that hangs does not hang the scrape', async t => {
  const metrics = createMetrics({ now: () => startOfTime, version: '1.0.0', provider: 'aws', ceiling: 1 })
  metrics.watchLedger({ accounts: async () => [], stats: () => new Promise(() => {}) })
  t.equal(samples(await metrics.registry.metrics()).get('job_access_ledger_up'), 0)
})

t.test('the audit', async t => {
  const metrics = createMetrics({ now: () => startOfTime, version: '1.0.0', provider: 'aws', ceiling: 1 })
  const hash = '0'.repeat(64)
  let broken: string | undefined = undefined as string | undefined
  metrics.watchAudit({
    state: () => ({
      head: { seq: 10, hash }, writtenAt: 1_500, waiting: 3, broken
    })
  })
  const well = samples(await metrics.registry.metrics())
  t.equal(well.get('job_access_audit_broken'), 0)
  t.equal(well.get('job_access_audit_waiting_events'), 3)
  t.equal(well.get('job_access_audit_last_seq'), 10)
  t.equal(well.get('job_access_audit_last_written_timestamp_seconds'), 1.5)
  broken = 'the disk is full'
  t.equal(samples(await metrics.registry.metrics()).get('job_access_audit_broken'), 1)
})

t.test('nothing of anybody is in a label, and the series are bounded', async t => {
  const { b, app, metrics } = await measured(t)
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: guideJob() })).json()
  for (let i = 0; i < 30; i++) {
    await app.inject({ method: 'GET', url: `/v1/grants/${grant.id.slice(0, -2)}${i + 10}`, headers: bearer(b.tokens.nlp) })
    await app.inject({ method: 'GET', url: `/x/${i}?y=${i}`, headers: { authorization: `Bearer ${i}` } })
  }
  const text = await metrics.registry.metrics()
  const about = [grant.id, grant.id.slice(0, 20), 'nlp', guideJob().job.id, 'acmeco', b.tokens.nlp, 'token:', 'AKIA', '127.0.0.1', 'Bearer']
  for (const word of about) t.notOk(text.includes(word), word)
  t.ok(text.split('\n').length < 1500, `${text.split('\n').length} lines`)
  for (const { name } of await metrics.registry.getMetricsAsJSON()) t.match(name, /^(job_access|process|nodejs)_/, name)
})

const memory = async (t: Test) => {
  const ledger = await openLedger({ url: ':memory:' })
  t.teardown(() => ledger.close())
  return ledger
}
