import t from 'tap'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

const { sourceIps: _, ...sourceless } = guideJob()

t.test('a job of workers, from issue to end', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const ask = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object) => {
    const answer = await app.inject({ method, url, headers, ...(payload && { payload }) })
    return { status: answer.statusCode, body: answer.json(), headers: answer.headers }
  }
  const opened = await ask('POST', '/v1/grants', { ...sourceless, workers: { max: 2 } })
  t.match(opened, { status: 201, body: { credentials: null, grant: { workers: { max: 2 }, worker: null, source: {}, accessKeyId: null } } })
  t.notOk(opened.body.warnings.some(({ code }: { code: string }) => code === 'source-any'), 'nobody has a key that works from everywhere')
  const job = `/v1/grants/${opened.body.grant.id}`

  const joined = await ask('POST', `${job}/workers`, { name: 'trainer-0', attempt: '0', sourceIps: ['203.0.113.42'] })
  t.match(joined, {
    status: 201,
    headers: { 'cache-control': 'no-store', location: `/v1/grants/${joined.body.grant.id}` },
    body: {
      grant: {
        worker: { name: 'trainer-0', grantId: opened.body.grant.id }, workers: null, attempt: '0', source: { sourceIps: ['203.0.113.42/32'] }
      },
      credentials: { accessKeyId: String }
    }
  })
  t.ok(await b.client.callerIdentity(joined.body.credentials, Date.now() + 15_000))
  t.match(await ask('POST', `${job}/workers`, { name: 'trainer-0', sourceIps: ['203.0.113.42'] }), { status: 409, body: { code: 'key-delivered' } })
  const env = await app.inject({
    method: 'POST', url: `${job}/workers`, headers, payload: { name: 'trainer-1', sourceIps: ['203.0.113.43'], format: 'env' }
  })
  t.match([env.statusCode, env.body], [201, /^AWS_ACCESS_KEY_ID=/m])
  t.match(await ask('POST', `${job}/workers`, { name: 'trainer-2', sourceIps: ['203.0.113.44'] }), { status: 409, body: { code: 'workers-full' } })

  t.match(await ask('GET', `${job}/workers`), { status: 200, body: { grants: [{ worker: { name: 'trainer-1' } }, { worker: { name: 'trainer-0' } }] } })
  const first = await ask('GET', `${job}/workers?limit=1`)
  t.match(await ask('GET', `${job}/workers?limit=1&after=${first.body.next}`), { body: { grants: [{ worker: { name: 'trainer-0' } }], next: null } })
  t.match(await ask('GET', '/v1/grants'), { body: { grants: [{ id: opened.body.grant.id }], next: null } }, 'a list of grants has no workers')
  t.equal((await ask('GET', '/v1/grants')).body.grants.length, 1)
  t.match(await ask('GET', `${job}/workers/trainer-0`), { status: 200, body: { id: joined.body.grant.id, state: 'active' } })
  t.match(await ask('GET', `${job}/workers/${'n'.repeat(253)}`), { status: 404, body: { code: 'worker-unknown' } }, 'as long as a name may be')
  t.match(await ask('GET', `${job}/workers/nobody`), { status: 404, body: { code: 'worker-unknown' } })

  t.match(await ask('PATCH', job, { window: { durationSeconds: 20_000 } }), { status: 200, body: { notice: null } })
  t.match(await ask('GET', `${job}/workers/trainer-0`), { body: { window: { notAfter: '2025-07-16T06:03:20Z' } } })
  await b.ledger.claim(joined.body.grant.id, b.clock.now, b.clock.now + 1_000)
  t.match(await ask('PATCH', job, { window: { durationSeconds: 10_000 } }),
    { status: 202, headers: { 'retry-after': '5' }, body: { notice: /Some workers still/ } }, 'one is busy')
  b.clock.advance(2_000)

  t.match(await ask('DELETE', `${job}/workers/trainer-0?attempt=9`), { status: 409, body: { code: 'worker-replaced', detail: /attempt "0"/ } })
  for (const query of ['attempt=', 'atempt=0', 'attempt=0&attempt=0', 'attempt=a%20b']) {
    t.match(await ask('DELETE', `${job}/workers/trainer-0?${query}`), { status: 400, body: { code: 'request-invalid' } }, query)
  }
  t.match(await ask('DELETE', `${job}/workers/trainer-0`, { attempt: '0' }), { status: 400, body: { code: 'request-invalid', pointer: '/attempt' } })
  t.match(await ask('DELETE', `${job}/workers/trainer-0?attempt=0`), { status: 200, body: { state: 'revoked' } })
  t.match(await ask('GET', `${job}/workers?state=active`), { body: { grants: [{ worker: { name: 'trainer-1' } }], next: null } })
  t.equal((await ask('GET', `${job}/workers?state=live`)).body.grants.length, 1)
  t.match(await ask('GET', '/v1/grants?state=live'), { body: { grants: [{ id: opened.body.grant.id }] } })
  t.match(await ask('POST', `${job}/complete`), { status: 200, body: { state: 'revoked' } })
  t.match(await ask('GET', `${job}/workers?state=active`), { body: { grants: [] } })
  t.equal(b.iam.state.userCount, 0)
})

t.test('another team neither sees nor joins it', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const opened = await app.inject({
    method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: { ...sourceless, workers: { max: 2 } }
  })
  const job = `/v1/grants/${opened.json().grant.id}`
  const headers = bearer(b.tokens.vision)
  for (const [method, url, payload] of [
    ['POST', `${job}/workers`, { name: 'w', sourceIps: ['203.0.113.42'] }], ['GET', `${job}/workers`], ['GET', `${job}/workers/w`],
    ['DELETE', `${job}/workers/w`]
  ] as Array<['GET' | 'POST' | 'DELETE', string, object?]>) {
    const answer = await app.inject({ method, url, headers, ...(payload && { payload }) })
    t.match([answer.statusCode, answer.json().code], [404, 'grant-unknown'], `${method} ${url}`)
  }
})
