import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { authoriseOnGrant } from '../lifecycle/authorise.ts'
import { endWorker, join, workerOf } from '../lifecycle/join.ts'
import { JoinRequestSchema } from '../request.ts'
import { callerOf } from './authorization.ts'
import { chooseFormat, deliveries, grantView, pageView, sender } from './delivery.ts'
import {
  EndWorkerQuerySchema, GrantPageSchema, GrantSchema, IdParamsSchema, WorkerParamsSchema, WorkersQuerySchema, ref, statesOf
} from './schemas.ts'
import type { Service } from './service.ts'
import { refuseFields } from './strict-input.ts'

/** The workers of a job: each is a grant, with its own principal, of which the job's grant is the parent. */
export const workerRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { deps } = service
  const identity = { config: { authorization: 'identity' as const } }
  const send = sender(service)

  app.post('/v1/grants/:id/workers', {
    ...identity,
    schema: { operationId: 'joinGrant', params: IdParamsSchema, body: JoinRequestSchema, response: deliveries(201, 200) }
  }, async (request, reply) => {
    const format = chooseFormat(request.body.format, request.headers.accept)
    const issued = await join(deps, callerOf(request), request.params.id, request.body)
    return send(reply, format, issued)
  })

  app.get('/v1/grants/:id/workers', {
    ...identity,
    schema: {
      operationId: 'listWorkers', params: IdParamsSchema, querystring: WorkersQuerySchema, response: { 200: ref(GrantPageSchema) }
    }
  }, async request => {
    const { state, limit = 50, after } = request.query
    const { id } = await authoriseOnGrant(deps, callerOf(request), request.params.id, 'view')
    const workers = await deps.ledger.list(
      { parentId: id, ...(state && { states: statesOf(state) }) }, { limit: limit + 1, ...(after && { after }) })
    return pageView(workers, limit)
  })

  app.get('/v1/grants/:id/workers/:name', {
    ...identity,
    schema: { operationId: 'getWorker', params: WorkerParamsSchema, response: { 200: ref(GrantSchema) } }
  }, async request => grantView(await workerOf(deps, callerOf(request), request.params.id, request.params.name, 'view')))

  app.delete('/v1/grants/:id/workers/:name', {
    ...identity,
    schema: {
      operationId: 'endWorker',
      params: WorkerParamsSchema,
      querystring: EndWorkerQuerySchema,
      response: { 200: ref(GrantSchema), 202: ref(GrantSchema) }
    }
  }, async (request, reply) => {
    refuseFields(request.body)
    const grant = await endWorker(deps, callerOf(request), request.params.id, request.params.name, request.query.attempt)
    if (grant.state === 'revoking') reply.code(202).header('retry-after', '5')
    return reply.send(grantView(grant))
  })
}
