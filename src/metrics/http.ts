import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { problems } from '../problems.ts'

export interface HttpMetrics {
  /** Call it before any route is registered. */
  observe: (app: FastifyInstance) => void
  /** Takes what a readiness probe found. */
  checked: (check: string, ok: boolean) => void
}

export const httpMetrics = (registry: Registry): HttpMetrics => {
  const registers = [registry]
  const seconds = new Histogram({
    name: 'job_access_http_request_duration_seconds',
    help: 'Duration of HTTP requests, by route pattern and class of the status.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers
  })
  const refusals = new Counter({
    name: 'job_access_problems_total',
    help: 'Answers that are problems, by code; see docs/errors.md.',
    labelNames: ['code'],
    registers
  })
  const issues = new Counter({
    name: 'job_access_issues_total',
    help: 'Requests for a grant, by outcome: `created`, `repeated` (a retry got its grant again) or the code of the problem.',
    labelNames: ['outcome'],
    registers
  })
  const ready = new Gauge({
    name: 'job_access_ready',
    help: '1 if the last readiness probe found it well, 0 if not; by check. No probe, no value.',
    labelNames: ['check'],
    registers
  })
  for (const code of Object.keys(problems)) {
    refusals.inc({ code }, 0)
    issues.inc({ outcome: code }, 0)
  }
  for (const outcome of ['created', 'repeated']) issues.inc({ outcome }, 0)

  return {
    observe (app) {
      app.addHook('onResponse', (request, reply, done) => {
        const { statusCode } = reply
        seconds.observe({ ...place(request), status: `${Math.floor(statusCode / 100)}xx` }, reply.elapsedTime / 1000)
        if (request.problem) refusals.inc({ code: request.problem })
        if (!request.is404 && request.method === 'POST' && request.routeOptions.url === '/v1/grants') {
          issues.inc({ outcome: request.problem ?? (statusCode === 201 ? 'created' : 'repeated') })
        }
        done()
      })
    },
    checked: (check, ok) => ready.set({ check }, ok ? 1 : 0)
  }
}

/** Without a route, method and path are text of the caller, and no label. */
const place = ({ is404, method, routeOptions }: FastifyRequest): { method: string, route: string } =>
  is404 || routeOptions.url === undefined ? { method: 'any', route: 'unmatched' } : { method, route: routeOptions.url }
