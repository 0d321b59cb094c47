import { readFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import type { InjectOptions, RouteOptions } from 'fastify'
import t from 'tap'
import { AuditUnavailable } from '../../src/audit/log.ts'
import { buildApp } from '../../src/http/app.ts'
import { StaleGrantError } from '../../src/ledger/ledger.ts'
import { problems } from '../../src/problems.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

/** A parser that keeps the last of two would widen or narrow what the first says. */
const twice = `{"sourceIps":["198.51.100.7"],${JSON.stringify(guideJob()).slice(1)}`

/** name, request, status, code, pointer */
type Case = [string, { method?: 'GET' | 'POST' | 'DELETE', url?: string, headers?: Record<string, string>, payload?: unknown }, number, string, string?]

const unknownId = '01k99999999999999999999999'
const cases: Case[] = [
  ['no token', { headers: { authorization: '' } }, 401, 'unauthenticated'],
  ['a wrong token', { headers: { authorization: 'Bearer jat_nope_000' } }, 401, 'unauthenticated'],
  ['an unknown field', { payload: { ...guideJob(), sourceIPs: ['203.0.113.1'] } }, 400, 'request-invalid', '/sourceIPs'],
  ['an unknown field inside', { payload: guideJob({ datasets: [{ bucket: 'acmeco-data', level: 'write' } as never] }) }, 400, 'request-invalid', '/datasets/0/level'],
  ['a missing field', { payload: { job: { id: 'a', team: 'nlp' } } }, 400, 'request-invalid', '/window'],
  ['a number as a string', { payload: guideJob({ window: { durationSeconds: '3600' as never } }) }, 400, 'request-invalid', '/window/durationSeconds'],
  ['a string as a list', { payload: guideJob({ sourceIps: '203.0.113.1' as never }) }, 400, 'request-invalid', '/sourceIps'],
  ['an unknown layout', { payload: guideJob({ layout: 'loose' as never }) }, 400, 'request-invalid', '/layout'],
  ['not JSON', { payload: '{', headers: { 'content-type': 'application/json' } }, 400, 'request-malformed'],
  ['a prototype', { payload: '{"__proto__":{"a":1}}', headers: { 'content-type': 'application/json' } }, 400, 'request-malformed'],
  ['a field twice', { payload: twice, headers: { 'content-type': 'application/json' } }, 400, 'request-malformed'],
  ['a field twice, deep, in another spelling', { payload: JSON.stringify(guideJob()).replace('"durationSeconds"', '"dur\\u0061tionSeconds":60,"durationSeconds"'), headers: { 'content-type': 'application/json' } }, 400, 'request-malformed'],
  ['as deep as a body can be', { payload: '['.repeat(32_000) + ']'.repeat(32_000), headers: { 'content-type': 'application/json' } }, 400, 'request-invalid'],
  ['plain text', { payload: JSON.stringify(guideJob()), headers: { 'content-type': 'text/plain' } }, 415, 'media-type-unsupported'],
  ['another media type', { payload: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } }, 415, 'media-type-unsupported'],
  ['too large', { payload: JSON.stringify({ job: 'x'.repeat(70_000) }), headers: { 'content-type': 'application/json' } }, 413, 'request-too-large'],
  ['no acceptable format', { payload: guideJob(), headers: { accept: 'image/png' } }, 406, 'not-acceptable'],
  ['no such route', { method: 'GET', url: '/v2/grants' }, 404, 'route-unknown'],
  // Such as one that `npm ci` replaces while the service runs.
  ['no such file of the documentation', { method: 'GET', url: '/docs/static/no-such.js' }, 404, 'route-unknown'],
  ['no such file of the console', { method: 'GET', url: '/console/no-such.js' }, 404, 'route-unknown'],
  ['a path that cannot be decoded', { method: 'GET', url: '/v1/grants/%ff' }, 404, 'route-unknown'],
  ['no such grant', { method: 'GET', url: `/v1/grants/${unknownId}` }, 404, 'grant-unknown'],
  ['not an id', { method: 'GET', url: '/v1/grants/1' }, 400, 'request-invalid'],
  ['an unknown query parameter', { method: 'GET', url: '/v1/grants?teams=nlp' }, 400, 'request-invalid', '/teams'],
  ['a query parameter of a route that has none', { url: '/v1/grants?dryRun=1', payload: guideJob() }, 400, 'request-invalid', '/dryRun'],
  ['the same, to an end', { url: `/v1/grants/${unknownId}/complete?force=1` }, 400, 'request-invalid', '/force'],
  ['a coded body', { payload: JSON.stringify(guideJob()), headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' } }, 415, 'media-type-unsupported'],
  ['a body that says it is not coded', { payload: guideJob({ sourceIps: ['10.0.0.1'] }), headers: { 'content-encoding': 'Identity' } }, 422, 'ip-private'],
  ['another charset', { payload: JSON.stringify(guideJob()), headers: { 'content-type': 'application/json; charset=utf-16' } }, 415, 'media-type-unsupported'],
  ['the charset of JSON', { payload: JSON.stringify(guideJob({ sourceIps: ['10.0.0.1'] })), headers: { 'content-type': 'application/json; charset="UTF-8"' } }, 422, 'ip-private'],
  ['a parameter of the media type', { payload: JSON.stringify(guideJob()), headers: { 'content-type': 'application/json; version=2' } }, 415, 'media-type-unsupported'],
  ['a parameter of the media type beside the charset', { payload: JSON.stringify(guideJob()), headers: { 'content-type': 'application/json; charset=utf-8; version=2' } }, 415, 'media-type-unsupported'],
  ['a byte order mark', { payload: `\ufeff${JSON.stringify(guideJob())}`, headers: { 'content-type': 'application/json' } }, 400, 'request-malformed'],
  ['a coding that nobody knows', { payload: JSON.stringify(guideJob()), headers: { 'content-type': 'application/json', 'content-encoding': 'x-own' } }, 415, 'media-type-unsupported'],
  ['bytes that are no UTF-8', { payload: Buffer.from('{"job":"\xff"}', 'latin1'), headers: { 'content-type': 'application/json' } }, 400, 'request-malformed'],
  ['a body to a GET', { method: 'GET', payload: { team: 'nlp' } }, 400, 'request-invalid', ''],
  ['a body in chunks to a GET', { method: 'GET', headers: { 'transfer-encoding': 'chunked' } }, 400, 'request-invalid', ''],
  ['a number in a URL that is not written in digits', { method: 'GET', url: '/v1/grants?limit=0x10' }, 400, 'request-invalid', '/limit'],
  ['a number in a URL with an exponent', { method: 'GET', url: '/v1/grants?limit=1e1' }, 400, 'request-invalid', '/limit'],
  ['a number in a URL with a blank', { method: 'GET', url: '/v1/grants?limit=%2010' }, 400, 'request-invalid', '/limit'],
  ['a truth in a URL that is a number', { url: '/v1/policies?preflight=1', payload: guideJob() }, 400, 'request-invalid', '/preflight'],
  ['a reason to complete', { url: `/v1/grants/${unknownId}/complete`, payload: { 'exit/code': 1 } }, 400, 'request-invalid', '/exit~1code'],
  ['a body that is no object, to an end', { method: 'DELETE', url: `/v1/grants/${unknownId}`, payload: '[]', headers: { 'content-type': 'application/json' } }, 400, 'request-invalid', ''],
  ['an empty object, to an end', { url: `/v1/grants/${unknownId}/complete`, payload: {} }, 404, 'grant-unknown'],
  ['no bucket asked for', { payload: { job: { id: 'a', team: 'nlp' }, window: { durationSeconds: 60 }, sourceIps: ['203.0.113.1'] } }, 422, 'access-missing'],
  ['a wildcard in a bucket', { payload: guideJob({ datasets: [{ bucket: 'acmeco-*' }] }) }, 422, 'bucket-invalid', '/datasets/0/bucket'],
  ['a variable in a prefix', { payload: guideJob({ output: { bucket: 'acmeco-out', prefix: `$${'{aws:username}'}/` } }) }, 422, 'prefix-invalid', '/output/prefix'],
  ['everyone', { payload: guideJob({ sourceIps: ['0.0.0.0/0'] }) }, 422, 'ip-everyone', '/sourceIps/0'],
  ['a private address', { payload: guideJob({ sourceIps: ['10.0.0.1'] }) }, 422, 'ip-private', '/sourceIps/0'],
  ['host bits', { payload: guideJob({ sourceIps: ['203.0.113.42/24'] }) }, 422, 'ip-host-bits', '/sourceIps/0'],
  ['a window that is over', { payload: guideJob({ window: { notAfter: '2025-07-16T00:00:00Z' } }) }, 422, 'window-over', '/window/notAfter'],
  ['a time without a zone', { payload: guideJob({ window: { notAfter: '2025-07-16T03:00:00' } }) }, 422, 'time-invalid', '/window/notAfter'],
  ['a session without a profile', { payload: guideJob({ attach: 'session' }) }, 422, 'session-unfit', '/profile'],
  ['a key after the window', { payload: guideJob({ issueAt: '2025-07-17T00:00:00Z', window: { notAfter: '2025-07-16T04:00:00Z' } }) }, 422, 'window-invalid', '/issueAt'],
  ['a question about no action', { url: '/v1/policies/check', payload: { request: guideJob(), question: { action: '0:0', bucket: 'acmeco-base-models' } } },
    422, 'question-invalid', '/question/action'],
  ['a question about an object without a key', { url: '/v1/policies/check', payload: { request: guideJob(), question: { action: 's3:GetObject', bucket: 'acmeco-base-models' } } },
    422, 'question-invalid', '/question/key'],
  ['the grants of another team', { payload: guideJob({ job: { id: 'x', team: 'vision' } }) }, 403, 'forbidden', '/job/team']
]

t.test('every refusal is problem+json with a stable code, a pointer and a hint', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  for (const [name, { method = 'POST', url = '/v1/grants', headers = {}, payload }, status, code, pointer] of cases) {
    const answer = await app.inject({
      method, url, headers: { ...bearer(b.tokens.nlp), ...headers }, ...(payload !== undefined && { payload: payload as object })
    })
    t.equal(answer.statusCode, status, name)
    t.match(answer.headers['content-type'], /^application\/problem\+json/, name)
    t.equal(answer.headers['cache-control'], 'no-store', name)
    const body = answer.json()
    t.match(body, { code, status, type: `urn:job-access:problem:${code}`, requestId: /^req-/ }, name)
    t.ok(body.detail, name)
    if (status !== 500) t.ok(body.hint, `${name}: says what to do`)
    if (pointer !== undefined) t.equal(body.pointer, pointer, name)
    if (status === 401) t.match(answer.headers['www-authenticate'], /^Bearer/)
  }
  t.equal(b.iam.state.userCount, 0, 'nothing was issued')
  t.strictSame(b.iam.calls.map(call => call.action), [], 'and IAM was never asked')
})

t.test('a text that breaks a pattern: the character, its position, and what is allowed', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const job = (fields: object) => ({ payload: guideJob({ job: { id: 'a', team: 'nlp', ...fields } }) })
  const word = 'A to Z, a to z, 0 to 9, `.`, `_`, `-`'
  const label = 'A to Z, a to z, 0 to 9, `_`, `.`, `:`, `/`, `=`, `+`, `@`, `-`'
  const ofLabel = label.replace('0 to 9', '0 to 9, the space')
  const workers = `/v1/grants/${unknownId}/workers`
  const texts: [name: string, request: InjectOptions, pointer: string, detail: string, hint: string][] = [
    ['label', job({ labels: { 'a/b': 'lr[3]' } }), '/job/labels/a~1b', 'The value has `[` at character 3, `]` at character 5.', `Allowed: ${ofLabel}. Write \`-\` instead.`],
    ['name of a label', job({ labels: { 'e#p': '' } }), '/job/labels/e#p', 'The name of the field has `#` at character 2.', `Allowed: ${label}. Write \`-\` instead.`],
    ['no name of a label', job({ labels: { '': '' } }), '/job/labels/', 'The name of the field has 0 characters.', 'Give 1 to 100.'],
    ['team', job({ team: '-nlp' }), '/job/team', 'The value begins with `-`.', 'It may begin with A to Z, a to z, 0 to 9.'],
    ['another team', job({ team: 'nlp\u00df\n' }), '/job/team', 'The value has U+00DF at character 4, U+000A at character 5.', `Allowed: ${word}. Write \`-\` instead.`],
    ['many', job({ team: '!"#$%&()*' }), '/job/team', 'The value has `!` at character 1, `"` at character 2, `#` at character 3, `$` at character 4, `%` at character 5, `&` at character 6, `(` at character 7, `)` at character 8, 1 more.', `Allowed: ${word}. Write \`-\` instead.`],
    ['id of a job', job({ id: 'x'.repeat(129) }), '/job/id', 'The value has 129 characters.', 'Give at most 128.'],
    ['no id of a job', job({ id: '' }), '/job/id', 'The value has 0 characters.', 'Give at least 1.'],
    ['sid', { payload: guideJob({ datasets: [{ bucket: 'acmeco-data', sid: 'My-Data' }] }) }, '/datasets/0/sid', 'The value has `-` at character 3.', 'Allowed: A to Z, a to z, 0 to 9.'],
    ['VPC', { payload: guideJob({ vpc: { vpcIds: ['vpc-XY'] } }) }, '/vpc/vpcIds/0', 'The value does not have the form of this field.', 'Write it like vpc-0123456789abcdef0.'],
    ['attempt', { payload: guideJob({ attempt: 'pod 1' }) }, '/attempt', 'The value has U+0020 at character 4.', 'Allowed: printable ASCII without the space.'],
    ['key of a retry', { payload: guideJob(), headers: { 'idempotency-key': 'a b' } }, '/idempotency-key', 'The value has U+0020 at character 2.', 'Allowed: printable ASCII without the space.'],
    ['worker', { url: workers, payload: { name: 'node[3]', sourceIps: ['203.0.113.1'] } }, '/name', 'The value has `[` at character 5, `]` at character 7.', `Allowed: ${word}. Write \`-\` instead.`],
    ['worker in a path', { method: 'DELETE', url: `${workers}/node%5B` }, '/name', 'The value has `[` at character 5.', `Allowed: ${word}. Write \`-\` instead.`],
    ['grant', { method: 'GET', url: '/v1/grants/abc' }, '/id', 'The value has 3 characters.', 'It has 26.'],
    ['filter', { method: 'GET', url: '/v1/grants?job=%C3%BF' }, '/job', 'The value has U+00FF at character 1.', 'Allowed: printable ASCII.'],
    ['action', { url: '/v1/policies/check', payload: { request: guideJob(), question: { action: 's3:*', bucket: 'acmeco-data' } } }, '/question/action', 'The value does not have the form of this field.', 'Write it like s3:PutObject.']
  ]
  for (const [name, { headers, ...request }, pointer, detail, hint] of texts) {
    const answer = await app.inject({ method: 'POST', url: '/v1/grants', ...request, headers: { ...bearer(b.tokens.nlp), ...headers } })
    t.match(answer.json(), { status: 400, code: 'request-invalid', errors: [{ pointer, detail, hint }] }, name)
    t.equal(answer.json().errors.length, 1, `${name}: one finding`)
  }
})

