import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { guideJob } from '../../harness.ts'

/** The service with deploy/tracing, against a collector that keeps what it gets: OTLP over HTTP, as JSON. */

const root = join(import.meta.dirname, '../../..')

interface Span { name: string, kind: number, traceId: string, spanId: string, parentSpanId?: string, attributes: unknown }
interface Exported { resourceSpans: Array<{ resource: unknown, scopeSpans: Array<{ scope: { name: string }, spans: Span[] }> }> }

t.test('a request is a span with a child for each IAM call, and no secret is in any', async t => {
  const bodies: string[] = []
  const paths = new Set<string>()
  const collector = createServer((request, response) => {
    paths.add(`${request.method} ${request.url}`)
    text(request).then(body => {
      bodies.push(body)
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    }, error => response.destroy(error))
  }).listen(0, '127.0.0.1')
  await once(collector, 'listening')
  t.teardown(() => { collector.close() })

  const service = spawn(process.execPath, ['--import=./deploy/tracing/tracing.mjs', '--disable-warning=ExperimentalWarning', 'src/start.ts'], {
    cwd: root,
    env: {
      PATH: process.env.PATH,
      PORT: '0',
      LOG_LEVEL: 'warn',
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      // Longer than the test: what comes, comes from the flush at the end.
      OTEL_BSP_SCHEDULE_DELAY: '600000'
    },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const ended = once(service, 'exit')
  t.teardown(() => { service.kill('SIGKILL') })
  let out = ''
  service.stdout.on('data', chunk => { out += String(chunk) })
  while (!/^curl /m.test(out) && service.exitCode === null) await new Promise(resolve => setTimeout(resolve, 100))
  const url = /(http:\/\/127\.0\.0\.1:\d+)\/v1\/grants/.exec(out)?.[1] ?? ''
  const token = /Bearer (jat_[\w-]+)/.exec(out)?.[1] ?? ''
  const call = async (method: string, path: string, body?: object) => (await fetch(`${url}${path}`, {
    method, headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) }, ...(body && { body: JSON.stringify(body) })
  })).json() as Promise<{ grant: { id: string }, credentials: { accessKeyId: string, secretAccessKey: string } }>

  const { grant, credentials } = await call('POST', '/v1/grants', guideJob())
  const rotated = await call('POST', `/v1/grants/${grant.id}/rotate`, {})
  await call('GET', '/v1/grants?team=query-of-mine')
  await call('GET', '/nothing')
  await call('GET', '/readyz')
  t.equal(bodies.length, 0)
  service.kill('SIGTERM')
  t.strictSame((await ended)[0], 0, 'flushing does not hinder the end')

  t.strictSame([...paths], ['POST /v1/traces'])
  const resources = bodies.flatMap(body => (JSON.parse(body) as Exported).resourceSpans)
  const spans = resources.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap(({ scope, spans }) => spans.map(span => ({ ...span, scope: scope.name }))))
  const issue = spans.find(({ name }) => name === 'POST /v1/grants')
  t.ok(issue, 'named after its route')
  const children = spans.filter(({ parentSpanId }) => parentSpanId === issue?.spanId)
  t.strictSame(children.map(({ name }) => name).sort(), ['IAM.CreateAccessKey', 'IAM.CreateUser', 'IAM.PutUserPolicy'])
  for (const child of children) t.equal(child.traceId, issue?.traceId)
  const names = new Set(spans.map(({ name }) => name))
  t.ok(names.has('POST /v1/grants/:id/rotate') && names.has('GET /v1/grants'), 'by pattern, not by id')
  t.notOk([...names].some(name => name.includes(grant.id) || name.includes('readyz')))
  t.match(JSON.stringify(resources[0]?.resource), 'job-access')

  const all = bodies.join('')
  const secrets = [token, token.slice(-43), credentials.secretAccessKey, rotated.credentials.secretAccessKey, 'Bearer', 'query-of-mine', 'acmeco', 'Statement', 'Signature']
  for (const secret of secrets) t.notOk(all.includes(secret), secret.slice(0, 12))
})

t.test('everything that the image adds has a licence that we accept', async t => {
  const { packages } = JSON.parse(readFileSync(join(root, 'deploy/tracing/package-lock.json'), 'utf8')) as { packages: Record<string, { license: string }> }
  t.ok(packages['node_modules/@opentelemetry/sdk-node'])
  for (const [path, { license }] of Object.entries(packages)) t.match(license, /^(Apache-2\.0|MIT|ISC|BSD-3-Clause)$/, path)
})
