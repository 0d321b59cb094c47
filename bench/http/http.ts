import { createHash, randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import autocannon from 'autocannon'
import fastify from 'fastify'
import { buildApp } from '../../src/http/app.ts'
import { compose } from '../../src/compose.ts'
import { readConfig } from '../../src/config.ts'
import { startTestIam } from '../../test/embedded-iam/levers/start.ts'
import { loadIdentity } from '../../src/identity/authenticator.ts'
import { PolicyRequestSchema, guideRequest, type PolicyRequest } from '../../src/request.ts'

/**
 * `npm run bench`: what the service costs, as ratios within one run.
 *   guarded: a route of the service that only echoes, against a bare Fastify route that validates and echoes the same body.
 *   render: POST /v1/policies against the same bare route.
 *   issue:  POST /v1/grants over the embedded IAM with 20 ms a call, in round trips at p50.
 */

const seconds = Number(process.env.BENCH_SECONDS ?? 5)
const token = 'jat_bench_0123456789012345678901234567890123456789012'
const config = readConfig({ JOB_ACCESS_RATE_PER_MINUTE: '10000000' })
const silent = { info () {}, warn () {}, error () {} }

const startService = async (latencyMs: number) => {
  const embedded = await startTestIam({ latencyMs, maxUsers: 200_000 })
  const sha256 = createHash('sha256').update(token).digest('hex')
  const { service, close } = await compose(config, {
    log: silent,
    overrides: {
      embedded, authenticator: loadIdentity({ tokens: [{ id: 'bench', sha256, teams: ['*'] }], issuers: [] }, { now: () => new Date() })
    }
  })
  const app = await buildApp(service, { logger: false, newRequestId: randomUUID })
  // What authentication, limits and headers cost alone: the most that any renderer behind them could reach.
  app.post('/echo', { config: { authorization: 'identity' }, schema: { body: PolicyRequestSchema } }, async request => request.body)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return { url, stop: async () => { await app.close(); await close(); await embedded.stop() } }
}

const startEcho = async () => {
  const app = fastify({
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, allErrors: true } }
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.post('/echo', { schema: { body: PolicyRequestSchema } }, async request => request.body)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return { url, stop: () => app.close() }
}

/** The client runs in a thread of its own, so that what is compared is the server's work. */
const load = async (url: string, bodies: object[], connections: number) => {
  const result = await autocannon({
    url,
    connections,
    workers: 1,
    duration: seconds,
    requests: bodies.map(body => ({
      method: 'POST' as const,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify(body)
    }))
  })
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${url}: ${result.non2xx} non-2xx, ${result.errors} errors`)
  return { perSecond: result['2xx'] / result.duration, p50: result.latency.p50, p99: result.latency.p99 }
}

/** Distinct jobs with fixed windows: `count` 1 is the same body again and again. */
const jobs = (count: number): PolicyRequest[] => Array.from({ length: count }, (_, index) => ({
  ...guideRequest,
  job: { id: `job-${index}`, team: 'nlp' },
  output: { bucket: 'acmeco-finetuned-models', prefix: `runs/${index}/` },
  window: { notAfter: new Date(Date.now() + 3_600_000 + index * 1000).toISOString().replace(/\.\d+/, '') }
}))

const service = await startService(0)
const echo = await startEcho()
const rows: Array<Record<string, string | number>> = []
for (const [name, bodies] of [['the same', jobs(1)], ['1,000 jobs', jobs(1_000)]] as const) {
  const measured = async (url: string) => {
    await load(url, bodies, 16)
    return (await load(url, bodies, 16)).perSecond
  }
  const bare = await measured(`${echo.url}/echo`)
  const guarded = await measured(`${service.url}/echo`)
  const render = await measured(`${service.url}/v1/policies`)
  rows.push({
    bodies: name,
    'bare/s': Math.round(bare),
    'guarded/s': Math.round(guarded),
    'render/s': Math.round(render),
    'guarded to bare': (guarded / bare).toFixed(2),
    'render to bare': (render / bare).toFixed(2),
    'render to guarded': (render / guarded).toFixed(2)
  })
}
console.table(rows)
await service.stop()
await echo.stop()
