import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import t from 'tap'
import { parse } from 'yaml'
import { exampleIssuedAt, exampleRules, exampleTarget } from '../../openapi/examples.ts'
import { openApiText } from '../../openapi/generate.ts'
import { mistakes } from '../../openapi/problems.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { problems, type ProblemCode } from '../../src/problems.ts'
import { appOf, bearer, bench, guideJob, startOfTime } from '../harness.ts'

const committed = readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')
const document = JSON.parse(committed)
const operations = Object.entries<Record<string, any>>(document.paths)
  .flatMap(([path, methods]) => Object.entries(methods)
    .map(([method, operation]) => ({ name: `${method} ${path}`, path, method, operation })))
const operationOf = (id: string) => operations.find(({ operation }) => operation.operationId === id)?.operation
const answerOf = (id: string, status = 200, type = 'application/json') => operationOf(id).responses[status].content[type].example

t.test('the committed document is the one of the code', async t => {
  t.equal(await openApiText(), committed, 'run `npm run openapi` and commit the result')
})

t.test('its version is the package’s', async t => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  t.equal(document.info.version, version)
})

t.test('every operation is described, and secured or open on purpose', async t => {
  for (const { name, path, operation } of operations) {
    t.match(operation.operationId, /^[a-z][A-Za-z]+$/, name)
    t.ok(operation.summary, name)
    t.match(operation.description, /.{30}/, name)
    t.strictSame(operation.security, path.startsWith('/v1/') ? [{ bearer: [] }] : [], name)
    for (const parameter of operation.parameters ?? []) {
      t.ok(parameter.description ?? parameter.schema.description, `${name} ${parameter.name}`)
      // Swagger UI fills in a parameter's example, and sends it.
      t.notMatch(JSON.stringify(parameter), 'example', `${name} ${parameter.name}`)
    }
  }
})

t.test('every body and every answer has an example that fits its schema', async t => {
  const ajv = new Ajv2020({ strict: false })
  addFormats.default(ajv)
  ajv.addSchema(document, 'openapi')
  const fits = (example: unknown, pointer: string) => {
    const validate = ajv.compile({ $ref: `openapi#${pointer}` })
    t.ok(validate(example), `${pointer}: ${JSON.stringify(validate.errors)}`)
  }
  for (const { path, method, operation } of operations) {
    const at = `/paths/${path.replaceAll('/', '~1').replaceAll('{', '%7B').replaceAll('}', '%7D')}/${method}`
    if (operation.requestBody) {
      const { examples } = operation.requestBody.content['application/json']
      t.ok(Object.keys(examples).length > 0, at)
      for (const { value } of Object.values<any>(examples)) fits(value, `${at}/requestBody/content/application~1json/schema`)
    }
    for (const [status, { content }] of Object.entries<any>(operation.responses)) {
      for (const [type, { example, examples }] of Object.entries<any>(content)) {
        const values = examples ? Object.keys(examples).map(name => document.components.examples[name].value) : [example]
        t.ok(values.length > 0, `${at} ${status}`)
        for (const value of values) fits(value, `${at}/responses/${status}/content/${type.replaceAll('/', '~1')}/schema`)
      }
    }
  }
})

t.test('only a delivery has a place for a secret', async t => {
  const withSecret = Object.entries(document.components.schemas)
    .filter(([, schema]) => JSON.stringify(schema).includes('secretAccessKey')).map(([name]) => name)
  t.strictSame(withSecret, ['Credentials'])
})

t.test('the keys in it are those of AWS’s documentation', async t => {
  t.strictSame(new Set(committed.match(/\b(AKIA|ASIA)[A-Z0-9]+/g)), new Set(['AKIAIOSFODNN7EXAMPLE', 'AKIAI44QH8DHBEXAMPLE']))
  const secrets = [...committed.matchAll(/(?:secretAccessKey|SecretAccessKey|AWS_SECRET_ACCESS_KEY)(?:": "|=)([^"\\]+)/g)]
    .map(([, secret]) => secret)
  t.strictSame(new Set(secrets), new Set(['wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', 'je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY']))
})

t.test('every code of a problem is in the document, and is an answer of some operation', async t => {
  t.strictSame(document.components.schemas.Problem.properties.code.enum, Object.keys(problems))
  const ofNoOperation = ['route-unknown', 'method-not-allowed']
  t.strictSame(Object.keys(document.components.examples), Object.keys(problems).filter(code => !ofNoOperation.includes(code)))
})

t.test('a refusal has one example, of a code that its operation answers', async t => {
  for (const { name, operation } of operations) {
    for (const [status, { description, content }] of Object.entries<any>(operation.responses)) {
      const { examples } = content?.['application/problem+json'] ?? {}
      if (!examples) continue
      const codes = Object.keys(examples)
      t.equal(codes.length, 1, `${name} ${status}`)
      t.match(description, `\`${codes[0]}\``, `${name} ${status}`)
    }
  }
})

t.test('every example runs as it is', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: guideJob({ job: { id: 'before', team: 'nlp' } }) })).json()
  const { sourceIps, ...sourceless } = guideJob({ job: { id: 'with-workers', team: 'nlp' }, workers: { max: 8 } })
  const job = (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: sourceless })).json().grant
  for (const { name, path, method, operation } of operations) {
    if (method === 'delete' || path.endsWith('/complete')) continue
    for (const { value } of Object.values<any>(operation.requestBody?.content['application/json'].examples ?? { none: {} })) {
      let { id } = grant
      if (operation.operationId === 'fetchCredentials') {
        const issueAt = new Date(b.clock.now + 60_000).toISOString()
        const later = guideJob({ job: { id: `later-${JSON.stringify(value).length}`, team: 'nlp' }, issueAt })
        id = (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: later })).json().grant.id
        b.clock.advance(60_000)
      }
      if (path.includes('/workers')) id = job.id
      const url = path.replace('{id}', id).replace('{name}', 'trainer-0')
      // People send an example of the documentation again.
      for (const time of ['', ', again']) {
        if (time && operation.operationId === 'fetchCredentials') continue
        const answer = await app.inject({ method: method.toUpperCase() as 'GET', url, headers, ...(value && { payload: value }) })
        t.ok(answer.statusCode < 300, `${name}${time}: ${answer.statusCode} ${answer.body}`)
      }
    }
  }
})