t.test('every pattern of the API can be put in words, or has an example', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const document: object = (await app.inject({ url: '/openapi.json' })).json()
  const odd = new Set<string>()
  JSON.stringify(document, (_, value: unknown) => {
    const { pattern, examples, example } = (value ?? {}) as { pattern?: unknown, examples?: unknown, example?: unknown }
    if (typeof pattern === 'string' && !/^\^(\[[^\]]+\]){1,2}([*+]|\{\d+(,\d+)?\})\$$/.test(pattern) && !examples && !example) odd.add(pattern)
    return value
  })
  t.strictSame([...odd], [])
})

t.test('what Node reads in one of two ways', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const json = ['content-type', 'application/json']
  const bearerOf = (token: string) => ['authorization', `Bearer ${token}`]
  const both: Array<[string, string[], number, object]> = [
    ['two tokens', [...bearerOf(b.tokens.nlp), ...bearerOf('jat_nope_000'), ...json], 400, { pointer: '/authorization' }],
    ['two types', [...bearerOf(b.tokens.nlp), ...json, 'Content-Type', 'application/json; charset=utf-16'], 400, { pointer: '/content-type' }],
    ['a coding before the chunks', [...bearerOf(b.tokens.nlp), ...json, 'transfer-encoding', 'gzip, chunked'], 415, { code: 'media-type-unsupported' }],
    ['chunks', [...bearerOf(b.tokens.nlp), ...json, 'transfer-encoding', 'Chunked'], 422, { code: 'ip-private' }]
  ]
  for (const [name, headers, status, problem] of both) {
    const answer = await new Promise<{ status: number | undefined, text: string }>((resolve, reject) => {
      const sent = http.request({ port, method: 'POST', path: '/v1/grants', headers: ['host', 'a', ...headers] as never }, got => {
        let text = ''
        got.setEncoding('utf8').on('data', chunk => { text += chunk }).on('end', () => resolve({ status: got.statusCode, text }))
      })
      sent.on('error', reject).end(JSON.stringify(guideJob({ sourceIps: ['10.0.0.1'] })))
    })
    t.equal(answer.status, status, name)
    t.match(JSON.parse(answer.text), problem, name)
  }
})

