import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { HealthSchema, ReadinessSchema, ref } from './schemas.ts'
import type { Service } from './service.ts'

interface HealthOptions {
  service: Service
  /** Called with what a readiness probe found. */
  checked?: (check: string, ok: boolean) => void
}

export const healthRoutes: FastifyPluginAsyncTypebox<HealthOptions> = async (app, { service, checked }) => {
  // A probe costs next to nothing, and each check runs at most once a second. A limit would let others make the service look dead.
  const config = { authorization: 'public' as const, rateLimit: false as const }

  const told = new WeakSet<Error>()

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
    const checks: Record<string, string> = Object.fromEntries(Object.keys(service.readiness).map(name => [name, 'failed']))
    const probe = async (name: string, ping: () => Promise<unknown>) => {
      try {
        await ping()
        checks[name] = 'ok'
      } catch (err) {
        // The caller is anonymous, so that only the log says what exactly failed: once for each check, however many asked.
        if (err instanceof Error && !told.has(err)) request.log.warn({ err, check: name }, 'not ready')
        if (err instanceof Error) told.add(err)
        checks[name] = 'failed'
      }
      checked?.(name, checks[name] === 'ok')
    }
    await Promise.all(Object.entries(service.readiness).map(([name, ping]) => probe(name, ping)))
    const ready = Object.values(checks).every(check => check === 'ok')
    // Service goes on in the others. What is known is said: an account that hangs must not make the probe wait for it.
    for (const { name, isWell, ping } of service.accounts ?? []) {
      ping().catch(() => {})
      checks[`account ${name}`] = isWell() ? 'ok' : 'failed'
      checked?.(`account ${name}`, isWell())
    }
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not-ready', checks })
  })
}
