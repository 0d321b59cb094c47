import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { AuditUnavailable } from '../audit/log.ts'
import { clientAddress } from '../client-address.ts'
import { LedgerUnavailableError, StaleGrantError } from '../ledger/ledger.ts'
import type { AuditRecorder } from '../audit/recorder.ts'
import { showCharacter } from '../policy/entries.ts'
import { ProblemError, pointerTo, problems, type Finding, type ProblemCode } from '../problems.ts'
import { callerOf } from './authorization.ts'
import { whatHolds } from './what-holds.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The code of the answer's problem, for the metrics; null: no problem. */
    problem: ProblemCode | null
    /** The field that it is about, for the log. */
    pointer?: string | undefined
  }
}

/** Turns every error into what a caller sees: application/problem+json, RFC 9457. */
export const useProblems = (app: FastifyInstance, audit: Pick<AuditRecorder, 'answered'>): void => {
  const methods = methodsByPath(app)
  const lost = (request: FastifyRequest, reply: FastifyReply) => {
    const path = pathOf(request)
    // A folder of files has a route for every path below it, also where there is no file.
    const allowed = methods(path).includes(request.method) ? [] : methods(path)
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

type Headers = Record<string, string>

/** For a path that the router cannot read. Fastify calls it before any hook, and without decorators. */
export const unroutable = (headers: Headers) => (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
  const detail = error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? 'A part of the path is too long.' : 'The path cannot be decoded.'
  const problem = new ProblemError('route-unknown', { detail, cause: error })
  request.log.info({ code: problem.code }, 'request refused')
  reply.code(problem.status).headers(headers).type('application/problem+json').send(problemBody(problem, request.id))
}

/**
 * For what is no HTTP request: there is no request, and so no id. `about:blank` (RFC 9457 section 4.2.1) says no more than the status.
 * Nothing is logged: the error has the raw bytes, and they may have a token.
 */
export const answerUnparsed = (socket: Socket, headers: Headers, errorCode?: string): void => {
  const status = { ERR_HTTP_REQUEST_TIMEOUT: 408, HPE_HEADER_OVERFLOW: 431 }[errorCode ?? ''] ?? 400
  const title = STATUS_CODES[status]
  const body = JSON.stringify({ type: 'about:blank', title, status })
  const all = { ...headers, 'content-type': 'application/problem+json; charset=utf-8', 'content-length': body.length, connection: 'close' }
  const head = [`HTTP/1.1 ${status} ${title}`, ...Object.entries(all).map(([name, value]) => `${name}: ${value}`)].join('\r\n')
  if (socket.writable) socket.write(`${head}\r\n\r\n${body}`)
  socket.destroy()
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
  request.pointer = init.pointer
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
  if (error.validation) return ProblemError.of(error.validation.flatMap(fault => findingOf(fault, error.validationContext ?? 'body') ?? []))
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

/** What `verbose` of ajv adds: the value, and the schema that it does not fit. `propertyName`: the value is the name of a field. */
type Fault = NonNullable<FastifyError['validation']>[number] &
  { data?: unknown, parentSchema?: FaultySchema, propertyName?: string }
interface FaultySchema { examples?: string[], minimum?: number, maximum?: number, properties?: Record<string, unknown> }

const findingOf = (fault: Fault, context: string): Finding | undefined => {
  const { instancePath, keyword, message, params, data, parentSchema, propertyName } = fault
  const place = context === 'body' ? 'the body' : `the ${context}`
  const at = (property: unknown) => pointerTo(instancePath, String(property))
  const finding = (pointer: string, detail: string, hint: string): Finding => ({ code: 'request-invalid', pointer, detail, hint })
  const limit = String(params.limit)
  switch (keyword) {
    case 'additionalProperties':
      return finding(
        at(params.additionalProperty), `Unknown field in ${place}.`, 'Remove it, or correct its name: the service ignores nothing.'
      )
    case 'required': return finding(at(params.missingProperty), `A required field of ${place} is missing.`, 'Add it.')
    case 'enum': return finding(
      instancePath, 'The value is none of those allowed.', `Use one of: ${(params.allowedValues as string[]).join(', ')}.`
    )
    // Ajv also reports what the name itself breaks.
    case 'propertyNames': return undefined
    case 'pattern': {
      const { detail, hint } = misfit(String(params.pattern), String(data), parentSchema?.examples?.[0])
      return propertyName === undefined
        ? finding(instancePath, `The value ${detail}`, hint)
        : finding(at(propertyName), `The name of the field ${detail}`, hint)
    }
    case 'minLength':
    case 'maxLength': return finding(instancePath, `The value has ${[...String(data)].length} characters.`,
      `Give at ${keyword === 'minLength' ? 'least' : 'most'} ${limit}.`)
    case 'minItems': return finding(
      instancePath, `The list has ${countOf(data, 'element')}.`, `Give at least ${limit}, or leave the field out.`
    )
    case 'maxItems': return finding(instancePath, `The list has ${countOf(data, 'element')}.`, `Give at most ${limit}.`)
    case 'minimum':
    case 'maximum': return finding(
      instancePath, `${String(data)} is ${keyword === 'minimum' ? 'too low' : 'too high'}.`, `Give a number ${rangeOf(parentSchema)}.`
    )
    case 'minProperties': return finding(instancePath, `The object has ${countOf(Object.keys(data as object), 'field')}.`,
      `Give at least ${limit} of: ${Object.keys(parentSchema?.properties ?? {}).join(', ')}.`)
    case 'maxProperties': return finding(
      instancePath, `The object has ${countOf(Object.keys(data as object), 'field')}.`, `Give at most ${limit}.`
    )
    case 'type': return finding(
      instancePath, `The value must be ${String(params.type)}.`, 'Send it with that JSON type: the service converts nothing.'
    )
    default: return finding(instancePath, `The value ${message ?? 'is not valid'}.`, 'See the field in /docs.')
  }
}

const countOf = (list: unknown, what: string): string => {
  const { length } = list as unknown[]
  return `${length === 0 ? 'no' : length} ${what}${length === 1 ? '' : 's'}`
}

const rangeOf = ({ minimum, maximum }: FaultySchema = {}): string => {
  if (minimum === undefined) return `of at most ${maximum}`
  return maximum === undefined ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`
}

/**
 * What breaks a pattern, in words: nobody should have to read a regular expression. Most patterns are a set of characters, with or
 * without another set for the first, and perhaps a length. Of any other form the schema has an example.
 */
const misfit = (pattern: string, text: string, example = ''): { detail: string, hint: string } => {
  const [, first, set, least, most = least] = /^\^(\[[^\]]+\])?(\[[^\]]+\])(?:[*+]|\{(\d+)(?:,(\d+))?\})\$$/.exec(pattern) ?? []
  if (set === undefined) return { detail: 'does not have the form of this field.', hint: `Write it like ${example}.` }
  const characters = [...text]
  const unfit = characters.flatMap((character, index) => new RegExp(`^${set}$`).test(character) || characters.indexOf(character) < index
    ? []
    : [`${showCharacter(character)} at character ${index + 1}`])
  if (unfit.length > 0) {
    const more = unfit.length > 8 ? `, ${unfit.length - 8} more` : ''
    const instead = set.endsWith('-]') ? ' Write `-` instead.' : ''
    return { detail: `has ${unfit.slice(0, 8).join(', ')}${more}.`, hint: `Allowed: ${charactersOf(set)}.${instead}` }
  }
  if (first !== undefined && characters[0] !== undefined && !new RegExp(`^${first}`).test(characters[0])) {
    return { detail: `begins with ${showCharacter(characters[0])}.`, hint: `It may begin with ${charactersOf(first)}.` }
  }
  return { detail: `has ${characters.length} characters.`, hint: least === most ? `It has ${least}.` : `Give ${least} to ${most}.` }
}

/** A set of a pattern in words: `[a-z0-9_-]` is a to z, 0 to 9, `_`, `-`. */
const charactersOf = (set: string): string => [...set.slice(1, -1).matchAll(/((?:\\x..|.))-((?:\\x..|.))|./g)].map(([part, from, to]) => {
  if (part === ' -~') return 'printable ASCII'
  if (part === '\\x21-\\x7e') return 'printable ASCII without the space'
  if (from !== undefined) return `${from} to ${to}`
  return part === ' ' ? 'the space' : `\`${part}\``
}).join(', ')

const pathOf = (request: FastifyRequest): string => request.url.split('?')[0]?.slice(0, 200) ?? ''