t.test('all findings come at once', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const payload = guideJob({ datasets: [{ bucket: 'UPPER' }], sourceIps: ['10.0.0.1', 'nonsense'], window: { durationSeconds: 60, notAfter: '2025-07-17T00:00:00Z' } })
  const { errors } = (await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload })).json()
  t.strictSame(errors.map((error: { code: string, pointer: string }) => `${error.code} ${error.pointer}`).sort(), [
    'bucket-invalid /datasets/0/bucket', 'ip-invalid /sourceIps/1', 'ip-private /sourceIps/0', 'window-invalid /window'
  ])
})

t.test('failures of ours', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const issue = () => app.inject({ method: 'POST', url: '/v1/grants', headers, payload: guideJob() })

  b.iam.faults.on({ action: 'CreateUser', times: 1 }, { kind: 'error', code: 'AccessDenied' })
  const refused = await issue()
  t.equal(refused.statusCode, 502)
  t.match(refused.json(), { code: 'iam-refused', detail: /CreateUser/ })

  // Throttled calls are tried again until the deadline, which is near here alone: the other calls may take as long as they like.
  b.iam.faults.on({ action: 'CreateUser' }, { kind: 'throttle' })
  const { deadlineMs } = b.deps
  b.deps.deadlineMs = 400
  const throttled = await issue()
  b.deps.deadlineMs = deadlineMs
  t.equal(throttled.statusCode, 503)
  t.match(throttled.json(), { code: 'iam-unavailable' })
  t.ok(Number(throttled.headers['retry-after']) > 0)

  b.iam.faults.clear()
  const { audit } = b.deps
  b.deps.audit = { ...audit, changed: async () => { throw new AuditUnavailable('the disk is full') } }
  const unaudited = await issue()
  t.equal(unaudited.statusCode, 503)
  t.match(unaudited.json(), { code: 'audit-unavailable' })
  t.notMatch(unaudited.body, 'disk')
  t.equal(b.iam.state.userCount, 0, 'what cannot be audited does not stand')
  b.deps.audit = audit

  await b.ledger.close()
  const ledgerless = await issue()
  t.equal(ledgerless.statusCode, 503)
  t.match(ledgerless.json(), { code: 'ledger-unavailable' })
  t.equal(b.iam.state.userCount, 0)
})

