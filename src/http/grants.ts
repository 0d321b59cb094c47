import { createHash } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { profileNameOf, sessionEnd } from '../iam/role-profile.ts'
import type { Grant } from '../domain/grant.ts'
import { end } from '../lifecycle/end.ts'
import { extend } from '../lifecycle/extend.ts'
import { issue, type Delivery } from '../lifecycle/issue.ts'
import { prepare } from '../lifecycle/prepare.ts'
import { fetchCredentials, rotate } from '../lifecycle/rotate.ts'
import { explain } from '../policy/explain.ts'
import { parseInstant } from '../policy/instants.ts'
import { canonicalJson } from '../policy/measure.ts'
import { blastRadius } from '../policy/prove/blast-radius.ts'
import { ProblemError, pointerTo } from '../problems.ts'
import { FormatSchema, GrantRequestSchema, type Format, type GrantRequest } from '../request.ts'
import { actorOf, callerOf, guardOf, inTeam, permitOnGrant, visibleGrant } from './authorization.ts'
import { chooseFormat, deliver, isoSeconds, mediaTypes } from './delivery.ts'
import {
  BlastRadiusSchema, ChangeSchema, DeliverySchema, EventsSchema, GrantPageSchema, GrantSchema, IdParamsSchema, ListQuerySchema,
  PolicyExplanationSchema, QuestionSchema, RotateSchema, VerdictSchema, ref
} from './schemas.ts'
import type { Service } from './service.ts'
import { verdict } from './verdict.ts'
import { deliveryView, grantView, iso, type LifecycleWarning } from './views.ts'

