import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { profileNameOf } from '../iam/role-profile.ts'
import { prepare, renderOnly, type Rendered } from '../lifecycle/prepare.ts'
import { PolicyRequestSchema, type PolicyRequest } from '../request.ts'
import { guardOf } from './authorization.ts'
import { CheckRequestSchema, RenderedSchema, VerdictSchema, ref } from './schemas.ts'
import type { Service } from './service.ts'
import { verdict } from './verdict.ts'
import { renderedView } from './views.ts'

/** Rendering without issuing: no IAM call, nothing in the ledger. */
export const policyRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { deps, recorder } = service
  const config = { authorization: 'identity' as const }

  /** What POST /v1/grants would do short of issuing. */
  const preflight = (request: Parameters<typeof guardOf>[0], body: PolicyRequest) => {
    const profile = profileNameOf(body)
    const at = { now: new Date(deps.now()), ...(profile !== undefined && { profile }) }
    return prepare(deps.rules(), body, guardOf(request, service.guardrails(), recorder, 'render', at), deps.now())
  }

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
    const rendered: Rendered & { probes?: number } = request.query.preflight
      ? preflight(request, request.body)
      : renderOnly(deps.rules(), request.body, deps.now())
    return renderedView(rendered, deps.rules().dialect.sizes)
  })

  app.post('/v1/policies/check', {
    config,
    schema: {
      operationId: 'checkPolicy',
      body: CheckRequestSchema,
      response: { 200: ref(VerdictSchema) }
    }
  }, async request => {
    const { policy } = renderOnly(deps.rules(), request.body.request, deps.now())
    return verdict(policy, request.body.question, new Date(deps.now()), '/question')
  })
}
