import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Grant } from '../domain/grant.ts'
import { authoriseOnGrant, listableTeams } from '../lifecycle/authorise.ts'
import { end } from '../lifecycle/end.ts'
import { extend } from '../lifecycle/extend.ts'
import { issue } from '../lifecycle/issue.ts'
import { stateWord } from '../lifecycle/lease.ts'
import { fetchCredentials, rotate } from '../lifecycle/rotate.ts'
import { explainPolicy } from '../policy/explain.ts'
import { blastRadius } from '../policy/prove/blast-radius.ts'
import { FormatSchema, GrantRequestSchema } from '../request.ts'
import { callerOf } from './authorization.ts'
import { changedView, chooseFormat, deliveries, grantView, iso, isoSeconds, leavesWorkers, pageView, sender } from './delivery.ts'
import {
  BlastRadiusSchema, ChangeSchema, EventsSchema, GrantPageSchema, GrantSchema, IdParamsSchema, ListQuerySchema,
  PolicyExplanationSchema, QuestionSchema, RotateSchema, VerdictSchema, ref, statesOf
} from './schemas.ts'
import type { Service } from './service.ts'
import { refuseFields } from './strict-input.ts'
import { verdict } from './verdict.ts'

export const grantRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { deps } = service
  const identity = { config: { authorization: 'identity' as const } }

  const send = sender(service)

  app.post('/v1/grants', {
    ...identity,
    schema: {
      operationId: 'issueGrant',
      headers: Type.Object({
        'idempotency-key': Type.Optional(Type.String({
          minLength: 1,
          maxLength: 200,
          pattern: '^[\\x21-\\x7e]+$',
          description: 'The same key says that this is a retry: it gets the same grant with a fresh key. Default: the job itself, per ' +
            'identity, which does not say so.'
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
    const { state, team, job, account, limit = 50, after } = request.query
    const teams = listableTeams(deps, callerOf(request), team)
    const grants = await deps.ledger.list(
      {
        ...(teams && { teams }),
        ...(state && { states: statesOf(state) }),
        ...(job && { jobId: job }),
        ...(account && { account }),
        parentId: null
      },
      { limit: limit + 1, ...(after && { after }) })
    return pageView(grants, limit)
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
    const now = deps.now()
    // No key can be stolen before it is made.
    const at = grant.state === 'pending' ? Math.max(now, grant.issueAt ?? now) : now
    const first = aboutKey(grant, at > now)
    if (grant.maxWorkers !== null) first.push('No key has this policy: each worker’s key has it bound to the worker’s own source.')
    const { data, words } = blastRadius(grant.policy, new Date(at), undefined, new Date(now))
    return { at: iso(at), words: [...first, ...words], data }
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
      response: { 200: ref(GrantSchema), 202: ref(GrantSchema) }
    }
  }, async (request, reply) => {
    const grant = await extend(deps, callerOf(request), request.params.id, request.body)
    if (leavesWorkers(grant)) reply.code(202).header('retry-after', '5')
    return reply.send(changedView(grant, deps.now()))
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

/** What a blast radius says first where no key works. */
const aboutKey = (grant: Grant, scheduled: boolean): string[] => {
  const { state, issueAt, accessKeyId, dyingKeys, maxWorkers } = grant
  const then = 'What follows is what that key will open.'
  if (scheduled) return [`The grant is scheduled: it has no key before ${isoSeconds(issueAt ?? 0)}. ${then}`]
  if (state === 'active' && (accessKeyId !== null || dyingKeys.length > 0 || maxWorkers !== null)) return []
  return state === 'pending' || state === 'active'
    ? [`Nobody has a key of the grant yet. ${then}`]
    : [`The grant is ${stateWord(grant)}: what follows is what its policy alone would allow.`]
}
