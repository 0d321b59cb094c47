import t from 'tap'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { appOf, bearer, bench, callerNamed, guideJob } from '../harness.ts'

const sourceIps = Array.from({ length: 50 }, (_, index) => `203.0.${2 * index}.1`)
/** It has 39 statements with 50 addresses each. */
const tooLarge = guideJob({ datasets: Array.from({ length: 30 }, (_, index) => ({ bucket: `acmeco-data-${index}`, sid: `D${index}` })), sourceIps })
const caller = callerNamed('token:nlp', ['nlp'])

t.test('what does not fit into a policy is refused before the guardrails and the proof are asked', async t => {
  const b = await bench(t)
  const { current } = b.deps.guardrails
  let asked = 0
  b.deps.guardrails = { current: { ...current, decide: (...question) => { asked++; return current.decide(...question) } } }
  await t.rejects(issue(b.deps, caller, { request: tooLarge }), { code: 'policy-too-large' })
  const app = await appOf(t, b)
  const preflight = await app.inject({ method: 'POST', url: '/v1/policies?preflight=true', headers: bearer(b.tokens.nlp), payload: tooLarge })
  t.equal(preflight.json().code, 'policy-too-large')
  t.equal(asked, 0)
  await issue(b.deps, caller, { request: guideJob() })
  t.equal(asked, 1)
})

t.test('issue, extension and preflight compute in turns; probes, reads and ends do not wait for one', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const { grant } = await issue(b.deps, caller, { request: guideJob() })
  const waiting: Array<() => void> = []
  b.deps.turn = () => new Promise(resolve => { waiting.push(resolve) })
  const call = (method: 'GET' | 'POST', url: string, payload?: object) =>
    app.inject({ method, url, headers: bearer(b.tokens.nlp), ...(payload && { payload }) })
  const issuing = call('POST', '/v1/grants', guideJob({ job: { id: 'another', team: 'nlp' } }))
  const rendering = call('POST', '/v1/policies?preflight=true', guideJob())
  const extending = extend(b.deps, caller, grant.id, { window: { durationSeconds: 60 } })
  while (waiting.length < 3) await new Promise(setImmediate)
  for (const url of ['/healthz', '/readyz', `/v1/grants/${grant.id}`]) t.equal((await call('GET', url)).statusCode, 200, url)
  b.deps.turn = async () => {}
  for (const go of waiting) go()
  t.equal((await issuing).statusCode, 201)
  t.equal((await rendering).statusCode, 200)
  await extending
  b.deps.turn = () => new Promise(() => {})
  t.equal((await call('POST', `/v1/grants/${grant.id}/complete`)).statusCode, 200)
})
