import { readFileSync } from 'node:fs'
import type { onSendAsyncHookHandler, RouteOptions } from 'fastify'
import type { Test } from 'tap'

interface Operation { operationId?: string, responses: Record<string, { description: string, content?: Record<string, object> }> }

interface Document { paths: Record<string, Record<string, Operation>> }
const { paths } = JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')) as Document
const operations = new Map(Object.values(paths).flatMap(Object.values<Operation>).map(operation => [operation.operationId, operation]))

/** Fails the test when an operation answers with a status, or a problem, that the OpenAPI document does not say it has. */
export const holdToDocument = (t: Test, route: RouteOptions): void => {
  const { operationId } = (route.schema ?? {}) as { operationId?: string }
  if (operationId === undefined || route.method === 'HEAD') return
  const hook: onSendAsyncHookHandler = async (request, reply, payload) => {
    const response = operations.get(operationId)?.responses[reply.statusCode]
    const codes: string[] = response?.content?.['application/problem+json'] ? response.description.match(/(?<=`)[a-z-]+(?=`)/g) ?? [] : []
    if (request.problem === null ? !response : !codes.includes(request.problem)) t.fail(`${operationId}: the document does not say ${reply.statusCode} ${request.problem ?? ''}`)
    return payload
  }
  route.onSend = [route.onSend ?? [], hook].flat()
}