t.test('the table of problems is sound', async t => {
  for (const [code, [status, title]] of Object.entries(problems)) {
    t.match(code, /^[a-z]+(-[a-z]+)*$/)
    t.ok(status >= 400 && status < 600)
    t.match(title, /\.$/)
  }
})

t.test('strings that look like names, and a name in two objects, are no name twice', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const payload = JSON.stringify({ ...guideJob(), job: { id: 'id', team: 'nlp', labels: { id: 'id: team:', 'team:': ':' } } }, null, 2)
  const answer = await app.inject({ method: 'POST', url: '/v1/policies', headers: { ...bearer(b.tokens.nlp), 'content-type': 'application/json' }, payload })
  t.equal(answer.statusCode, 200, answer.body)
})

t.test('no name of a body is found twice that is there once, whatever its strings hold', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const codeOf = async (payload: string): Promise<string> => {
    const headers = { ...bearer(b.tokens.nlp), 'content-type': 'application/json' }
    return (await app.inject({ method: 'POST', url: '/v1/policies', headers, payload })).json().code
  }
  const text = fc.string({ unit: fc.constantFrom('"', '\\', ':', ',', '{', '}', '[', ' ', '\n', 'a') })
  const plain = fc.string({ unit: fc.constantFrom(':', ',', '{', '}', '[', ' ', 'a') })
  const bodyOf = (names: fc.Arbitrary<string>): fc.Arbitrary<Record<string, unknown>> => fc.dictionary(names, fc.letrec(tie => ({
    any: fc.oneof({ depthSize: 'small' }, text, fc.integer(), fc.array(tie('any')), fc.dictionary(names, tie('any')))
  })).any, { minKeys: 1 })
  await fc.assert(fc.asyncProperty(bodyOf(plain), fc.constantFrom(0, 2), async (body, spaces) => {
    const once = JSON.stringify(body, null, spaces)
    const [name = ''] = Object.keys(body)
    t.equal(await codeOf(once), 'request-invalid', once)
    t.equal(await codeOf(`{${JSON.stringify(name)}:0,${once.slice(1)}`), 'request-malformed', once)
  }), { numRuns: 200 })
  const namesOf = (value: unknown): string[] => typeof value === 'object' && value !== null
    ? [...Array.isArray(value) ? [] : Object.keys(value), ...Object.values(value).flatMap(namesOf)]
    : []
  await fc.assert(fc.asyncProperty(bodyOf(text), fc.constantFrom(0, 2), async (body, spaces) => {
    const once = JSON.stringify(body, null, spaces)
    const escaped = namesOf(body).some(name => /["\\\n]/.test(name))
    t.equal(await codeOf(once), escaped ? 'request-malformed' : 'request-invalid', once)
  }), { numRuns: 200 })
})

// V8 may read such a name as another one (https://github.com/nodejs/node/issues/63785): the second text below as `{"h": 1, "\\": 2}`.
t.test('a name that is spelled with a backslash is refused, whatever was read before', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const post = async (payload: string): Promise<{ code: string, detail: string, hint: string }> => {
    const headers = { ...bearer(b.tokens.nlp), 'content-type': 'application/json' }
    return (await app.inject({ method: 'POST', url: '/v1/policies', headers, payload })).json()
  }
  const label = (name: string): string => JSON.stringify(guideJob({ job: { id: 'a', team: 'nlp', labels: { LABEL: 'b' } } })).replace('LABEL', name)
  const texts = ['{"h":[],"\\\\":0}', '{"h":1,"\\"":2}', '{"h":1,"\\"":2,"\\"":3}', label('a\\/b'), label('\\u0061'),
    JSON.stringify(guideJob()).replace('"job"', '"jo\\u0062"'), '{"a":"\\\\","b\\\\":"\\\\"}']
  for (const text of texts) {
    const { code, detail, hint } = await post(text)
    t.equal(code, 'request-malformed', text)
    t.match(detail, 'with a backslash')
    t.match(hint, 'without escapes')
  }
  t.equal((await post('{"a":"\\\\","b":"\\\\\\"c"}')).code, 'request-invalid', 'a backslash in a value')
})

