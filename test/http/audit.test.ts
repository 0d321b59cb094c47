import t from 'tap'
import type { NewAuditEvent } from '../../src/audit/event.ts'
import type { Audit } from '../../src/audit/log.ts'
import { ProblemError } from '../../src/problems.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

/** Which decisions are told to the audit; how it keeps them is test/audit's. */

const audited = async (t: Parameters<typeof bench>[0]) => {
  const events: NewAuditEvent[] = []
  const audit: Pick<Audit, 'record'> = { record: async event => { events.push(event) } }
  const it = await bench(t, { limits: { allowedBuckets: ['acmeco-*'], maxLifetimeSeconds: 30 * 86_400 }, outstanding: { perOwner: 1, total: 10 }, audit })
  events.length = 0
  const app = await appOf(t, it)
  const send = (token: string, method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object) =>
    app.inject({ method, url, headers: bearer(token), ...(payload && { payload }) })
  return { ...it, events, send }
}

t.test('a grant of another team that is asked for', async t => {
  const { events, send, tokens } = await audited(t)
  const { grant } = (await send(tokens.nlp, 'POST', '/v1/grants', guideJob())).json()
  const asked = [
    ['view', 'GET', ''], ['view', 'GET', '/events'], ['view', 'GET', '/blast-radius'], ['extend', 'PATCH', '', { window: { durationSeconds: 7200 } }],
    ['rotate', 'POST', '/rotate', {}], ['collect', 'POST', '/credentials', {}], ['revoke', 'POST', '/complete'], ['revoke', 'DELETE', '']
  ] as const
  for (const [action, method, path, payload] of asked) {
    events.length = 0
    t.equal((await send(tokens.vision, method, `/v1/grants/${grant.id}${path}`, payload)).statusCode, 404)
    t.match(events, [{
      actor: { id: 'token:vision' }, action: 'guardrail.deny', outcome: 'denied', team: 'nlp', grantId: grant.id, decidedBy: ['team isolation'], detail: { asked: action }
    }], `${method} ${path}`)
    t.equal(events.length, 1)
  }
  events.length = 0
  await send(tokens.vision, 'GET', '/v1/grants/01k00000000000009999999999')
  t.strictSame(events, [], 'one that nobody has is nobody’s')
})

t.test('a ceiling', async t => {
  const { events, send, tokens } = await audited(t)
  const cases: Array<[string, object]> = [
    ['bucket-refused', { output: { bucket: 'foreign-bucket' } }],
    ['window-too-long', { window: { durationSeconds: 31_536_000 } }],
    ['lifetime-too-long', { window: { notBefore: '2025-08-14T00:00:00Z', durationSeconds: 172_800 } }],
    ['window-too-far', { window: { notBefore: '2026-07-16T00:00:00Z', durationSeconds: 60 } }],
    ['ip-too-wide', { sourceIps: ['203.0.0.0/8'] }]
  ]
  for (const [code, change] of cases) {
    events.length = 0
    t.match((await send(tokens.nlp, 'POST', '/v1/grants', { ...guideJob(), ...change })).json(), { code })
    t.match(events, [{ action: 'ceiling.deny', outcome: 'denied', code, team: 'nlp', jobId: 'wiki-finetune-42', actor: { id: 'token:nlp' } }], code)
    t.equal(events.length, 1, code)
  }
  const { grant } = (await send(tokens.nlp, 'POST', '/v1/grants', guideJob())).json()
  events.length = 0
  await send(tokens.nlp, 'POST', '/v1/grants', guideJob({ job: { id: 'another', team: 'nlp' } }))
  t.match(events.at(-1), { action: 'ceiling.deny', code: 'too-many-grants', jobId: 'another' })
  events.length = 0
  await send(tokens.nlp, 'PATCH', `/v1/grants/${grant.id}`, { window: { durationSeconds: 31_536_000 } })
  t.match(events, [{ action: 'ceiling.deny', code: 'window-too-long', grantId: grant.id }])
  events.length = 0
  await send(tokens.nlp, 'POST', '/v1/grants', { ...guideJob(), sourceIps: ['10.0.0.1'] })
  t.strictSame(events, [], 'a request that is wrong in itself is no decision')
})

t.test('a policy that was not proven', async t => {
  const { events, service } = await audited(t)
  const request = { caller: null, ip: '127.0.0.1', requestId: 'req-1', grantId: undefined, job: guideJob().job }
  service.audit.answered(request, new ProblemError('policy-unproven'))
  t.match(events, [{ requestId: 'req-1', action: 'policy.unproven', outcome: 'denied', team: 'nlp', jobId: 'wiki-finetune-42' }])
})
