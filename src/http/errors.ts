import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { AuditUnavailable } from '../audit/log.ts'
import { clientAddress } from '../client-address.ts'
import { LedgerUnavailableError, StaleGrantError } from '../ledger/ledger.ts'
import type { AuditRecorder } from '../audit/recorder.ts'
import { ProblemError, pointerTo, problems, type Finding, type ProblemCode } from '../problems.ts'
import { callerOf } from './authorization.ts'
import { whatHolds } from './what-holds.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The code of the answer's problem, for the metrics; null: no problem. */
    problem: ProblemCode | null
  }
}

/** Turns every error into what a caller sees: application/problem+json, RFC 9457. */
export const useProblems = (app: FastifyInstance, audit: Pick<AuditRecorder, 'answered'>): void => {
  const methods = methodsByPath(app)
  const lost = (request: FastifyRequest, reply: FastifyReply) => {
    const path = pathOf(request)
    const allowed = methods(path)
    const problem = allowed.length > 0
      ? new ProblemError('method-not-allowed', { detail: `${path} takes ${allowed.join(', ')}.` })
      : new ProblemError('route-unknown', { detail: `There is no ${request.method} ${path}.` })
    if (allowed.length > 0) reply.header('allow', allowed.join(', '))
    return answer(problem, problem, request, reply)
  }
  app.setNotFoundHandler(lost)
  const decided = (problem: ProblemError, error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    audit.answered(answeredRequest(request), problem)
    return answer(withWhatHolds(problem, request), error, request, reply)
  }
  // Without a route the answer is 404 or 405, even when the body is wrong too.
  app.decorateRequest('problem', null)
  app.setErrorHandler((error: FastifyError, request, reply) => request.is404 && !(error instanceof ProblemError)
    ? lost(request, reply)
    : decided(problemOf(error), error, request, reply))
}

/** The detail also says what is true of the operation now. */
const withWhatHolds = (problem: ProblemError, { routeOptions }: FastifyRequest): ProblemError => {
  const { operationId } = (routeOptions.schema ?? {}) as { operationId?: string }
  const sentence = whatHolds(operationId, problem.code)
  return sentence === undefined ? problem : new ProblemError(problem.code, { ...problem.init, detail: `${problem.message} ${sentence}` })
}

const answeredRequest = (request: FastifyRequest) => {
  const { id: grantId } = (request.params ?? {}) as { id?: string }
  const { job } = (request.body ?? {}) as { job?: { id: string, team: string } }
  return { caller: request.identity ? callerOf(request) : null, ip: clientAddress(request), requestId: request.id, grantId, job }
}

/** For a path that the router cannot decode. Fastify calls it before any hook, and without decorators. */
export const undecodable = (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
  const problem = new ProblemError('route-unknown', { detail: 'The path cannot be decoded.', cause: error })
  request.log.info({ code: problem.code }, 'request refused')
  reply.code(problem.status).header('cache-control', 'no-store').type('application/problem+json').send(problemBody(problem, request.id))
}

/** The router finds a path only with its method; RFC 9110 section 15.5.6 requires 405 and Allow for another method. */
const methodsByPath = (app: FastifyInstance): (path: string) => string[] => {
  const table = new Map<string, { pattern: RegExp, methods: Set<string> }>()
  app.addHook('onRoute', ({ url, method }) => {
    const pattern = new RegExp(`^${url.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/:[A-Za-z]+/g, '[^/]+').replace('*', '.*')}$`)
    const row = table.get(url) ?? { pattern, methods: new Set<string>() }
    for (const name of [method].flat()) row.methods.add(name)
    table.set(url, row)
  })
  return path => [...table.values()].filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => [...methods])
}

const answer = (problem: ProblemError, error: unknown, request: FastifyRequest, reply: FastifyReply) => {
  const { code, status, init } = problem
  request.problem = code
  if (status >= 500) request.log.error({ err: error, code, cause: init.cause }, 'request failed')
  else request.log.info({ code, pointer: init.pointer }, 'request refused')
  if (init.retryAfterSeconds !== undefined) reply.header('retry-after', String(init.retryAfterSeconds))
  if (status === 401) reply.header('www-authenticate', 'Bearer realm="job-access"')
  return reply.code(status).type('application/problem+json').send(problemBody(problem, request.id))
}

/** What a caller reads of a problem. */
export const problemBody = ({ code, status, message, init }: ProblemError, requestId: string) => ({
  type: `urn:job-access:problem:${code}`,
  title: problems[code][1],
  status,
  code,
  detail: message,
  hint: init.hint,
  pointer: init.pointer,
  requestId,
  errors: init.findings
})

const problemOf = (error: FastifyError): ProblemError => {
  if (error instanceof ProblemError) return error
  if (error instanceof LedgerUnavailableError) return new ProblemError('ledger-unavailable', { retryAfterSeconds: 5, cause: error })
  if (error instanceof AuditUnavailable) return new ProblemError('audit-unavailable', { retryAfterSeconds: 5, cause: error })
  if (error instanceof StaleGrantError) {
    return new ProblemError('grant-state', {
      detail: 'The grant changed at the same time.', hint: 'Send the request again.', retryAfterSeconds: 1
    })
  }
  if (error.validation) return ProblemError.of(error.validation.map(fault => findingOf(fault, error.validationContext ?? 'body')))
  const code = byFastifyCode[error.code] ?? (error.statusCode && error.statusCode < 500 ? 'request-malformed' : 'internal')
  return new ProblemError(code, code === 'internal' ? { cause: error } : { detail: error.message })
}

const byFastifyCode: Record<string, ProblemCode> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'media-type-unsupported',
  FST_ERR_CTP_BODY_TOO_LARGE: 'request-too-large',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'request-malformed',
  FST_ERR_CTP_INVALID_JSON_BODY: 'request-malformed',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'request-malformed'
}

type Fault = NonNullable<FastifyError['validation']>[number]

const findingOf = ({ instancePath, keyword, message, params }: Fault, context: string): Finding => {
  const place = context === 'body' ? 'the body' : `the ${context}`
  const at = (property: unknown) => pointerTo(instancePath, String(property))
  const finding = (pointer: string, detail: string, hint: string): Finding => ({ code: 'request-invalid', pointer, detail, hint })
  switch (keyword) {
    case 'additionalProperties':
      return finding(
        at(params.additionalProperty), `Unknown field in ${place}.`, 'Remove it, or correct its name: the service ignores nothing.'
      )
    case 'required': return finding(at(params.missingProperty), `A required field of ${place} is missing.`, 'Add it.')
    case 'enum': return finding(
      instancePath, 'The value is none of those allowed.', `Use one of: ${(params.allowedValues as string[]).join(', ')}.`
    )
    case 'propertyNames':
      return finding(at(params.propertyName), 'The name of the field is not allowed here.',
        'See the field’s parent in /docs for the characters that a name may have.')
    case 'type': return finding(
      instancePath, `The value must be ${String(params.type)}.`, 'Send it with that JSON type: the service converts nothing.'
    )
    default: return finding(instancePath, `The value ${message ?? 'is not valid'}.`, 'See the field in /docs.')
  }
}

const pathOf = (request: FastifyRequest): string => request.url.split('?')[0]?.slice(0, 200) ?? ''