t.test('a list or a number out of its range is told in plain words, with what to do', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: guideJob() })).json()
  const addresses = Array.from({ length: 51 }, (_, index) => `203.0.113.${index}`)
  const labels = Object.fromEntries(addresses.map((address, index) => [`label-${index}`, address]))
  const told: [{ method?: 'GET' | 'PATCH', url?: string, payload?: object }, string, string, string][] = [
    [{ payload: guideJob({ sourceIps: [] }) }, '/sourceIps', 'The list has no elements.', 'Give at least 1, or leave the field out.'],
    [{ payload: guideJob({ sourceIps: addresses }) }, '/sourceIps', 'The list has 51 elements.', 'Give at most 50.'],
    [{ payload: guideJob({ job: { id: 'a', team: 'nlp', labels } }) }, '/job/labels', 'The object has 51 fields.', 'Give at most 20.'],
    [{ payload: guideJob({ window: { durationSeconds: 59 } }) }, '/window/durationSeconds', '59 is too low.', 'Give a number from 60 to 31536000.'],
    [{ payload: guideJob({ workers: { max: 10_001 } }) }, '/workers/max', '10001 is too high.', 'Give a number from 1 to 10000.'],
    [{ method: 'GET', url: '/v1/grants?limit=0' }, '/limit', '0 is too low.', 'Give a number from 1 to 200.'],
    [
      { method: 'PATCH', url: `/v1/grants/${grant.id}`, payload: {} },
      '', 'The object has no fields.', 'Give at least 1 of: window, sourceIps, vpc.'
    ]
  ]
  for (const [request, pointer, detail, hint] of told) {
    const answer = await app.inject({ method: 'POST', url: '/v1/policies', headers: bearer(b.tokens.nlp), ...request })
    t.match(answer.json(), { status: 400, code: 'request-invalid', pointer, detail, hint }, answer.body)
  }
})

