import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { prepare, renderOnly, type Rendered } from '../lifecycle/prepare.ts'
import { explain } from '../policy/explain.ts'
import { PolicyRequestSchema, type PolicyRequest } from '../request.ts'
import { guardOf } from './authorization.ts'
import { examples, operation } from './openapi.ts'
import { CheckRequestSchema, RenderedSchema, VerdictSchema, ref } from './schemas.ts'
import type { Service } from './service.ts'
import { verdict } from './verdict.ts'

/** Rendering without issuing: no IAM call, nothing in the ledger. */
export const policyRoutes: FastifyPluginAsyncTypebox<{ service: Service }> = async (app, { service }) => {
  const { desk, recorder } = service
  const config = { authorization: 'identity' as const }

  /** What POST /v1/grants would do short of issuing. */
  const preflight = (request: Parameters<typeof guardOf>[0], body: PolicyRequest) =>
    prepare(desk.rules(), body, guardOf(request, service.guardrails(), recorder, 'render', { now: new Date(desk.now()) }), desk.now())

  app.post('/v1/policies', {
    config,
    schema: {
      ...operation('renderPolicy', 'Render the policy of a request, without issuing anything', examples.policy),
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
      : renderOnly(desk.rules(), request.body, desk.now())
    const { admitted, policy, measure, carrier, warnings, probes } = rendered
    const { sizes } = desk.rules().dialect
    return {
      policy,
      size: { characters: measure.characters, limits: { inline: sizes.inline ?? 0, managed: sizes.managed ?? 0 }, sha256: measure.sha256 },
      attach: carrier,
      window: admitted.window,
      proof: probes === undefined ? null : { probes },
      explanation: explain(policy),
      warnings
    }
  })

  app.post('/v1/policies/check', {
    config,
    schema: {
      ...operation('checkPolicy', 'Would this request be allowed by the policy of that request, and which statement decides', examples.check),
      body: CheckRequestSchema,
      response: { 200: ref(VerdictSchema) }
    }
  }, async request => {
    const { policy } = renderOnly(desk.rules(), request.body.request, desk.now())
    return verdict(policy, request.body.question, new Date(desk.now()), '/question')
  })
}
