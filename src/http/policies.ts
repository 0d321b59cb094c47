import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { authorise, normaliseRequest, proveAccess, renderAccess, type Rendered } from '../lifecycle/access.ts'
import { PolicyRequestSchema } from '../request.ts'
import { callerOf } from './authorization.ts'
import { CheckRequestSchema, RenderedSchema, VerdictSchema, ref } from './schemas.ts'
import type { Service } from './service.ts'
import { verdict } from './verdict.ts'
import { renderedView } from './delivery.ts'

/** Rendering without issuing: no IAM call, nothing in the ledger. */
export const policyRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { deps } = service
  const { deployment } = deps
  const config = { authorization: 'identity' as const }

  app.post('/v1/policies', {
    config,
    schema: {
      operationId: 'renderPolicy',
      querystring: Type.Object({
        preflight: Type.Optional(Type.Boolean({
          description: 'Also ask the guardrails and prove the policy, as POST /v1/grants would: what it refuses, this refuses.',
          default: false
        }))
      }, { additionalProperties: false }),
      body: PolicyRequestSchema,
      response: { 200: ref(RenderedSchema) }
    }
  }, async request => {
    const now = deps.now()
    const normalised = normaliseRequest(deployment, request.body, now)
    const view = (rendered: Rendered & { probes?: number }) => renderedView(rendered, deployment.dialect.sizes)
    if (!request.query.preflight) return view(renderAccess(deployment, normalised))
    const rendered = renderAccess(deployment, normalised)
    const caller = callerOf(request)
    await deps.turn(caller.id)
    return view(proveAccess(authorise(deps, caller, 'render', rendered)))
  })

  app.post('/v1/policies/check', {
    config,
    schema: {
      operationId: 'checkPolicy',
      body: CheckRequestSchema,
      response: { 200: ref(VerdictSchema) }
    }
  }, async request => {
    const now = deps.now()
    const { policy } = renderAccess(deployment, normaliseRequest(deployment, request.body.request, now))
    return verdict(policy, request.body.question, new Date(now), '/question')
  })
}
