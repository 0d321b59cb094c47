import { Writable } from 'node:stream'
import { pino } from 'pino'
import t from 'tap'
import { inContext } from '../../src/http/log-context.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { logOptions } from '../../src/log.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

t.test('a request, its grant and what the lifecycle says meanwhile can be found by their ids', async t => {
  const lines: Array<Record<string, unknown>> = []
  const log = pino(logOptions('info'), new Writable({ write (chunk, _encoding, done) { lines.push(JSON.parse(String(chunk))); done() } }))
  const b = await bench(t, { log: inContext(log) })
  const app = await appOf(t, b, log)
  const headers = bearer(b.tokens.nlp)
  const since = async (work: () => Promise<unknown>) => {
    lines.length = 0
    await work()
    return lines.map(({ msg, reqId, grantId }) => ({ msg, reqId, grantId }))
  }
  const post = (payload: object) => app.inject({ method: 'POST', url: '/v1/grants', headers, payload })

  let id = ''
  const issued = await since(async () => { id = (await post(guideJob())).json().grant.id })
  t.match(issued.at(-1), { msg: 'request completed', reqId: 'req-1', grantId: id }, 'of a new grant')

  const looked = await since(() => app.inject({ url: `/v1/grants/${id}`, headers }))
  t.match(looked.at(-1), { msg: 'request completed', reqId: 'req-2', grantId: id }, 'of a path')
  const listed = await since(() => app.inject({ url: '/v1/grants', headers }))
  t.strictSame(listed.at(-1), { msg: 'request completed', reqId: 'req-3', grantId: undefined })
  const refused = await since(() => post({}))
  t.strictSame(refused.map(({ msg }) => msg), ['request completed'], 'one line, also of a refusal')
  t.match(lines, [{ level: 30, req: { method: 'POST', path: '/v1/grants' }, statusCode: 400, code: 'request-invalid' }])
  for (const path of ['/healthz', '/readyz']) t.strictSame(await since(() => app.inject(path)), [], 'none of a probe')
  const nonsense = await since(() => app.inject({ url: '/v1/grants/not%0Aan-id', headers }))
  t.ok(nonsense.every(line => line.grantId === undefined), 'what is no id is not taken for one')

  b.iam.faults.on({ action: 'CreateUser', times: 1 }, { kind: 'error', code: 'AccessDenied' })
  const failed = await since(() => post(guideJob({ job: { id: 'second', team: 'nlp' } })))
  const told = failed.find(line => line.msg === 'issue failed; tearing down')
  t.equal(told?.reqId, 'req-8', 'the lifecycle names the request that it served')
  t.ok(told?.grantId)

  b.clock.advance(24 * 3600_000)
  b.iam.faults.on({ action: 'DeleteAccessKey', times: 1 }, { kind: 'error', code: 'AccessDenied' })
  const swept = await since(() => sweep(b.deps, { concurrency: 4, perSecond: 1000 }, new AbortController().signal))
  t.ok(swept.every(line => line.reqId === undefined), 'and the sweeper none')
})
