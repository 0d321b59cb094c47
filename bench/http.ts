import { createHash, randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import autocannon from 'autocannon'
import fastify from 'fastify'
import { ulid } from 'ulid'
import { buildApp } from '../src/http/app.ts'
import { startTestIam } from '../test/embedded-iam/levers/start.ts'
import { loadGuardrails } from '../src/guardrails/guardrails.ts'
import { recorder } from '../src/audit/recorder.ts'
import type { Service } from '../src/http/service.ts'
import { createIam } from '../src/iam/client.ts'
import { dialects } from '../src/iam/dialects/index.ts'
import { userProvisioner } from '../src/iam/user-provisioner.ts'
import { loadIdentity } from '../src/identity/config.ts'
import { openLedger } from '../src/ledger/open.ts'
import { defaultLimits } from '../src/policy/admit.ts'
import { PolicyRequestSchema, guideRequest, type PolicyRequest } from '../src/request.ts'

/**
 * `npm run bench`: what the service costs, as ratios within one run.
 *   guarded: a route of the service that only echoes, against a bare Fastify route that validates and echoes the same body.
 *   render: POST /v1/policies against the same bare route.
 *   issue:  POST /v1/grants over the embedded IAM with 20 ms a call, in round trips at p50.
 */

const seconds = Number(process.env.BENCH_SECONDS ?? 5)
const token = 'jat_bench_0123456789012345678901234567890123456789012'
const silent = { info () {}, warn () {}, error () {} }

const startService = async (latencyMs: number) => {
  const iam = await startTestIam({ latencyMs, maxUsers: 200_000 })
  const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin })
  const ledger = await openLedger({ url: ':memory:' })
  const users = userProvisioner({ iam: client, pathBase: '/job-access/', tagged: true, now: Date.now })
  const records = recorder(null, silent)
  const guardrails = loadGuardrails('@id("open") permit (principal, action, resource);', 'bench.cedar')
  const rules = { limits: defaultLimits, dialect: dialects.aws, profiles: {} }
  const service: Service = {
    deps: {
      now: Date.now,
      newId: () => ulid().toLowerCase(),
      deadline: () => Date.now() + 15_000,
      ledger,
      principals: () => users,
      rules: () => rules,
      naming: { userPrefix: 'ja', pathBase: '/job-access/' },
      outstanding: { perOwner: 1_000_000, total: 1_000_000 },
      leaseMs: 60_000,
      record: (grant, event) => records.changed(grant, event),
      log: silent
    },
    authenticator: loadIdentity({ tokens: [{ id: 'bench', sha256: createHash('sha256').update(token).digest('hex'), teams: ['*'] }], issuers: [] },
      { now: () => new Date() }),
    guardrails: () => guardrails,
    recorder: records,
    s3: {},
    notice: null,
    pingIam: async () => {},
    ratePerMinute: 1_000_000_000,
    refusalsPerMinute: 1_000,
    trustProxy: false
  }
  const app = await buildApp(service, { logger: false, newRequestId: randomUUID })
  // What authentication, limits and headers cost alone: the most that any renderer behind them could reach.
  app.post('/echo', { config: { authorization: 'identity' }, schema: { body: PolicyRequestSchema } }, async request => request.body)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return { url, stop: async () => { await app.close(); await ledger.close(); client.close(); await iam.stop() } }
}

const startEcho = async () => {
  const app = fastify({ ajv: { customOptions: { removeAdditional: false, coerceTypes: false, allErrors: true } } }).withTypeProvider<TypeBoxTypeProvider>()
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
