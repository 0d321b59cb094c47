import { readFileSync } from 'node:fs'
import type { onSendAsyncHookHandler, RouteOptions } from 'fastify'
import type { Test } from 'tap'

interface Operation { operationId?: string, responses: Record<string, { content: Record<string, { examples?: object }> }> }

const { paths } = JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')) as { paths: Record<string, Record<string, Operation>> }
const operations = new Map(Object.values(paths).flatMap(methods => Object.values(methods)).map(operation => [operation.operationId, operation]))

/** Fails the test when an operation answers with a status, or a problem, that the OpenAPI document does not say it has. */
export const holdToDocument = (t: Test, route: RouteOptions): void => {
  const { operationId } = (route.schema ?? {}) as { operationId?: string }
  if (operationId === undefined || route.method === 'HEAD') return
  const hook: onSendAsyncHookHandler = async (request, reply, payload) => {
    const response = operations.get(operationId)?.responses[reply.statusCode]
    const said = request.problem === null ? response : Object.keys(response?.content['application/problem+json']?.examples ?? {}).includes(request.problem)
    if (!said) t.fail(`${operationId}: the document does not say ${reply.statusCode} ${request.problem ?? ''}`)
    return payload
  }
  route.onSend = [route.onSend ?? [], hook].flat()
}
