import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openAudit } from '../../src/audit/log.ts'
import { openAppendFile } from '../../src/audit/files.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

/** Each check runs at most once a second. */
const readiness = async (b: Awaited<ReturnType<typeof bench>>, app: Awaited<ReturnType<typeof appOf>>) => {
  b.clock.advance(1_000)
  const { statusCode, body } = await app.inject('/readyz')
  return { statusCode, body, ...JSON.parse(body) as { status: string, checks: Record<string, string> } }
}

t.test('live, and ready as long as IAM and ledger answer', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  t.strictSame((await app.inject('/healthz')).json(), { status: 'ok' })
  t.match(await readiness(b, app), { statusCode: 200, status: 'ready', checks: { iam: 'ok', ledger: 'ok' } })
  await b.iam.stop()
  const iamless = await readiness(b, app)
  t.match(iamless, { statusCode: 503, status: 'not-ready', checks: { iam: 'failed', ledger: 'ok' } })
  t.notMatch(iamless.body, /ECONNREFUSED|127\.0\.0\.1/, 'an anonymous caller is not told how')
  await b.ledger.close()
  t.match(await readiness(b, app), { checks: { ledger: 'failed' } })
  t.equal((await app.inject('/healthz')).statusCode, 200, 'still alive')
})

const temporary = (t: Test): string => {
  const folder = mkdtempSync(join(tmpdir(), 'health-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

t.test('a ledger whose file was deleted: not ready, and nothing is issued, but what was issued ends', async t => {
  const folder = temporary(t)
  const b = await bench(t, { ledgerUrl: join(folder, 'ledger.sqlite') })
  const app = await appOf(t, b)
  const post = (url: string, payload?: object) => app.inject({ method: 'POST', url, headers: bearer(b.tokens.nlp), ...(payload && { payload }) })
  const { id } = (await post('/v1/grants', guideJob())).json().grant
  t.match(await readiness(b, app), { statusCode: 200 })
  rmSync(join(folder, 'ledger.sqlite'))
  t.match(await readiness(b, app), { statusCode: 503, checks: { ledger: 'failed' } })
  const refused = await post('/v1/grants', guideJob({ job: { id: 'another', team: 'nlp' } }))
  t.equal(refused.statusCode, 503)
  t.match(refused.json(), { code: 'ledger-unavailable' })
  t.equal((await post(`/v1/grants/${id}/complete`)).statusCode, 200)
  t.equal(b.iam.state.userCount, 0)
})

t.test('an audit that cannot be written: not ready, without a growing log; what was issued ends', async t => {
  const full = { disk: false }
  const audit = await openAudit({
    path: join(temporary(t), 'audit'),
    instance: 'a',
    now: Date.now,
    openFile: async (path, how) => {
      const file = await openAppendFile(path, how)
      return { ...file, append: bytes => full.disk ? Promise.reject(new Error('ENOSPC')) : file.append(bytes) }
    }
  })
  t.teardown(() => audit.close())
  const b = await bench(t, { audit })
  const app = await appOf(t, b)
  const post = (url: string, payload?: object) => app.inject({ method: 'POST', url, headers: bearer(b.tokens.nlp), ...(payload && { payload }) })
  const { id } = (await post('/v1/grants', guideJob())).json().grant
  const { seq } = audit.state().head
  t.match(await readiness(b, app), { statusCode: 200, checks: { audit: 'ok' } })
  t.equal(audit.state().head.seq, seq, 'a probe writes no event')
  full.disk = true
  t.match(await readiness(b, app), { statusCode: 503, checks: { audit: 'failed', iam: 'ok', ledger: 'ok' } })
  t.equal((await post('/v1/grants', guideJob({ job: { id: 'another', team: 'nlp' } }))).json().code, 'audit-unavailable')
  t.equal((await post(`/v1/grants/${id}/complete`)).statusCode, 200)
  t.equal(b.iam.state.userCount, 0)
  full.disk = false
  t.match(await readiness(b, app), { statusCode: 200 })
})

t.test('probes share no limit with public pages, and make no work of their own', async t => {
  const b = await bench(t, { ratePerMinute: 3 })
  let asked = 0
  const { iam, ...others } = b.service.readiness
  b.service.readiness = { iam: async () => { asked++; await iam?.() }, ...others }
  const app = await appOf(t, b)
  for (let i = 0; i < 4; i++) await app.inject('/console/console.css')
  t.equal((await app.inject('/console/console.css')).statusCode, 429)
  for (let i = 0; i < 10; i++) {
    t.equal((await app.inject('/healthz')).statusCode, 200)
    t.equal((await app.inject('/readyz')).statusCode, 200)
  }
  t.equal(asked, 10)
  t.equal(b.iam.calls.filter(({ action }) => action === 'ListUsers').length, 1, 'ten probes within a second ask IAM once')
})
