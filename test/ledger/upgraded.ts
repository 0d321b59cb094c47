import type { Test } from 'tap'
import { appOf, bearer, bench } from '../harness.ts'

/** What a ledger of an earlier release has, as its database says. */
export interface Earlier { grants: Array<Record<'id' | 'policy', string>>, events: number, writtenAt: number }

export const questions = {
  grants: 'select id, policy from grants',
  rest: 'select (select count(*) from grant_events) as events, (select max(updated_at) from grants) as written'
}

/** Opens it, which brings it up to date; its grants are read, changed and ended. */
export const readChangedAndEnded = async (t: Test, ledgerUrl: string, { grants, events, writtenAt }: Earlier): Promise<void> => {
  const b = await bench(t, { ledgerUrl, now: () => writtenAt + 60_000 })
  const app = await appOf(t, b)
  const ask = async (method: 'GET' | 'PATCH' | 'POST', path: string, payload?: object) =>
    (await app.inject({ method, url: `/v1/grants${path}`, headers: bearer(b.tokens.admin), ...(payload && { payload }) })).json()
  const list = (await ask('GET', '')).grants as Array<{ id: string, job: { id: string }, policy: object }>
  const named = (job: string) => list.find(grant => grant.job.id === job)
  t.strictSame(list.map(({ id, policy }) => ({ id, policy })).sort((a, b) => a.id.localeCompare(b.id)),
    grants.map(({ id, policy }) => ({ id, policy: JSON.parse(policy) as object })).sort((a, b) => a.id.localeCompare(b.id)))
  t.match(named('active'), { state: 'active', attempt: null, workers: null, worker: null, previousKey: null })
  t.match(named('rotated'), { state: 'active', layout: 'guarded', source: { sourceIps: ['203.0.113.77/32'] }, previousKey: { diesAt: String } })
  t.match(named('completed'), { state: 'revoked', endReason: 'completed' })
  t.match(named('scheduled'), { state: 'pending', accessKeyId: null })

  const seen = await Promise.all(list.map(({ id }) => ask('GET', `/${id}/events`)))
  t.equal(seen.flatMap(({ events }) => events as unknown[]).length, events, 'with their history')
  const checked = await ask('POST', `/${named('active')?.id}/check`, {
    action: 's3:GetObject', bucket: 'acmeco-datasets', key: 'wikipedia/a', sourceIp: '203.0.113.42'
  })
  t.match(checked, { allowed: true })
  for (const job of ['active', 'rotated', 'scheduled']) t.match(await ask('POST', `/${named(job)?.id}/complete`), { dueAt: undefined, state: /revok/ })
}