t.test('what a schema demands, a refusal says in words of its own', async t => {
  const demands = new Set<string>()
  const { paths, components } = JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8'))
  const walk = (schema: unknown): void => {
    if (typeof schema !== 'object' || schema === null) return
    if ('$ref' in schema) walk(components.schemas[String(schema.$ref).replace('#/components/schemas/', '')])
    for (const [key, value] of Object.entries(schema)) {
      if (!Array.isArray(schema)) demands.add(key)
      if (key === 'properties') for (const property of Object.values(value)) walk(property)
      else if (!['examples', 'default', 'enum', 'required'].includes(key)) walk(value)
    }
  }
  for (const { requestBody, parameters = [] } of Object.values<object>(paths).flatMap(methods => Object.values(methods))) {
    for (const { schema } of [requestBody?.content['application/json'] ?? {}, ...parameters]) walk(schema)
  }
  const words = ['$ref', 'default', 'deprecated', 'description', 'examples', 'items', 'properties', 'title']
  const said = [
    'additionalProperties', 'enum', 'maxItems', 'maxLength', 'maxProperties', 'maximum', 'minItems', 'minLength', 'minProperties', 'minimum', 'pattern',
    'propertyNames', 'required', 'type'
  ]
  t.strictSame([...demands].filter(key => !words.includes(key) && !said.includes(key)), [])
})

