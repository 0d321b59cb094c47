import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { authoriseOnGrant, listableTeams } from '../lifecycle/authorise.ts'
import { end } from '../lifecycle/end.ts'
import { extend } from '../lifecycle/extend.ts'
import { issue } from '../lifecycle/issue.ts'
import type { Delivery } from '../lifecycle/provision.ts'
import { fetchCredentials, rotate } from '../lifecycle/rotate.ts'
import { explainPolicy } from '../policy/explain.ts'
import type { Warning } from '../policy/normalise.ts'
import { blastRadius } from '../policy/prove/blast-radius.ts'
import { ProblemError, pointerTo } from '../problems.ts'
import { FormatSchema, GrantRequestSchema, type Format } from '../request.ts'
import { callerOf } from './authorization.ts'
import { changedView, chooseFormat, deliver, deliveryView, grantView, iso, mediaTypes, sessionWarnings } from './delivery.ts'
import {
  BlastRadiusSchema, ChangeSchema, DeliverySchema, EventsSchema, GrantPageSchema, GrantSchema, IdParamsSchema, ListQuerySchema,
  PolicyExplanationSchema, QuestionSchema, RotateSchema, VerdictSchema, ref
} from './schemas.ts'
import type { Service } from './service.ts'
import { verdict } from './verdict.ts'

export const grantRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { deps } = service
  const identity = { config: { authorization: 'identity' as const } }

  const send = async (
    reply: FastifyReply, format: Format, delivery: Delivery & { created?: boolean, ready?: boolean, warnings?: Warning[] }
  ) => {
    const { grant, credentials, ready, warnings = [] } = delivery
    const extra = { warnings: [...warnings, ...sessionWarnings(delivery, deps.now())], ...(ready !== undefined && { ready }) }
    reply.code(delivery.created ? 201 : 200).header('location', `/v1/grants/${grant.id}`).header('job-access-grant', grant.id)
    if (format === 'json' || !credentials) return reply.send(deliveryView(delivery, service.notice, extra))
    if (ready !== undefined) reply.header('job-access-ready', String(ready))
    return reply.type(mediaTypes[format]).send(deliver(format, credentials, grant, service.s3, service.notice))
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
    const { body } = request
    const format = chooseFormat(body.format, request.headers.accept)
    const key = request.headers['idempotency-key']
    const issued = await issue(deps, callerOf(request), { request: body, ...(typeof key === 'string' && { idempotencyKey: key }) })
    return send(reply, format, issued)
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
    const teams = listableTeams(deps, callerOf(request), team)
    const grants = await deps.ledger.list(
      { ...(teams && { teams }), ...(state && { states: [state] }), ...(job && { jobId: job }) },
      { limit: limit + 1, ...(after && { after }) })
    const page = grants.slice(0, limit)
    return { grants: page.map(grantView), next: grants.length > limit ? page.at(-1)?.id ?? null : null }
  })

  app.get('/v1/grants/:id', {
    ...identity,
    schema: { operationId: 'getGrant', params: IdParamsSchema, response: { 200: ref(GrantSchema) } }
  }, async request => grantView(await authoriseOnGrant(deps, callerOf(request), request.params.id, 'view')))

  app.get('/v1/grants/:id/events', {
    ...identity,
    schema: { operationId: 'listGrantEvents', params: IdParamsSchema, response: { 200: ref(EventsSchema) } }
  }, async request => {
    const grant = await authoriseOnGrant(deps, callerOf(request), request.params.id, 'view')
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
  }, async request => ({ explanation: explainPolicy((await authoriseOnGrant(deps, callerOf(request), request.params.id, 'view')).policy) }))

  app.get('/v1/grants/:id/blast-radius', {
    ...identity,
    schema: {
      operationId: 'getBlastRadius',
      params: IdParamsSchema,
      response: { 200: ref(BlastRadiusSchema) }
    }
  }, async request => {
    const grant = await authoriseOnGrant(deps, callerOf(request), request.params.id, 'view')
    const dead = grant.state === 'active' ? [] : [`The grant is ${grant.state}: what follows is what its policy alone would allow.`]
    const { data, words } = blastRadius(grant.policy, new Date(deps.now()))
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
  }, async request => {
    const { policy } = await authoriseOnGrant(deps, callerOf(request), request.params.id, 'view')
    return verdict(policy, request.body, new Date(deps.now()), '')
  })

  app.patch('/v1/grants/:id', {
    ...identity,
    schema: {
      operationId: 'changeGrant',
      params: IdParamsSchema,
      body: ChangeSchema,
      response: { 200: ref(GrantSchema) }
    }
  }, async request => changedView(await extend(deps, callerOf(request), request.params.id, request.body), deps.now()))

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
    const delivery = await rotate(deps, callerOf(request), request.params.id, request.body.overlapSeconds ?? 0)
    return send(reply, format, delivery)
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
    return send(reply, format, await fetchCredentials(deps, callerOf(request), request.params.id))
  })

  /** 200: the grant has ended, nothing of it is left. 202: it is being ended; its key is deleted first, and the sweeper continues. */
  const ending = (reason: 'completed' | 'revoked') => async (request: FastifyRequest, reply: FastifyReply) => {
    const { id } = request.params as { id: string }
    refuseFields(request.body)
    const grant = await end(deps, callerOf(request), id, reason)
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

/** An end has no parameters, and no input is ignored: a body with fields is refused. `{}` is how some clients send no body. */
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

/** The same answer in each format, by media type. */
const deliveries = (...statuses: number[]) => Object.fromEntries(statuses.map(status => [status, {
  content: {
    'application/json': { schema: ref(DeliverySchema) },
    ...Object.fromEntries(
      Object.values(mediaTypes).map(type => [type, { schema: type.startsWith('text/') ? Type.String() : Type.Object({}) }])
    )
  }
}]))
