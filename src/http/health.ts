import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { HealthSchema, ReadinessSchema, ref } from './schemas.ts'
import type { Service } from './service.ts'

interface HealthOptions {
  service: Service
  /** Called with what a readiness probe found. */
  checked?: (check: string, ok: boolean) => void
}

export const healthRoutes: FastifyPluginAsyncTypebox<HealthOptions> = async (app, { service, checked }) => {
  const config = { authorization: 'public' as const }

  app.get('/healthz', {
    config,
    schema: { operationId: 'getHealth', response: { 200: ref(HealthSchema) } }
  }, async () => ({ status: 'ok' }))

  app.get('/readyz', {
    config,
    schema: {
      operationId: 'getReadiness',
      response: { 200: ref(ReadinessSchema), 503: ref(ReadinessSchema) }
    }
  }, async (request, reply) => {
    const checks: Record<string, string> = {}
    const probe = async (name: string, ping: () => Promise<void>) => {
      try {
        await ping()
        checks[name] = 'ok'
      } catch (err) {
        // The caller is anonymous, so that only the log says what exactly failed.
        request.log.warn({ err, check: name }, 'not ready')
        checks[name] = 'failed'
      }
      checked?.(name, checks[name] === 'ok')
    }
    await Promise.all([probe('iam', service.pingIam), probe('ledger', () => service.deps.ledger.ping())])
    const ready = Object.values(checks).every(check => check === 'ok')
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not-ready', checks })
  })
}