t.test('no route ignores a query parameter', async t => {
  const b = await bench(t)
  const routes: RouteOptions[] = []
  const app = await buildApp(b.service, { logger: false, newRequestId: () => 'req', onRoute: route => { routes.push(route) } })
  t.teardown(() => app.close())
  await app.ready()
  for (const { method: methods, url } of routes) {
    const method = String(methods).split(',')[0] as 'GET' | 'HEAD'
    if (method === 'HEAD') continue
    const path = url.replace(':id', unknownId).replace('*', 'index.css')
    const answer = await app.inject({ method, url: `${path}?surplus=1`, headers: bearer(b.tokens.nlp) })
    t.equal(answer.statusCode, 400, `${method} ${url}`)
    t.match(answer.json(), { code: 'request-invalid' }, url)
  }
})

t.test('a HEAD takes no body either', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const head = (payload?: object) => app.inject({ method: 'HEAD', url: '/v1/grants', headers: bearer(b.tokens.nlp), ...(payload && { payload }) })
  t.equal((await head()).statusCode, 200)
  t.equal((await head({ team: 'nlp' })).statusCode, 400)
})

t.test('what another operation does at the same time is said as a conflict, with the time to wait', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const issued = await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: guideJob() })
  const { ledger } = b.deps
  b.deps.ledger = { ...ledger, update: async () => { throw new StaleGrantError('taken over') } }
  const answer = await app.inject({ method: 'DELETE', url: `/v1/grants/${issued.json().grant.id}`, headers })
  b.deps.ledger = ledger
  t.match(answer.json(), { code: 'grant-state', detail: /changed at the same time/ })
  t.equal(answer.headers['retry-after'], '1')
})
