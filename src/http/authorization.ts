import { normalizeIP } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import { clientAddress, whyUnobserved, type IsProxy } from '../client-address.ts'
import type { Identity } from '../identity/identity.ts'
import type { Caller } from '../lifecycle/deps.ts'
import { ProblemError } from '../problems.ts'
import type { Service } from './service.ts'

/**
 * Who the caller is. Every route says in its config how it is authorized. A route that does not say it needs a token, and the
 * service does not start: so no new route is open by mistake. What the caller may do, the lifecycle asks the guardrails.
 */
type Authorization =
  | 'public' // health and documentation: no data of anybody
  | 'identity' // a valid token

declare module 'fastify' {
  interface FastifyContextConfig { authorization?: Authorization }
  interface FastifyRequest { identity: Identity | null }
  interface FastifyInstance { isProxy: IsProxy }
}

export const useAuthorization = (app: FastifyInstance, { authenticator, audit, refusalsPerMinute }: Service): void => {
  // An IPv6 host has a /64 of addresses at least (RFC 6177), and must not count as that many callers.
  const countRefusal = app.createRateLimit({
    max: refusalsPerMinute, timeWindow: 60_000, keyGenerator: request => `refused ${normalizeIP(clientAddress(request))}`
  })
  app.decorateRequest('identity', null)
  const routes: RouteOptions[] = []
  app.addHook('onRoute', route => { routes.push(route) })
  app.addHook('onReady', async () => {
    const undeclared = routes.filter(({ config }) => config?.authorization !== 'public' && config?.authorization !== 'identity')
    if (undeclared.length > 0) {
      throw new Error(`Routes without authorization: ${undeclared.map(({ method, url }) => `${String(method)} ${url}`).join(', ')}`)
    }
  })
  app.addHook('onRequest', async request => {
    // An unknown route has no config: it is a 404 for everybody.
    if (request.is404 || request.routeOptions.config.authorization === 'public') return
    let refusal: { reason: string, details: object } | undefined
    try {
      request.identity = await authenticator.authenticate(request.headers.authorization, (reason, details) => {
        refusal = { reason, details }
      })
    } catch (problem) {
      // Anybody who can reach the port can cause refusals. They must not fill the log and the audit.
      const limit = await countRefusal(request)
      if (!limit.isAllowed && limit.isExceeded) throw new ProblemError('rate-limited', { retryAfterSeconds: limit.ttlInSeconds })
      request.log.warn({ ...refusal?.details, reason: refusal?.reason }, 'token refused')
      audit.refused({ ip: clientAddress(request), requestId: request.id }, refusal?.reason ?? 'unknown')
      throw problem
    }
  })
}

/** @throws ProblemError `unauthenticated` on a route that is public */
export const callerOf = (request: FastifyRequest): Caller => {
  const { identity, id } = request
  if (!identity) throw new ProblemError('unauthenticated')
  const { id: name, kind, teams, attributes } = identity
  const unobserved = whyUnobserved(request, [request.headers['x-forwarded-for'] ?? ''].flat().join(','), request.server.isProxy)
  return { id: name, kind, teams, attributes, requestId: id, ip: clientAddress(request), ...(unobserved !== undefined && { unobserved }) }
}
