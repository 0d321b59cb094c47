import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mock } from 'node:test'
import t from 'tap'
import { createClient, NoAnswerError, ProblemError, type ClientOptions } from '../../src/client/index.ts'
import { appOf, bench, guideJob } from '../harness.ts'

t.test('every operation has a method, and works against the service', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const called = new Set<string>()
  const client = createClient({
    url,
    token: async () => b.tokens.nlp,
    async fetch (input, init) {
      called.add(`${init?.method} ${new URL(String(input)).pathname.replace(/01k[0-9a-z]{23}/, '{id}').replace(/(workers)\/.*/, '$1/{name}')}`)
      return fetch(input, init)
    }
  })
  const { grant, credentials } = await client.issue(guideJob())
  t.equal(await b.client.callerIdentity(credentials ?? { accessKeyId: '', secretAccessKey: '' }, Date.now() + 15_000),
    `arn:aws:iam::000000000000:user${grant.user.path}${grant.user.name}`, 'the key works')
  t.same(await client.get(grant.id), grant)
  const listed = await client.list({ state: 'active', team: 'nlp', limit: 1 })
  t.strictSame(listed.grants.map(({ id }) => id), [grant.id])
  const rotated = await client.rotate(grant.id, 60)
  t.equal(rotated.grant.previousKey?.accessKeyId, credentials?.accessKeyId)
  const asText = await client.rotateAs('env', grant.id)
  t.match(asText, { grantId: grant.id, text: /^AWS_ACCESS_KEY_ID=/m })
  t.equal((await client.extend(grant.id, { window: { durationSeconds: 14_400 } })).window.notAfter, '2025-07-16T04:30:00Z')
  const question = { action: 's3:PutObject', bucket: 'acmeco-finetuned-models', key: 'model', sourceIp: '203.0.113.42' }
  t.equal((await client.check(grant.id, question)).allowed, true)
  t.equal((await client.checkPolicy({ request: guideJob(), question: { ...question, bucket: 'acmeco-base-models' } })).allowed, false)
  t.strictSame((await client.policy(guideJob(), { preflight: true })).proof !== null, true)
  t.equal((await client.policy(guideJob())).proof, null)
  t.match((await client.events(grant.id)).events.map(({ action }) => action), ['pending', 'active'])
  t.match((await client.explain(grant.id)).explanation, [{ effect: 'Allow', text: /read objects/ }])
  t.match((await client.blastRadius(grant.id)).words, [/./])
  t.equal((await client.complete(grant.id)).state, 'revoked')
  t.equal((await client.complete(grant.id)).state, 'revoked', 'twice')
  const { grant: scheduled } = await client.issue(guideJob({ job: { id: 'later', team: 'nlp' }, issueAt: '2025-07-16T00:31:00Z' }))
  b.clock.advance(60_000)
  t.ok((await client.credentials(scheduled.id)).credentials)
  t.equal((await client.revoke(scheduled.id)).state, 'revoked')
  const { sourceIps = [], ...sourceless } = guideJob({ job: { id: 'workers', team: 'nlp' } })
  const { grant: job } = await client.issue({ ...sourceless, workers: { max: 2 } })
  const joined = await client.join(job.id, { name: 'w-0', attempt: '0', sourceIps })
  t.match(joined, { grant: { worker: { name: 'w-0', grantId: job.id } }, credentials: { accessKeyId: /^AKIA/ } })
  t.match(await client.joinAs('env', job.id, { name: 'w-1', sourceIps }), { text: /^AWS_ACCESS_KEY_ID=/m })
  t.match((await client.workers(job.id, { state: 'active' })).grants.map(({ worker }) => worker?.name), ['w-1', 'w-0'])
  t.match(await client.endWorker(job.id, 'w-0', { attempt: 'earlier+1' }).catch(error => error), { code: 'worker-replaced', status: 409 })
  t.match(await client.endWorker(job.id, 'w-0'), { id: joined.grant.id, state: 'revoked' })
  t.match(await client.worker(job.id, 'w-0'), { id: joined.grant.id, state: 'revoked' })
  await client.complete(job.id)
  t.equal(b.iam.state.userCount, 0)

  const document = JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8'))
  const operations = Object.entries<object>(document.paths)
    .flatMap(([path, methods]) => Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`))
  t.strictSame([...called].sort(), operations.filter(name => name.includes('/v1/')).sort())
})

t.test('calls of their own make grants of their own; one key makes one', async t => {
  const b = await bench(t)
  const url = await (await appOf(t, b)).listen({ host: '127.0.0.1', port: 0 })
  const client = createClient({ url, token: b.tokens.nlp })
  const ids = new Set<string>()
  for (const how of [{}, {}, { idempotencyKey: 'k' }, { idempotencyKey: 'k' }, { idempotencyKey: null }]) {
    ids.add((await client.issueAs('credential-process', guideJob(), how)).grantId)
  }
  t.equal(ids.size, 4)
  const byJob = { idempotencyKey: null }
  t.match(await client.issue(guideJob(), byJob).catch((error: unknown) => error), { code: 'key-delivered', status: 409 })
  ids.add((await client.issueAs('env', { ...guideJob(), attempt: '2' }, byJob)).grantId)
  t.equal(ids.size, 4, 'another start has the job’s grant')
})

t.test('a refusal is a ProblemError with its place and its hint', async t => {
  const b = await bench(t)
  const url = await (await appOf(t, b)).listen({ host: '127.0.0.1', port: 0 })
  const client = createClient({ url, token: b.tokens.nlp })
  const refused = await client.issue(guideJob({ datasets: [{ bucket: 'No' }], sourceIps: ['0.0.0.0/0'] })).catch((error: unknown) => error)
  t.ok(refused instanceof ProblemError)
  t.match(refused, { name: 'ProblemError', status: 422, code: 'bucket-invalid', pointer: '/datasets/0/bucket', hint: /./, requestId: /./ })
  t.match((refused as ProblemError).errors.map(({ code }) => code), ['bucket-invalid', 'bucket-invalid', 'ip-everyone'])
  t.match(await createClient({ url, token: 'nobody' }).list().catch((error: unknown) => error), { status: 401, code: 'unauthenticated' })
})

const problem = (status: number, code: string, headers: Record<string, string> = {}) =>
  () => new Response(JSON.stringify({ type: '', title: '', status, code, detail: code, requestId: 'r' }),
    { status, headers: { 'content-type': 'application/problem+json', ...headers } })
const page = (status: number) => () => new Response('<html>', { status, headers: { 'content-type': 'text/html' } })
const done = () => new Response('{"grant":{"id":"x"}}', { status: 200, headers: { 'content-type': 'application/json' } })
const broken = (code: string) => () => { throw new TypeError('fetch failed', { cause: Object.assign(new Error(code), { code }) }) }

/** A client whose network is a list of answers. */
const scripted = (answers: (() => Response)[], options: Partial<ClientOptions> = {}) => {
  const waits: number[] = []
  const sent: RequestInit[] = []
  const client = createClient({
    url: 'https://job-access.test',
    token: 'secret-token',
    async fetch (_url, init = {}) {
      sent.push(init)
      const answer = answers[sent.length - 1]
      if (!answer) throw new Error('one attempt too many')
      return answer()
    },
    async sleep (ms) { waits.push(ms) },
    ...options
  })
  return { client, waits, sent }
}

t.test('what is sent again, and when', async t => {
  const rounded = (ms: number) => ms < 250 || ms > 10_000 ? ms : ms % 1000 === 0 ? ms : 'backoff'
  const cases: [string, 'issue' | 'rotate' | 'complete', (() => Response)[], (number | 'backoff')[], 'done' | object][] = [
    ['503 with Retry-After', 'issue', [problem(503, 'iam-unavailable', { 'retry-after': '5' }), done], [5000], 'done'],
    ['503 without', 'issue', [problem(503, 'shutting-down'), done], ['backoff'], 'done'],
    ['429', 'issue', [problem(429, 'rate-limited', { 'retry-after': '7' }), done], [7000], 'done'],
    ['409 that passes', 'issue', [problem(409, 'idempotency-busy', { 'retry-after': '1' }), done], [1000], 'done'],
    ['409 that stays', 'issue', [problem(409, 'idempotency-conflict')], [], { code: 'idempotency-conflict' }],
    ['422', 'issue', [problem(422, 'ip-everyone')], [], { code: 'ip-everyone' }],
    ['500', 'complete', [problem(500, 'internal')], [], { code: 'internal' }],
    ['502 of the service', 'complete', [problem(502, 'iam-refused')], [], { code: 'iam-refused' }],
    ['502 of a proxy', 'complete', [page(502), done], ['backoff'], 'done'],
    ['404 of a stranger', 'complete', [page(404)], [], { name: 'NoAnswerError', status: 404 }],
    ['200 of a stranger', 'complete', [page(200)], [], { name: 'NoAnswerError', status: 200 }],
    ['longer than the deadline', 'issue', [problem(429, 'too-many-grants', { 'retry-after': '60' })], [], { code: 'too-many-grants' }],
    ['a lost answer', 'issue', [broken('ECONNRESET'), done], ['backoff'], 'done'],
    ['a lost answer of rotate', 'rotate', [broken('ECONNRESET')], [], { name: 'NoAnswerError', message: /ECONNRESET/ }],
    ['rotate that was never sent', 'rotate', [broken('ECONNREFUSED'), done], ['backoff'], 'done'],
    ['rotate, 503', 'rotate', [problem(503, 'iam-unavailable', { 'retry-after': '5' }), done], [5000], 'done']
  ]
  for (const [name, verb, answers, waits, outcome] of cases) {
    const s = scripted(answers)
    const call = verb === 'issue' ? s.client.issue(guideJob()) : verb === 'rotate' ? s.client.rotate('x') : s.client.complete('x')
    const result = await call.then(() => 'done', (error: unknown) => error)
    t.match(result, outcome, name)
    t.strictSame(s.waits.map(rounded), waits, `${name}: waits`)
    t.equal(s.sent.length, answers.length, `${name}: attempts`)
    if (verb === 'issue') {
      const keys = new Set(s.sent.map(({ headers }) => new Headers(headers).get('idempotency-key')))
      t.equal(keys.size, 1, `${name}: one key`)
      t.match([...keys][0], /^[0-9a-f-]{36}$/)
    }
  }
})

t.test('a request without an Idempotency-Key is sent again only if that ends no key of another process', async t => {
  const cases: [string, object, boolean][] = [
    ['the job alone', {}, false],
    ['replace: false', { replace: false }, false],
    ['the same attempt', { attempt: '1' }, true],
    ['replace', { replace: true }, true],
    ['a job of workers has no key', { workers: { max: 2 } }, true]
  ]
  for (const [name, change, again] of cases) {
    const s = scripted([broken('ECONNRESET'), done])
    const result = await s.client.issue({ ...guideJob(), ...change }, { idempotencyKey: null }).then(() => 'done', (error: unknown) => error)
    t.match(result, again ? 'done' : { name: 'NoAnswerError', message: /ECONNRESET/ }, name)
    t.equal(s.sent.length, again ? 2 : 1, name)
    t.notOk(new Headers(s.sent[0]?.headers).has('idempotency-key'))
    const text = scripted([broken('ECONNRESET'), () => new Response('', { headers: { 'content-type': 'text/x-env', 'job-access-grant': 'x' } })])
    await text.client.issueAs('env', { ...guideJob(), ...change }, { idempotencyKey: null }).catch(() => {})
    t.equal(text.sent.length, again ? 2 : 1, `${name}, as text`)
  }
  const unsent = scripted([broken('ECONNREFUSED'), done])
  await unsent.client.issue(guideJob(), { idempotencyKey: null })
  t.equal(unsent.sent.length, 2, 'one that was never sent is')
})

t.test('the deadline ends it', async t => {
  // The client's clock stands still, since a busy machine needs more than the 150 ms that are left.
  mock.timers.enable({ apis: ['Date'] })
  t.teardown(() => mock.timers.reset())
  const s = scripted(Array.from({ length: 3 }, () => broken('ECONNREFUSED')), { deadlineMs: 400 })
  await t.rejects(s.client.complete('x'), { name: 'NoAnswerError' })
  t.equal(s.sent.length, 2, '250 ms fit, 500 ms do not')
})

t.test('lastAttempt ends it', async t => {
  const end = new AbortController()
  const s = scripted([broken('ECONNREFUSED')], { lastAttempt: end.signal, async sleep () { end.abort() } })
  await t.rejects(s.client.complete('x'), { name: 'NoAnswerError' })
  t.equal(s.sent.length, 1)
})

t.test('a server that never answers is given up', async t => {
  const server = createServer(() => {})
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const { port } = server.address() as AddressInfo
  const client = createClient({ url: `http://127.0.0.1:${port}`, token: 'x', deadlineMs: 300 })
  await t.rejects(client.complete('x'), { name: 'NoAnswerError', message: /time is up/ })
})

