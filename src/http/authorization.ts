import { normalizeIP } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import { checks, type At, type Guardrails } from '../guardrails/guardrails.ts'
import type { Identity } from '../identity/identity.ts'
import type { Grant } from '../domain/grant.ts'
import type { Actor } from '../lifecycle/deps.ts'
import type { Guard } from '../lifecycle/prepare.ts'
import type { AccessSpec } from '../domain/access-spec.ts'
import { ProblemError } from '../problems.ts'
import type { Recorder } from '../audit/recorder.ts'
import type { Service } from './service.ts'

/**
 * Who may do what. Every route says in its config how it is authorized; one that does not needs a token all the
 * same, and keeps the service from starting, so that no new route is open by oversight.
 */
export type Authorization =
  | 'public' // health and documentation: no data of anybody
  | 'identity' // a valid token; what it may do is the guardrails' word, asked in the handler

declare module 'fastify' {
  interface FastifyContextConfig { authorization?: Authorization }
  interface FastifyRequest { identity: Identity | null }
}

export const useAuthorization = (app: FastifyInstance, { authenticator, recorder, refusalsPerMinute }: Service): void => {
  // An IPv6 host has a /64 of addresses at least (RFC 6177), and must not count as that many callers.
  const countRefusal = app.createRateLimit({ max: refusalsPerMinute, timeWindow: 60_000, keyGenerator: request => `refused ${normalizeIP(request.ip)}` })
  app.decorateRequest('identity', null)
  const routes: RouteOptions[] = []
  app.addHook('onRoute', route => { routes.push(route) })
  app.addHook('onReady', async () => {
    const undeclared = routes.filter(({ config }) => config?.authorization !== 'public' && config?.authorization !== 'identity')
    if (undeclared.length > 0) throw new Error(`Routes without authorization: ${undeclared.map(({ method, url }) => `${String(method)} ${url}`).join(', ')}`)
  })
  app.addHook('onRequest', async request => {
    // An unknown route has no config: it is a 404 for everybody.
    if (request.is404 || request.routeOptions.config.authorization === 'public') return
    let refusal: { reason: string, details: object } | undefined
    try {
      request.identity = await authenticator.authenticate(request.headers.authorization, (reason, details) => { refusal = { reason, details } })
    } catch (problem) {
      // Whoever can reach the port can be refused; nobody may fill the log and the audit with it.
      const limit = await countRefusal(request)
      if (!limit.isAllowed && limit.isExceeded) throw new ProblemError('rate-limited', { retryAfterSeconds: limit.ttlInSeconds })
      request.log.warn({ ...refusal?.details, reason: refusal?.reason }, 'token refused')
      recorder.refused(request, refusal?.reason ?? 'unknown')
      throw problem
    }
  })
}

export const callerOf = (request: FastifyRequest): Identity => {
  if (!request.identity) throw new ProblemError('unauthenticated')
  return request.identity
}

export const actorOf = (request: FastifyRequest): Actor => ({ id: callerOf(request).id, requestId: request.id })

export const inTeam = (caller: Pick<Identity, 'teams'>, team: string): boolean => caller.teams.includes('*') || caller.teams.includes(team)

/** What the guardrails say of a request, as the stage between admission and rendering. */
export const guardOf = (request: FastifyRequest, guardrails: Guardrails, recorder: Recorder,
  action: 'issue' | 'extend' | 'render', at: At): Guard => (spec: AccessSpec) => {
  const decision = guardrails.decide(callerOf(request), spec, action, at)
  recorder.decided(request, action, decision, { team: spec.job.team, jobId: spec.job.id })
  if (!decision.allowed) throw ProblemError.of(decision.findings)
}

/** A grant of another team does not exist for the caller: 404, not 403, so that ids cannot be probed. */
export const visibleGrant = (request: FastifyRequest, recorder: Recorder, grant: Grant | undefined, action: string): Grant => {
  if (!grant) throw new ProblemError('grant-unknown')
  const { id: grantId, team, jobId } = grant
  if (inTeam(callerOf(request), team)) return grant
  const unknown = new ProblemError('grant-unknown')
  // The caller is not told; who reads the audit is.
  const detail = 'A grant of another team was asked for, and answered as unknown.'
  const denial = { code: unknown.code, pointer: '', detail, hint: '' }
  recorder.decided(request, action, { allowed: false, findings: [denial], decidedBy: [checks.team], faults: [] }, { team, jobId, grantId })
  throw unknown
}

export const permitOnGrant = (request: FastifyRequest, guardrails: Guardrails, recorder: Recorder, grant: Grant,
  action: 'view' | 'rotate' | 'revoke' | 'collect', now: Date): void => {
  const { team, jobId, owner, spec } = grant
  const decision = guardrails.decideOnGrant(callerOf(request), { team, jobId, owner, labels: spec.job.labels }, action, { now })
  recorder.decided(request, action, decision, { team, jobId, grantId: grant.id })
  if (!decision.allowed) throw ProblemError.of(decision.findings)
}
