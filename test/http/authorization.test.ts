import { connect, type AddressInfo } from 'node:net'
import type { RouteOptions } from 'fastify'
import { pino } from 'pino'
import t from 'tap'
import { appOf, bearer, bench, guideJob } from '../harness.ts'
import { buildApp } from '../../src/http/app.ts'

const open = ['/', '/healthz', '/readyz', '/openapi.json', '/docs', '/console']

t.test('the route table: every route declares its authorization, and only health, documentation and the console’s files are open', async t => {
  const b = await bench(t)
  const routes: RouteOptions[] = []
  const app = await buildApp(b.service, {
    logger: false,
    newRequestId: () => 'req',
    onRoute: route => { routes.push(route) }
  })
  t.teardown(() => app.close())
  await app.ready()
  t.ok(routes.length > 15)
  for (const { method: methods, url, config } of routes) {
    const method = String(methods)
    const isOpen = open.some(path => url === path) || /^\/(docs|console)\//.test(url)
    t.equal(config?.authorization, isOpen ? 'public' : 'identity', `${method} ${url}`)
    if (isOpen) continue
    const path = url.replace(':id', '01k00000000000000000000000')
    for (const authorization of [undefined, '', 'Bearer', 'Bearer x', 'Basic YTpi', `bearer  ${b.tokens.nlp}x`]) {
      const answer = await app.inject({ method: method.split(',')[0] as 'GET', url: path, headers: authorization === undefined ? {} : { authorization } })
      t.equal(answer.statusCode, 401, `${method} ${url} with ${authorization ?? 'no header'}`)
    }
  }
})

t.test('a route that does not declare it keeps the service from starting, and is not open', async t => {
  const b = await bench(t)
  const app = await buildApp(b.service, { logger: false, newRequestId: () => 'req' })
  t.teardown(() => app.close())
  app.get('/oversight', async () => 'all of it')
  await t.rejects(async () => { await app.ready() }, { message: /^Routes without authorization: GET \/oversight/ })
})

t.test('no trick of path, method or header reaches a guarded route without a token', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const tricks = [
    '/v1/grants/', '//v1/grants', '/v1//grants', '/v1/grants%2f', '/V1/GRANTS', '/v1/grants/.', '/docs/../v1/grants', '/docs/%2e%2e/v1/grants',
    '/healthz/../v1/grants', '/v1/grants;x=y', '/v1/grants?x', '/%76%31/grants', '/docs/static/../../v1/grants', '/v1/grants#', '/v1/grants\\'
  ]
  for (const url of tricks) {
    for (const method of ['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT'] as const) {
      for (const headers of [{}, { 'x-original-url': '/healthz' }, { 'x-http-method-override': 'GET' }, { 'x-forwarded-prefix': '/healthz' }]) {
        const { statusCode, body } = await app.inject({ method, url, headers })
        t.ok([400, 401, 404, 405].includes(statusCode), `${method} ${url}: ${statusCode}`)
        t.notMatch(body, /"grants"/)
      }
    }
  }
})

t.test('the first address that a person tries leads to the console, also behind a prefix', async t => {
  const app = await appOf(t, await bench(t))
  const answer = await app.inject('/')
  t.match([answer.statusCode, answer.headers.location], [302, 'console'])
  t.equal((await app.inject('/console')).statusCode, 200)
  t.match((await app.inject('/console/')).headers.location, '../console')
})

t.test('a caller sees and touches the grants of its own team only', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const issued = await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: guideJob() })
  const { id } = issued.json().grant
  const asVision = bearer(b.tokens.vision)
  const attempts: Array<['GET' | 'POST' | 'PATCH' | 'DELETE', string, object?]> = [
    ['GET', ''], ['GET', '/events'], ['GET', '/explanation'], ['GET', '/blast-radius'], ['POST', '/check', { action: 's3:GetObject', bucket: 'acmeco-base-models' }],
    ['PATCH', '', { window: { durationSeconds: 60 } }], ['POST', '/rotate', {}], ['POST', '/credentials', {}], ['POST', '/complete'], ['DELETE', '']
  ]
  for (const [method, path, payload] of attempts) {
    const answer = await app.inject({ method, url: `/v1/grants/${id}${path}`, headers: asVision, ...(payload && { payload }) })
    t.equal(answer.statusCode, 404, `${method} ${path}: as if it were not there`)
    t.match(answer.json(), { code: 'grant-unknown' })
  }
  t.strictSame((await app.inject({ method: 'GET', url: '/v1/grants', headers: asVision })).json().grants, [])
  t.strictSame((await app.inject({ method: 'GET', url: '/v1/grants?team=nlp', headers: asVision })).json().grants, [])
  t.equal((await app.inject({ method: 'GET', url: '/v1/grants', headers: bearer(b.tokens.admin) })).json().grants.length, 1, 'an admin sees all')
  t.equal(b.iam.state.keyCount, 1, 'nothing was changed')
})