export const grantRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { deps, recorder } = service
  const identity = { config: { authorization: 'identity' as const } }
  const now = () => new Date(deps.now())
  const visible = async (request: Parameters<typeof visibleGrant>[0], id: string, action: Parameters<typeof permitOnGrant>[4]): Promise<Grant> => {
    const grant = visibleGrant(request, recorder, await deps.ledger.get(id), action)
    permitOnGrant(request, service.guardrails(), recorder, grant, action, now())
    return grant
  }

  const send = async (reply: FastifyReply, format: Format, delivery: Delivery, extra: Parameters<typeof deliveryView>[2]) => {
    const { grant, credentials } = delivery
    reply.code(delivery.created ? 201 : 200).header('location', `/v1/grants/${grant.id}`).header('job-access-grant', grant.id)
    if (format === 'json' || !credentials) return reply.send(deliveryView(delivery, service.notice, extra))
    if (extra.ready !== undefined) reply.header('job-access-ready', String(extra.ready))
    return reply.type(mediaTypes[format]).send(deliver(format, credentials, grant, service.s3, service.notice))
  }

  const readiness = async (wanted: boolean | undefined, { grant, credentials }: Delivery): Promise<{ ready?: boolean }> => {
    if (!wanted || !credentials) return {}
    return { ready: await deps.principals(grant.attach).ready(grant.principal, credentials, deps.deadline()) }
  }

  app.post('/v1/grants', {
    ...identity,
    schema: {
      operationId: 'issueGrant',
      headers: Type.Object({
        'idempotency-key': Type.Optional(Type.String({
          minLength: 1,
          maxLength: 200,
          pattern: '^[\\x21-\\x7e]+$',
          description: 'A retry with the same key and body gets the same grant with a fresh key. Default: the job itself, per identity.'
        }))
      }),
      body: GrantRequestSchema,
      response: deliveries(201, 200)
    }
  }, async (request, reply) => {
    const body = request.body as GrantRequest
    const format = chooseFormat(body.format, request.headers.accept)
    const issueAt = instantOf(body.issueAt, '/issueAt')
    const profile = profileNameOf(body)
    const at = { now: now(), ...(profile !== undefined && { profile }) }
    const guard = guardOf(request, service.guardrails(), recorder, 'issue', at)
    const prepared = prepare(deps.rules(), body, guard, deps.now())
    if (issueAt !== undefined) scheduleFits(issueAt, Date.parse(prepared.spec.window.outputNotAfter))
    const key = request.headers['idempotency-key']
    const delivery = await issue(deps, actorOf(request), {
      prepared,
      requestHash: hashOf(body),
      ...(typeof key === 'string' && { idempotencyKey: key }),
      ...(issueAt !== undefined && { issueAt })
    })
    return send(reply, format, delivery, { warnings: prepared.warnings, ...await readiness(body.waitUntilReady, delivery) })
  })

  app.get('/v1/grants', {
    ...identity,
    schema: {
      operationId: 'listGrants',
      querystring: ListQuerySchema,
      response: { 200: ref(GrantPageSchema) }
    }
  }, async request => {
    const { state, team, job, limit = 50, after } = request.query
    const teams = listable(request, service, team)
    const grants = await deps.ledger.list(
      { ...(teams && { teams }), ...(state && { states: [state] }), ...(job && { jobId: job }) },
      { limit: limit + 1, ...(after && { after }) })
    const page = grants.slice(0, limit)
    return { grants: page.map(grantView), next: grants.length > limit ? page.at(-1)?.id ?? null : null }
  })

  app.get('/v1/grants/:id', {
    ...identity,
    schema: { operationId: 'getGrant', params: IdParamsSchema, response: { 200: ref(GrantSchema) } }
  }, async request => grantView(await visible(request, request.params.id, 'view')))

  app.get('/v1/grants/:id/events', {
    ...identity,
    schema: { operationId: 'listGrantEvents', params: IdParamsSchema, response: { 200: ref(EventsSchema) } }
  }, async request => {
    const grant = await visible(request, request.params.id, 'view')
    const events = await deps.ledger.events(grant.id)
    return { events: events.map(({ grantId, at, ...rest }) => ({ at: iso(at), ...rest })) }
  })

  app.get('/v1/grants/:id/explanation', {
    ...identity,
    schema: {
      operationId: 'explainGrant',
      params: IdParamsSchema,
      response: { 200: ref(PolicyExplanationSchema) }
    }
  }, async request => ({ explanation: explain((await visible(request, request.params.id, 'view')).policy) }))

  app.get('/v1/grants/:id/blast-radius', {
    ...identity,
    schema: {
      operationId: 'getBlastRadius',
      params: IdParamsSchema,
      response: { 200: ref(BlastRadiusSchema) }
    }
  }, async request => {
    const grant = await visible(request, request.params.id, 'view')
    const dead = grant.state === 'active' ? [] : [`The grant is ${grant.state}: what follows is what its policy alone would allow.`]
    const { data, words } = blastRadius(grant.policy, now())
    return { at: iso(deps.now()), words: [...dead, ...words], data }
  })

  app.post('/v1/grants/:id/check', {
    ...identity,
    schema: {
      operationId: 'checkGrant',
      params: IdParamsSchema,
      body: ref(QuestionSchema),
      response: { 200: ref(VerdictSchema) }
    }
  }, async request => verdict((await visible(request, request.params.id, 'view')).policy, request.body, now(), ''))

  app.patch('/v1/grants/:id', {
    ...identity,
    schema: {
      operationId: 'changeGrant',
      params: IdParamsSchema,
      body: ChangeSchema,
      response: { 200: ref(GrantSchema) }
    }
  }, async request => {
    const { owner } = visibleGrant(request, recorder, await deps.ledger.get(request.params.id), 'extend')
    const guard = guardOf(request, service.guardrails(), recorder, 'extend', { now: now(), owner })
    const { grant } = await extend(deps, actorOf(request), request.params.id, request.body, guard)
    return grantView(grant)
  })

  app.post('/v1/grants/:id/rotate', {
    ...identity,
    schema: {
      operationId: 'rotateGrant',
      params: IdParamsSchema,
      body: RotateSchema,
      response: deliveries(200)
    }
  }, async (request, reply) => {
    const format = chooseFormat(request.body.format, request.headers.accept)
    await visible(request, request.params.id, 'rotate')
    const delivery = await rotate(deps, actorOf(request), request.params.id, request.body.overlapSeconds ?? 0)
    return send(reply, format, delivery, { warnings: rotationWarnings(delivery.grant) })
  })

  app.post('/v1/grants/:id/credentials', {
    ...identity,
    schema: {
      operationId: 'fetchCredentials',
      params: IdParamsSchema,
      body: Type.Object({ format: Type.Optional(FormatSchema) }, { additionalProperties: false }),
      response: deliveries(200)
    }
  }, async (request, reply) => {
    const format = chooseFormat(request.body.format, request.headers.accept)
    await visible(request, request.params.id, 'collect')
    return send(reply, format, await fetchCredentials(deps, actorOf(request), request.params.id), { warnings: [] })
  })

  /** 200: ended, nothing of it is left. 202: being ended; the key goes first, the sweeper does the rest. */
  const ending = (reason: 'completed' | 'revoked') => async (request: Parameters<typeof visibleGrant>[0], reply: FastifyReply) => {
    const { id } = request.params as { id: string }
    refuseFields(request.body)
    await visible(request, id, 'revoke')
    const grant = await end(deps, actorOf(request), id, reason)
    if (grant.state === 'revoking') reply.code(202).header('retry-after', '5')
    return reply.send(grantView(grant))
  }

  app.post('/v1/grants/:id/complete', {
    ...identity,
    schema: {
      operationId: 'completeGrant',
      params: IdParamsSchema,
      response: { 200: ref(GrantSchema), 202: ref(GrantSchema) }
    }
  }, ending('completed'))

  app.delete('/v1/grants/:id', {
    ...identity,
    schema: {
      operationId: 'revokeGrant',
      params: IdParamsSchema,
      response: { 200: ref(GrantSchema), 202: ref(GrantSchema) }
    }
  }, ending('revoked'))
}

