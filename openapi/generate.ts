import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import swagger from '@fastify/swagger'
import fastify, { type RouteOptions } from 'fastify'
import { buildApp } from '../src/http/app.ts'
import { shared } from '../src/http/schemas.ts'
import type { Service } from '../src/http/service.ts'
import { problems, type ProblemCode } from '../src/problems.ts'
import { answers, requests } from './examples.ts'
import { operations, type OperationId } from './operations.ts'
import { ProblemSchema, problemExample } from './problems.ts'

/**
 * `npm run openapi`: writes openapi.json, which the service serves. Paths, parameters and schemas come from the routes of the service;
 * what only a reader needs comes from the files of this folder, by operationId.
 */

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

const description = `Issues each model-training job its own, minimal, self-expiring access to object storage. The window and the source
address are part of the IAM policy, so outside them the key allows nothing.

To try it here: **Authorize** with the token that \`npm start\` printed, execute \`POST /v1/grants\` with its example, and give
\`grant.id\` of the answer to each operation that takes an \`id\`. Every operation but \`/healthz\` and \`/readyz\` needs a token; a caller
sees only the grants of its own teams.

A refusal is \`application/problem+json\` (RFC 9457): \`code\` is for programs, \`detail\` and \`hint\` are for people, \`pointer\` names
the field. With \`Retry-After\` you may send the same request again. Each status has one example; \`components.examples\` of the document has
one for each \`code\`.`

/** The document as text. It needs the routes only: no service behind them, and nothing is started. */
export const openApiText = async (): Promise<string> => {
  const app = fastify({ exposeHeadRoutes: false })
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => JSON.stringify)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'job-access', version, description, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      tags: [
        { name: 'policies', description: 'Render and check a policy without issuing a grant.' },
        { name: 'grants', description: 'A job’s access, from issue to end.' },
        { name: 'workers', description: 'The workers of a job: each joins with its own source, and gets a key of its own.' },
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
      return withExamplesAndProblems(documentObject.openapiObject as unknown as Document)
    }
  })
  for (const schema of [...shared, ProblemSchema]) app.addSchema(schema)
  for (const { method, url, schema, config } of await routes()) {
    const { tag, summary, description } = operations[operationOf(schema)]
    const security = config?.authorization === 'public' ? [] : [{ bearer: [] }]
    app.route({ method, url, schema: { ...schema, tags: [tag], summary, description, security }, handler: async () => null })
  }
  await app.ready()
  return `${JSON.stringify(app.swagger(), null, 2)}\n`
}

/** The routes of the service that have an operationId: all but the pages, and the HEAD that Fastify adds to every GET. */
const routes = async (): Promise<RouteOptions[]> => {
  const found: RouteOptions[] = []
  const service = {
    deps: {}, authenticator: {}, recorder: {}, trustProxy: false, ratePerMinute: 1, refusalsPerMinute: 1
  } as unknown as Service
  const app = await buildApp(service, { logger: false, newRequestId: () => '', onRoute: route => found.push(route) })
  await app.close()
  const operated = found.filter(({ method, schema }) => method !== 'HEAD' && schema?.operationId !== undefined)
  const missing = Object.keys(operations).filter(id => !operated.some(({ schema }) => schema?.operationId === id))
  if (missing.length > 0) throw new Error(`operations.ts describes what no route has: ${missing.join(', ')}`)
  return operated
}

const operationOf = (schema: RouteOptions['schema']): OperationId => {
  const id = schema?.operationId ?? ''
  if (id in operations) return id as OperationId
  throw new Error(`operations.ts does not describe ${id}`)
}

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
  const delivery = response.content?.['text/x-env'] !== undefined
  const text = (delivery ? saidOfDelivery : said)[status]
  if (text === undefined) throw new Error(`no description of status ${status}`)
  response.description = text
  for (const [type, media] of Object.entries(response.content ?? {})) media.example = examples[type]
  if (delivery) response.headers = ofDelivery
  if (status === '202') response.headers = retryAfter
}

const said: Record<string, string> = {
  200: 'Done.',
  202: 'Under way: the key is deleted first, and the service finishes the rest by itself.',
  503: '`checks` names what failed.'
}
const saidOfDelivery: Record<string, string> = {
  200: 'The grant and fresh credentials. They are shown this once.',
  201: 'A new grant and its credentials. They are shown this once.'
}

const header = (type: string, description: string) => ({ schema: { type }, description })
const retryAfter = { 'Retry-After': header('integer', 'Seconds after which the same request may be sent again.') }
const ofDelivery = {
  Location: header('string', 'Path of the grant.'),
  'Job-Access-Grant': header('string', 'Id of the grant, for the forms that do not hold it.'),
  'Job-Access-Ready': header('string', '`true` or `false`, with `waitUntilReady`, for the forms that do not hold it.')
}

/** The problems that follow from the operation's parameters, body and security, and those that operations.ts adds. */
const problemsOf = (id: OperationId, { security }: Operation, method: string, path: string): ProblemCode[] => {
  const words = operations[id]
  return [
    // No operation ignores a query parameter.
    'request-invalid',
    // Fastify reads the body of these methods, even of an operation that takes none.
    ...(method !== 'get' ? ['request-malformed', 'request-too-large', 'media-type-unsupported'] as const : []),
    ...(security?.length ? ['unauthenticated', 'identity-unavailable'] as const : []),
    ...(path.includes('{id}') ? ['forbidden', 'grant-unknown', 'ledger-unavailable'] as const : []),
    ...('problems' in words ? words.problems : []),
    ...(security?.length ? ['rate-limited'] as const : []),
    'shutting-down', 'internal'
  ]
}

const inOrder = (codes: ReadonlySet<ProblemCode>): ProblemCode[] => (Object.keys(problems) as ProblemCode[]).filter(code => codes.has(code))

const byStatus = (codes: ProblemCode[]): Record<string, ProblemCode[]> =>
  Object.groupBy(inOrder(new Set(codes)), code => `${problems[code][0]}`)

/** The code whose problem is the example of a status: the most usual one that the operation can answer. */
const shown = (status: string, codes: ProblemCode[]): ProblemCode => {
  const usual: Record<string, ProblemCode> = { 409: 'grant-state', 422: 'bucket-invalid', 500: 'internal' }
  const code = codes.find(code => code === usual[status]) ?? codes[0]
  if (code === undefined) throw new Error(`no problem has status ${status}`)
  return code
}

const mayRetry = ['409', '429', '503']

const refusal = (status: string, codes: ProblemCode[], other: Response | undefined): Response => ({
  description: [other?.description, codes.map(code => `\`${code}\``).join(', ')].filter(text => text).join(' Or: '),
  ...(mayRetry.includes(status) && { headers: retryAfter }),
  content: {
    ...other?.content,
    'application/problem+json': {
      schema: { $ref: '#/components/schemas/Problem' },
      // One, and the same for every operation: a page with one for each code is mostly errors.
      examples: { [shown(status, codes)]: { $ref: `#/components/examples/${shown(status, codes)}` } }
    }
  }
})

if (import.meta.main) writeFileSync(join(import.meta.dirname, 'openapi.json'), await openApiText())
