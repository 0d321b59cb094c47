import { readFileSync } from 'node:fs'
import t from 'tap'
import { openApiText } from '../../src/http/document.ts'
import { problems } from '../../src/problems.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

const committed = readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')
const document = JSON.parse(committed)

t.test('the committed document is the one of the code', async t => {
  t.equal(await openApiText(), committed, 'run `npm run openapi` and commit the result')
})

t.test('every operation is described, secured or open on purpose, and answers problems', async t => {
  for (const [path, methods] of Object.entries<Record<string, any>>(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const name = `${method} ${path}`
      t.match(operation.operationId, /^[a-z][A-Za-z]+$/, name)
      t.ok(operation.summary, name)
      if (path.startsWith('/v1/')) {
        t.strictSame(operation.security, [{ bearer: [] }], name)
        t.ok(operation.responses['4XX'].content['application/problem+json'], name)
      }
      if (operation.requestBody) t.ok(operation.requestBody.content['application/json'].example, `${name}: an example`)
    }
  }
})

t.test('only a delivery has a place for a secret', async t => {
  const withSecret = Object.entries(document.components.schemas).filter(([, schema]) => JSON.stringify(schema).includes('secretAccessKey')).map(([name]) => name)
  t.strictSame(withSecret, ['Credentials'])
})

t.test('every code of a problem is in the document', async t => {
  t.strictSame(document.components.schemas.Problem.properties.code.enum, Object.keys(problems))
})

t.test('every example runs as it is', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: guideJob() })).json()
  const { grant: scheduled } = (await app.inject({
    method: 'POST', url: '/v1/grants', headers, payload: guideJob({ job: { id: 'later', team: 'nlp' }, issueAt: '2025-07-16T00:31:00Z' })
  })).json()
  b.clock.advance(60_000)
  for (const [path, methods] of Object.entries<Record<string, any>>(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (method === 'delete' || path.endsWith('/complete')) continue
      const url = path.replace('{id}', operation.operationId === 'fetchCredentials' ? scheduled.id : grant.id)
      const payload = operation.requestBody?.content['application/json'].example
      const answer = await app.inject({ method: method.toUpperCase() as 'GET', url, headers, ...(payload && { payload }) })
      t.ok(answer.statusCode < 300, `${method} ${path}: ${answer.statusCode}`)
    }
  }
})
