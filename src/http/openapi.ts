import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { guideRequest } from '../request.ts'
import { ProblemSchema, ref } from './schemas.ts'

/** The document is generated from the routes' schemas; openapi/openapi.json is its committed copy, checked for drift by a test. */

export const version = '1.0.0'

/** Every operation's request example: each runs as it is against `npm start`. */
export const examples = {
  policy: guideRequest,
  grant: guideRequest,
  change: { window: { durationSeconds: 14400 } },
  rotate: { overlapSeconds: 60 },
  question: { action: 's3:PutObject', bucket: 'acmeco-finetuned-models', key: 'model.safetensors', sourceIp: '203.0.113.42' },
  check: {
    request: guideRequest,
    question: { action: 's3:PutObject', bucket: 'acmeco-base-models', key: 'model.safetensors', sourceIp: '203.0.113.42' }
  }
}

const exampleOf = new Map<string, object>()

/** id, summary, security and the errors that every operation may answer. */
export const operation = (operationId: string, summary: string, example?: object) => {
  if (example) exampleOf.set(operationId, example)
  return {
    operationId,
    summary,
    tags: [operationId.includes('olicy') ? 'policies' : operationId.startsWith('get') && /Health|Readiness/.test(operationId) ? 'service' : 'grants'],
    security: [{ bearer: [] }]
  }
}

export const useOpenApi = async (app: FastifyInstance): Promise<void> => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'job-access',
        version,
        description: 'Issues each model-training job its own, minimal, self-expiring access to object storage. ' +
          'The window and the source address are part of the policy, so a key is dead outside them by itself.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' }
      },
      tags: [
        { name: 'policies', description: 'Render, prove and ask, without issuing.' },
        { name: 'grants', description: 'A job’s access, from issue to end.' },
        { name: 'service', description: 'Liveness and readiness.' }
      ],
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', description: 'A static API token, or a JWT of a configured OIDC issuer.' }
        }
      }
    },
    refResolver: { buildLocalReference: (schema, _base, _fragment, index) => typeof schema.$id === 'string' ? schema.$id : `def-${index}` },
    transformObject: documentObject => {
      if (!('openapiObject' in documentObject)) return documentObject.swaggerObject
      return withExamplesAndProblems(documentObject.openapiObject as unknown as Document) as never
    }
  })
  await app.register(async docs => {
    docs.addHook('onRoute', route => { route.config = { ...route.config, authorization: 'public' } })
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      uiConfig: { persistAuthorization: false, tryItOutEnabled: true, displayRequestDuration: true },
      staticCSP: true
    })
  })
}

interface Operation { operationId?: string, security?: unknown[], requestBody?: { content: Record<string, { example?: object }> }, responses: Record<string, object> }
interface Document { paths: Record<string, Record<string, Operation>> }

const problem = { description: 'What is wrong and what to do about it.', content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } } }

/** Errors are one shape and come from one place, so they are said once, here. */
const withExamplesAndProblems = (document: Document): Document => {
  for (const methods of Object.values(document.paths)) {
    for (const operation of Object.values(methods)) {
      const example = exampleOf.get(operation.operationId ?? '')
      const body = operation.requestBody?.content['application/json']
      if (example && body) body.example = example
      if (operation.operationId && operation.security?.length) operation.responses['4XX'] = problem
      if (operation.operationId) operation.responses['5XX'] ??= problem
    }
  }
  return document
}

/** Keeps Problem among the components, though no route names it itself. */
export const problemComponent = ref(ProblemSchema)
