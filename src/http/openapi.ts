import { readFileSync } from 'node:fs'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { problems, type ProblemCode } from '../problems.ts'
import { answers, requests } from './examples.ts'
import { operations, type OperationId } from './operations.ts'
import { problemExample } from './problem-examples.ts'

/** The document is generated from the routes' schemas; openapi/openapi.json is its committed copy, checked for drift by a test. */

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
/** The package's: of the document, and of `job_access_info`. The version of the wire is in its paths. */
export const version = manifest.version

/** What a route says of itself; everything else about it is in operations.ts and examples.ts, by this id. */
export const operation = (operationId: OperationId) => {
  const { tag, summary, description } = operations[operationId]
  return { operationId, summary, description, tags: [tag], security: tag === 'service' ? [] : [{ bearer: [] }] }
}

const description = `Issues each model-training job its own, minimal, self-expiring access to object storage. The window and the source
address are part of the IAM policy, so a key is dead outside them by itself.

To try it here: **Authorize** with the token that \`npm start\` printed, execute \`POST /v1/grants\` with its example, and take
\`grant.id\` of the answer wherever an \`id\` is asked for. Everything but \`/healthz\` and \`/readyz\` needs a token; a caller sees its
own team’s grants only.

What is refused is \`application/problem+json\` (RFC 9457): \`code\` is for programs, \`detail\` and \`hint\` for people, \`pointer\` names
the field. With \`Retry-After\` the same request may be sent again.`

export const useOpenApi = async (app: FastifyInstance): Promise<void> => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'job-access', version, description, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      tags: [
        { name: 'policies', description: 'Render, prove and ask, without issuing.' },
        { name: 'grants', description: 'A job’s access, from issue to end.' },
        { name: 'service', description: 'Liveness and readiness.' }
      ],
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            description: 'A static API token, or a JWT of a configured OIDC issuer. ' +
              '`npm start` without an identity file prints a token of its own.'
          }
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
      theme: { title: 'job-access API', js: [{ filename: 'scheme.js', content: followScheme }] },
      // Without the bar on top, which loads documents of other places and has an inline style.
      uiConfig: {
        layout: 'BaseLayout', persistAuthorization: false, tryItOutEnabled: true, displayRequestDuration: true, defaultModelsExpandDepth: 0
      },
      // The plugin's own would upgrade to HTTPS what a plain HTTP address serves, and lets styles and fonts come from anywhere.
      staticCSP: {
        'default-src': "'none'",
        'script-src': "'self'",
        'style-src': "'self'",
        'img-src': "'self' data:",
        'connect-src': "'self'",
        'base-uri': "'none'",
        'form-action': "'none'",
        'frame-ancestors': "'none'"
      }
    })
  })
}

/** Swagger UI is dark by this class alone. */
const followScheme = `const dark = matchMedia('(prefers-color-scheme: dark)')
const follow = () => document.documentElement.classList.toggle('dark-mode', dark.matches)
dark.addEventListener('change', follow)
follow()
`

interface Media { schema?: object, example?: unknown, examples?: Record<string, object> }
interface Response { description: string, headers?: Record<string, object>, content?: Record<string, Media> }
interface Operation {
  operationId?: OperationId
  security?: unknown[]
  parameters?: { name: string, in: string }[]
  requestBody?: { content: Record<string, Media> }
  responses: Record<string, Response>
}
interface Document {
  components: { examples?: Record<string, object> }
  paths: Record<string, Record<string, Operation>>
}

const withExamplesAndProblems = (document: Document): Document => {
  const answered = answers()
  const named = new Set<ProblemCode>()
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const { operationId } = operation
      if (operationId === undefined) continue
      const body = operation.requestBody?.content['application/json']
      if (body) body.examples = requests[operationId] ?? {}
      for (const [status, response] of Object.entries(operation.responses)) describe(response, status, answered[operationId][status] ?? {})
      for (const [status, codes] of Object.entries(byStatus(problemsOf(operationId, operation, method, path)))) {
        operation.responses[status] = refusal(status, codes, operation.responses[status])
        for (const code of codes) named.add(code)
      }
    }
  }
  document.components.examples = Object.fromEntries(inOrder(named).map(code =>
    [code, { summary: problems[code][1], value: problemExample(code) }]))
  return document
}

const describe = (response: Response, status: string, examples: Record<string, unknown>): void => {
  // What @fastify/swagger says of a route that says nothing.
  if (response.description === 'Default Response') response.description = said[status] ?? response.description
  for (const [type, media] of Object.entries(response.content ?? {})) media.example = examples[type]
  if (response.content?.['text/x-env']) response.headers = ofDelivery
  if (status === '202') response.headers = retryAfter
}

const said: Record<string, string> = {
  200: 'Done.',
  202: 'Under way: the key goes first, and the service goes on by itself.',
  503: '`checks` names what failed.'
}

const header = (type: string, description: string) => ({ schema: { type }, description })
const retryAfter = { 'Retry-After': header('integer', 'Seconds after which the same request may be sent again.') }
const ofDelivery = {
  Location: header('string', 'Path of the grant.'),
  'Job-Access-Grant': header('string', 'Id of the grant, for the forms that do not hold it.'),
  'Job-Access-Ready': header('string', '`true` or `false`, with `waitUntilReady`, for the forms that do not hold it.')
}

/** What follows from the operation's shape, and what operations.ts says besides. */
const problemsOf = (id: OperationId, { security, parameters, requestBody }: Operation, method: string, path: string): ProblemCode[] => {
  const words = operations[id]
  return [
    ...(requestBody || parameters ? ['request-invalid'] as const : []),
    // Fastify reads the body of these, also where none is wanted.
    ...(method !== 'get' ? ['request-malformed', 'request-too-large', 'media-type-unsupported'] as const : []),
    ...(security?.length ? ['unauthenticated', 'identity-unavailable'] as const : []),
    ...(path.includes('{id}') ? ['forbidden', 'grant-unknown', 'ledger-unavailable'] as const : []),
    ...('problems' in words ? words.problems : []),
    'rate-limited', 'shutting-down', 'internal'
  ]
}

const inOrder = (codes: ReadonlySet<ProblemCode>): ProblemCode[] => (Object.keys(problems) as ProblemCode[]).filter(code => codes.has(code))

const byStatus = (codes: ProblemCode[]): Record<string, ProblemCode[]> =>
  Object.groupBy(inOrder(new Set(codes)), code => `${problems[code][0]}`) as Record<string, ProblemCode[]>

const mayRetry = ['409', '429', '503']

const refusal = (status: string, codes: ProblemCode[], other: Response | undefined): Response => ({
  description: [other?.description, codes.map(code => `\`${code}\``).join(', ')].filter(text => text).join(' Or: '),
  ...(mayRetry.includes(status) && { headers: retryAfter }),
  content: {
    ...other?.content,
    'application/problem+json': {
      schema: { $ref: '#/components/schemas/Problem' },
      examples: Object.fromEntries(codes.map(code => [code, { $ref: `#/components/examples/${code}` }]))
    }
  }
})