t.test('the token stays between client and service', async t => {
  for (const url of ['http://job-access.test', 'ftp://job-access.test', 'https://user:pass@job-access.test', 'nonsense']) {
    t.throws(() => createClient({ url, token: 'x' }), TypeError, url)
  }
  t.throws(() => createClient({ url: 'ftp://job-access.test', token: 'x', allowHttp: true }), TypeError)
  t.ok(createClient({ url: 'http://job-access.test', token: 'x', allowHttp: true }))

  const bad = scripted([], { token: 'secret\ntoken' })
  const error = await bad.client.list().catch((error: unknown) => error)
  t.ok(error instanceof TypeError)
  t.notMatch(String(error), /secret/)

  let asked = 0
  const renewed = scripted([problem(503, 'shutting-down'), done], { token: () => `token-${++asked}` })
  await renewed.client.list()
  t.strictSame(renewed.sent.map(({ headers }) => new Headers(headers).get('authorization')), ['Bearer token-1', 'Bearer token-2'])

  const seen: string[] = []
  const elsewhere = createServer((request, response) => { seen.push(request.url ?? ''); response.end('{}') })
  const here = createServer((_request, response) => {
    response.writeHead(307, { location: `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/stolen` }).end()
  })
  for (const server of [elsewhere, here]) {
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => { server.closeAllConnections(); server.close() })
  }
  const client = createClient({ url: `http://127.0.0.1:${(here.address() as AddressInfo).port}`, token: 'x', deadlineMs: 200 })
  await t.rejects(client.complete('x'), NoAnswerError)
  t.strictSame(seen, [])
})

t.test('a join whose answer was lost is sent again only when it says that it ends the key', async t => {
  let sent = 0
  const client = createClient({
    url: 'http://127.0.0.1:1',
    token: 'x',
    sleep: async () => {},
    deadlineMs: 3_000,
    fetch: async () => {
      sent++
      if (sent % 2 === 1) throw Object.assign(new TypeError('fetch failed'), { cause: Object.assign(new Error('reset'), { code: 'ECONNRESET' }) })
      return new Response('{}', { headers: { 'content-type': 'application/json' } })
    }
  })
  for (const [request, again] of [[{}, false], [{ attempt: '0' }, true], [{ replace: true }, true], [{ replace: false }, false]] as const) {
    sent = 0
    const asked = client.join('01k00000000000000000000000', { name: 'w', source: 'observed', ...request })
    if (again) t.strictSame(await asked, {})
    else await t.rejects(asked, NoAnswerError)
    t.equal(sent, again ? 2 : 1, JSON.stringify(request))
  }
})