t.test('a flood of one identity is refused, the others go on', async t => {
  const b = await bench(t, { ratePerMinute: 3 })
  const app = await appOf(t, b)
  const list = (token: string) => app.inject({ method: 'GET', url: '/v1/grants', headers: bearer(token) })
  for (let i = 0; i < 3; i++) t.equal((await list(b.tokens.nlp)).statusCode, 200)
  const limited = await list(b.tokens.nlp)
  t.equal(limited.statusCode, 429)
  t.match(limited.json(), { code: 'rate-limited' })
  t.ok(Number(limited.headers['retry-after']) > 0)
  t.equal((await list(b.tokens.vision)).statusCode, 200)
})

t.test('a flood of bad tokens from one address is refused without a line each', async t => {
  const b = await bench(t, { refusalsPerMinute: 3 })
  const refusals: string[] = []
  b.service.audit = { ...b.service.audit, refused: (_from, reason) => { refusals.push(reason) } }
  const app = await appOf(t, b)
  const statuses: number[] = []
  for (let i = 0; i < 6; i++) statuses.push((await app.inject({ method: 'GET', url: '/v1/grants', headers: bearer(`jat_bad_${i}`) })).statusCode)
  t.strictSame(statuses, [401, 401, 401, 429, 429, 429])
  t.equal(refusals.length, 3, 'and three lines in the audit')
  const from = async (remoteAddress: string) =>
    (await app.inject({ method: 'GET', url: '/v1/grants', headers: bearer('jat_bad'), remoteAddress })).statusCode
  const addresses = ['2001:db8:1:2::1', '2001:db8:1:2::2', '2001:db8:1:2:3::1', '2001:db8:1:2:4::1', '2001:db8:1:3::1']
  const answers: number[] = []
  for (const address of addresses) answers.push(await from(address))
  t.strictSame(answers, [401, 401, 401, 429, 401], 'whoever has a /64 is one caller')
  t.equal((await app.inject({ method: 'GET', url: '/v1/grants', headers: bearer(b.tokens.nlp) })).statusCode, 200, 'a good token from there goes on')
})

t.test('headers that protect a browser come with every answer, refusals and what is no HTTP included', async t => {
  const logged: string[] = []
  const b = await bench(t)
  const app = await appOf(t, b, pino({ level: 'trace' }, { write: (line: string) => { logged.push(line) } }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const raw = (text: string): Promise<string> => new Promise((resolve, reject) => {
    let got = ''
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1', () => { socket.write(text) })
    socket.setEncoding('utf8').on('data', data => { got += data }).on('close', () => resolve(got)).on('error', reject)
  })
  const host = 'Host: a\r\nConnection: close\r\nAuthorization: Bearer jat_secret\r\n'
  const json = 'Content-Type: application/json\r\n'
  const requests: [status: number, detail: string | undefined, text: string][] = [
    [200, undefined, `GET /healthz HTTP/1.1\r\n${host}\r\n`],
    [401, undefined, `GET /v1/grants HTTP/1.1\r\n${host}\r\n`],
    [404, 'There is no GET /nothing.', `GET /nothing HTTP/1.1\r\n${host}\r\n`],
    [404, 'The path cannot be decoded.', `GET /%ff HTTP/1.1\r\n${host}\r\n`],
    [404, 'A part of the path is too long.', `GET /v1/grants/${'a'.repeat(254)} HTTP/1.1\r\n${host}\r\n`],
    [405, '/healthz takes GET, HEAD.', `PUT /healthz HTTP/1.1\r\n${host}\r\n`],
    [413, 'Request body is too large', `POST /v1/policies HTTP/1.1\r\n${host.replace('jat_secret', b.tokens.nlp)}${json}Content-Length: 70000\r\n\r\n`],
    [417, undefined, `POST /v1/policies HTTP/1.1\r\n${host}Expect: more\r\nContent-Length: 2\r\n\r\n{}`],
    [431, undefined, `GET /healthz HTTP/1.1\r\n${host}x: ${'a'.repeat(20_000)}\r\n\r\n`],
    [400, undefined, `NOTHING / HTTP/1.1\r\n${host}\r\n`],
    [400, undefined, `POST /v1/policies HTTP/1.1\r\n${host}${json}Transfer-Encoding: chunked\r\n\r\nno\r\n`]
  ]
  for (const [status, detail, text] of requests) {
    const name = `${status} ${text.slice(0, 30)}`
    const [head = '', body = ''] = (await raw(text)).split('\r\n\r\n')
    t.match(head, `HTTP/1.1 ${status} `, name)
    for (const header of ['x-content-type-options: nosniff', 'x-frame-options: SAMEORIGIN', 'cache-control: no-store']) t.match(head, header, name)
    if (status < 400 || status === 417) continue
    t.match(head, 'content-type: application/problem+json', name)
    t.match(JSON.parse(body), { status, ...(detail !== undefined && { detail }) }, name)
  }
  t.notMatch(logged.join(''), /jat_secret|rawPacket/, 'what was sent is not logged')
})
