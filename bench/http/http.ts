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
 * `npm run bench:http`: what the service costs, as ratios within one run: requests a second, and CPU time of the thread that serves them.
 *   guarded: a route of the service that only echoes, against a bare Fastify route that validates and echoes the same body.
 *   render: POST /v1/policies against the same bare route.
 */

const seconds = Number(process.env.BENCH_SECONDS ?? 3)
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
  const before = process.threadCpuUsage()
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
  const { user, system } = process.threadCpuUsage(before)
  return { perSecond: result['2xx'] / result.duration, cpuMicros: (user + system) / result['2xx'] }
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
  const urls = { bare: `${echo.url}/echo`, guarded: `${service.url}/echo`, render: `${service.url}/v1/policies` }
  const runs: Record<keyof typeof urls, Awaited<ReturnType<typeof load>>[]> = { bare: [], guarded: [], render: [] }
  // In turns, so that other work on the machine falls on all of them. The first round warms up.
  for (let round = 0; round < 4; round++) {
    for (const [kind, url] of Object.entries(urls)) {
      const run = await load(url, bodies, 16)
      if (round > 0) runs[kind as keyof typeof urls].push(run)
    }
  }
  const most = (kind: keyof typeof urls) => Math.max(...runs[kind].map(({ perSecond }) => perSecond))
  const least = (kind: keyof typeof urls) => Math.min(...runs[kind].map(({ cpuMicros }) => cpuMicros))
  const row = (what: string, { bare, guarded, render }: Record<keyof typeof urls, number>) => ({
    bodies: name,
    what,
    bare: Math.round(bare),
    guarded: Math.round(guarded),
    render: Math.round(render),
    'guarded to bare': (guarded / bare).toFixed(2),
    'render to guarded': (render / guarded).toFixed(2)
  })
  const of = (pick: typeof most) => ({ bare: pick('bare'), guarded: pick('guarded'), render: pick('render') })
  rows.push(row('requests/s', of(most)))
  const cpu = of(least)
  rows.push({
    ...row('CPU µs', cpu),
    'guarded to bare': (cpu.bare / cpu.guarded).toFixed(2),
    'render to guarded': (cpu.guarded / cpu.render).toFixed(2)
  })
}
console.table(rows)
await service.stop()
await echo.stop()