t.test('the answers in it are those of the service', async t => {
  t.equal(exampleIssuedAt, startOfTime)
  const b = await bench(t, { limits: exampleRules.limits })
  const app = await appOf(t, { service: { ...b.service, s3: exampleTarget } })
  const call = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object, headers: object = {}) => {
    const { statusCode, body, headers: { 'content-type': type = '' } } =
      await app.inject({ method, url, ...(payload && { payload }), headers: { ...bearer(b.tokens.nlp), ...headers } })
    return { status: statusCode, body, type: type.split(';')[0] ?? '' }
  }
  const same = ({ status, body, type }: Awaited<ReturnType<typeof call>>, id: string) => {
    const read = type.startsWith('text/') ? body : parse(body)
    t.same(withoutChance(read), withoutChance(answerOf(id, status, type)), `${id} ${status} ${type}`)
    return read
  }
  const firstOf = (id: string) => Object.values<any>(operationOf(id).requestBody.content['application/json'].examples)[0].value

  same(await call('POST', '/v1/policies', firstOf('renderPolicy')), 'renderPolicy')
  same(await call('POST', '/v1/policies/check', firstOf('checkPolicy')), 'checkPolicy')
  const { grant: { id } } = same(await call('POST', '/v1/grants', firstOf('issueGrant')), 'issueGrant')
  const grant = `/v1/grants/${id}`
  same(await call('GET', '/v1/grants'), 'listGrants')
  same(await call('GET', grant), 'getGrant')
  same(await call('GET', `${grant}/events`), 'listGrantEvents')
  same(await call('GET', `${grant}/explanation`), 'explainGrant')
  same(await call('GET', `${grant}/blast-radius`), 'getBlastRadius')
  same(await call('POST', `${grant}/check`, firstOf('checkGrant')), 'checkGrant')
  for (const accept of Object.keys(operationOf('issueGrant').responses[200].content)) {
    same(await call('POST', '/v1/grants', { ...firstOf('issueGrant'), replace: true }, { accept }), 'issueGrant')
  }
  const { grant: { id: later } } = JSON.parse((await call('POST', '/v1/grants',
    // The example's window starts before its key is made.
    { ...guideJob(), attempt: '0', window: { notBefore: '2025-07-16T00:30:00Z', durationSeconds: 10_800 }, issueAt: answerOf('fetchCredentials').grant.issueAt }, { 'idempotency-key': 'later' })).body)
  const until = (instant: string) => { b.clock.now = Date.parse(instant) }
  until(answerOf('fetchCredentials').grant.updatedAt)
  same(await call('POST', `/v1/grants/${later}/credentials`, firstOf('fetchCredentials')), 'fetchCredentials')
  until(answerOf('changeGrant').updatedAt)
  same(await call('PATCH', grant, firstOf('changeGrant')), 'changeGrant')
  until(answerOf('rotateGrant').grant.updatedAt)
  same(await call('POST', `${grant}/rotate`, firstOf('rotateGrant')), 'rotateGrant')
  until(answerOf('completeGrant').updatedAt)
  await sweep(b.deps, { concurrency: 1, perSecond: 1000 }, AbortSignal.any([]))
  same(await call('POST', `${grant}/complete`), 'completeGrant')
  const again = await call('DELETE', grant)
  // Here its job had completed before. Of a live grant this call makes a revoked one.
  same({ ...again, body: again.body.replace('"endReason":"completed"', '"endReason":"revoked"') }, 'revokeGrant')
  same(await call('GET', '/healthz'), 'getHealth')
  same(await call('GET', '/readyz'), 'getReadiness')
})

t.test('the mistakes in it are answered as it says', async t => {
  const b = await bench(t, { limits: exampleRules.limits })
  const app = await appOf(t, b)
  const answered = async (payload: object, headers: object = bearer(b.tokens.nlp)) =>
    withoutChance((await app.inject({ method: 'POST', url: '/v1/grants', headers: { ...headers }, payload })).json())
  const exampleOf = (code: ProblemCode) => withoutChance(document.components.examples[code].value)
  for (const [code, mistake] of Object.entries(mistakes)) {
    t.equal(document.components.examples[code].value.code, code)
    t.same(await answered({ ...guideJob(), ...mistake }), exampleOf(code as ProblemCode), code)
  }
  t.same(await answered({ ...guideJob(), windows: {} }), exampleOf('request-invalid'))
  t.same(await answered(guideJob(), {}), exampleOf('unauthenticated'))
})

/** Ids, keys and secrets are made by chance; all else must be as it is said. */
const withoutChance = (value: unknown): unknown => JSON.parse(JSON.stringify(value)
  .replace(/01k0[0-9a-z]{22}/g, '(id)')
  .replace(/AKIA[A-Z0-9]{16}/g, '(key)')
  .replace(/("secretAccessKey":"|"SecretAccessKey":"|AWS_SECRET_ACCESS_KEY(?:=|":")|aws_secret_access_key = )[^"\\]+/g, '$1(secret)')
  .replace(/"requestId":"[^"]+"/g, '"requestId":"(request)"'))
