import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { appOf, bearer, bench } from '../harness.ts'

/**
 * The ledger of the release 0.1.0, as `.dump` of SQLite wrote it. That service had issued four jobs at its embedded IAM: `active`;
 * `rotated`, with an overlap, then from another source; `completed`; and `scheduled`, for 2027-03-21.
 */
const dump = readFileSync(join(import.meta.dirname, 'release-0.1.0.sql'), 'utf8')
const written = Date.parse('2026-11-26T10:30:00Z')

t.test('a ledger of the release 0.1.0 is brought up to date, and its grants are read, changed and ended', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'job-access-release-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const ledgerUrl = join(dir, 'ledger.sqlite')
  const old = new DatabaseSync(ledgerUrl)
  old.exec(dump)
  const before = old.prepare('select id, job_id, policy from grants').all() as Array<Record<'id' | 'job_id' | 'policy', string>>
  const events = Number(old.prepare('select count(*) as n from grant_events').get()?.n)
  old.close()

  const b = await bench(t, { ledgerUrl, now: () => written })
  const app = await appOf(t, b)
  const ask = async (method: 'GET' | 'PATCH' | 'POST', path: string, payload?: object) =>
    (await app.inject({ method, url: `/v1/grants${path}`, headers: bearer(b.tokens.admin), ...(payload && { payload }) })).json()
  const list = (await ask('GET', '')).grants as Array<{ id: string, job: { id: string }, policy: object }>
  const named = (job: string) => list.find(grant => grant.job.id === job)
  t.strictSame(list.map(({ id, policy }) => ({ id, policy })).sort((a, b) => a.id.localeCompare(b.id)),
    before.map(({ id, policy }) => ({ id, policy: JSON.parse(policy) as object })).sort((a, b) => a.id.localeCompare(b.id)))
  t.match(named('active'), { state: 'active', attempt: null, workers: null, worker: null, previousKey: null })
  t.match(named('rotated'), { state: 'active', layout: 'guarded', source: { sourceIps: ['203.0.113.77/32'] }, previousKey: { diesAt: String } })
  t.match(named('completed'), { state: 'revoked', endReason: 'completed' })
  t.match(named('scheduled'), { state: 'pending', accessKeyId: null })

  const seen = await Promise.all(list.map(({ id }) => ask('GET', `/${id}/events`)))
  t.equal(seen.flatMap(({ events }) => events as unknown[]).length, events, 'with their history')
  const changed = await ask('POST', `/${named('active')?.id}/check`, {
    action: 's3:GetObject', bucket: 'acmeco-datasets', key: 'wikipedia/a', sourceIp: '203.0.113.42'
  })
  t.match(changed, { allowed: true })
  for (const job of ['active', 'rotated', 'scheduled']) t.match(await ask('POST', `/${named(job)?.id}/complete`), { dueAt: undefined, state: /revok/ })
})