/** An end takes nothing: what a body asks for would be ignored, and nothing is. `{}` is what some clients send for nothing. */
const refuseFields = (body: unknown): void => {
  if (body === undefined || body === null) return
  const pointers = typeof body === 'object' && !Array.isArray(body) ? Object.keys(body).map(name => pointerTo('', name)) : ['']
  if (pointers.length === 0) return
  throw ProblemError.of(pointers.map(pointer => ({
    code: 'request-invalid',
    pointer,
    detail: 'This operation takes no fields.',
    hint: 'Send no body, or an empty object.'
  })))
}

/** A session has no key that could be deleted: whatever overlap was asked for, the one before lasts. */
const rotationWarnings = (grant: Grant): LifecycleWarning[] => grant.attach !== 'session'
  ? []
  : [{
      code: 'session-lives-on',
      detail: `The session before this one works on until ${isoSeconds(sessionEnd(grant))}; if it leaked, revoke the grant and ask for another.`
    }]

/** Every format is a media type of the same answer. */
const deliveries = (...statuses: number[]) => Object.fromEntries(statuses.map(status => [status, {
  content: {
    'application/json': { schema: ref(DeliverySchema) },
    ...Object.fromEntries(Object.values(mediaTypes).map(type => [type, { schema: type.startsWith('text/') ? Type.String() : Type.Object({}) }]))
  }
}]))

/** Undefined: every team. A caller without the team asked for gets an empty page, like a team without grants. */
const listable = (request: Parameters<typeof callerOf>[0], service: Service, team: string | undefined): string[] | undefined => {
  const caller = callerOf(request)
  const wanted = team === undefined ? caller.teams : inTeam(caller, team) ? [team] : []
  const at = { now: new Date(service.deps.now()) }
  const allowed = wanted.filter(name => service.guardrails().decideOnTeam(caller, name, at).allowed)
  if (wanted.length > 0 && allowed.length === 0) throw new ProblemError('forbidden', { detail: 'The guardrails do not let you list grants.', hint: 'Ask who owns the guardrails.' })
  return allowed.includes('*') ? undefined : allowed
}

const hashOf = ({ format, waitUntilReady, ...body }: GrantRequest): string =>
  createHash('sha256').update(canonicalJson(body)).digest('hex')

const instantOf = (text: string | undefined, pointer: string): number | undefined => {
  if (text === undefined) return undefined
  const instant = parseInstant(text)
  if (instant.ok) return instant.epochMs
  throw ProblemError.of([{ code: 'time-invalid', pointer, detail: instant.why, hint: instant.hint }])
}

const scheduleFits = (issueAt: number, windowEnds: number): void => {
  if (issueAt < windowEnds) return
  throw ProblemError.of([{
    code: 'window-invalid',
    pointer: '/issueAt',
    detail: 'The key would be minted after its window has ended.',
    hint: 'Give an issueAt before the end of the window.'
  }])
}
