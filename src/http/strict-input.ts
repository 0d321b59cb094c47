import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import { setImmediate } from 'node:timers/promises'
import { Ajv, type ErrorObject, type Options, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError, pointerTo } from '../problems.ts'
import { shared } from './schemas.ts'

/** Input is taken as it is, or refused: no field is dropped, no value converted, no text read in two ways. */

/**
 * Compiles a schema when it is first wanted, or in the moments after the service has begun to listen: all at once would be a third of its
 * start. So a schema that cannot be compiled does not stop the start; a test compiles them all.
 */
export const useSchemas = (app: FastifyInstance): void => {
  const waiting = new Set<() => unknown>()
  const later: Later = compile => {
    let made: { of: ReturnType<typeof compile> } | undefined
    const get = () => {
      waiting.delete(get)
      made ??= { of: compile() }
      return made.of
    }
    waiting.add(get)
    return get
  }
  app.setValidatorCompiler(strictValidators(later))
  const serializerOf = SerializerSelector()(Object.fromEntries(shared.map(schema => [schema.$id, schema])))
  app.setSerializerCompiler(({ httpStatus = '', ...route }) => {
    const serializer = later(() => serializerOf({ ...route, httpStatus }))
    return answer => serializer()(answer)
  })
  app.addHook('onListen', async () => {
    for (const compile of waiting) {
      // Requests are answered in between.
      await setImmediate()
      compile()
    }
  })
}

/** Gives what `compile` makes, and makes it when it is first wanted. */
type Later = <T>(compile: () => T) => () => T

/** In a body no field is dropped and no value converted. A URL has only strings, so its numbers are converted. */
const strictValidators = (later: Later) => {
  // verbose: a fault has the value and its schema, to say what is wrong of it. Only errors.ts reads them; a log has code and pointer.
  const strict: Options = { removeAdditional: false, coerceTypes: false, useDefaults: false, allErrors: true, strict: false, verbose: true }
  const of = (options: Options) => {
    const ajv = new Ajv(options)
    addFormats.default(ajv)
    for (const schema of shared) ajv.addSchema(schema, `${schema.$id}`)
    return ajv
  }
  const body = later(() => of(strict))
  const url = later(() => of({ ...strict, coerceTypes: true }))
  return ({ schema, httpPart }: { schema: unknown, httpPart?: string }) => {
    const validator = later(() =>
      httpPart === 'querystring' ? digitsAlone(url().compile(schema as object)) : body().compile(schema as object))
    // Fastify reads the faults from the function that it has called.
    const validate = (input: unknown) => {
      const ofSchema = validator()
      const valid = ofSchema(input)
      validate.errors = ofSchema.errors ?? null
      return valid
    }
    validate.errors = null as ErrorObject[] | null
    return validate
  }
}

/** ajv would also convert ' 10', '0x10' and '1e1'. In a URL, only digits are a number. */
const digitsAlone = (validate: ValidateFunction): ValidateFunction => {
  const { properties = {} } = validate.schema as { properties?: Record<string, { type?: string }> }
  const numbers = Object.keys(properties).filter(name => properties[name]?.type === 'integer')
  const strict = ((query: Record<string, unknown>) => {
    const odd = numbers.filter(name => typeof query[name] === 'string' && !/^-?\d+$/.test(query[name]))
    if (odd.length > 0) {
      strict.errors = odd.map(name => ({ instancePath: pointerTo('', name), schemaPath: '', keyword: 'type', params: { type: 'integer' } }))
      return false
    }
    const valid = validate(query)
    strict.errors = validate.errors ?? null
    return valid
  }) as ValidateFunction
  return strict
}

/**
 * Reads JSON alone, and each key once. Many clients send `POST …/complete` with a JSON content type and no body: that is no body,
 * and not invalid JSON.
 */
export const useJson = (app: FastifyInstance): void => {
  const parse = app.getDefaultJsonParser('error', 'error')
  // Bytes that are no UTF-8 would be read as other characters. JSON has no byte order mark (RFC 8259 section 8.1).
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    if (bytes.length === 0) return done(null, undefined)
    let body
    try {
      body = utf8.decode(bytes)
    } catch {
      return done(new ProblemError('request-malformed', { detail: 'The body is not UTF-8.' }))
    }
    // The parser would skip it.
    if (body.startsWith('\ufeff')) return done(new ProblemError('request-malformed', { detail: 'The body begins with a byte order mark.' }))
    return parse(request, body, (error, value: unknown) => {
      const names = error ? undefined : namesIn(body)
      if (names?.escaped) {
        done(new ProblemError('request-malformed', {
          detail: 'The body spells the name of a field with a backslash.',
          hint: 'Write the names of fields and labels without escapes: none has a character that needs one.'
        }))
      } else if (names && names.count !== membersOf(value)) {
        done(new ProblemError('request-malformed', { detail: 'An object of the body has two fields of one name.' }))
      } else {
        done(error, value)
      }
    })
  })
}

/**
 * Refuses what nothing would read: query parameters of a route that has none, a header that is there twice, a coded body, another charset,
 * the body of a GET.
 */
export const refuseUnread = (app: FastifyInstance): void => {
  // Of these Node keeps the first, and a proxy before it may have judged by the last.
  app.addHook('onRequest', ({ is404, raw: { rawHeaders } }, _reply, done) => {
    const twice = is404 ? [] : ['authorization', 'content-type'].filter(name => isTwiceIn(rawHeaders, name))
    done(twice.length === 0
      ? undefined
      : ProblemError.of(twice.map(name => ({
        code: 'request-invalid', pointer: pointerTo('', name), detail: 'The request has this header twice.', hint: 'Send it once.'
      }))))
  })
  app.addHook('onRoute', route => { route.schema = { querystring: noParameters, ...route.schema } })
  app.addHook('preParsing', (request, reply, _body, done) => {
    // An unknown route is a 404, whatever is sent to it.
    const problem = request.is404 ? undefined : unreadBody(request)
    // RFC 9110 section 15.5.16: the field says which codings would be taken.
    if (problem !== undefined && isCoded(request)) reply.header('accept-encoding', 'identity')
    done(problem)
  })
}

const unreadBody = (request: FastifyRequest): ProblemError | undefined => {
  if (['GET', 'HEAD'].includes(request.method)) {
    if (!hasBody(request)) return undefined
    return ProblemError.of([{ code: 'request-invalid', pointer: '', detail: 'This operation takes no body.', hint: 'Send none.' }])
  }
  if (isCoded(request)) {
    return new ProblemError('media-type-unsupported', {
      detail: 'The body has a Content-Encoding.', hint: 'Send the body as it is, without Content-Encoding.'
    })
  }
  // Node takes the chunks apart, and leaves every other coding in place.
  if ((request.headers['transfer-encoding'] ?? 'chunked').trim().toLowerCase() !== 'chunked') {
    return new ProblemError('media-type-unsupported', {
      detail: 'The body has a Transfer-Encoding that is not read.', hint: 'Send the body as it is, or in chunks alone.'
    })
  }
  const parameters = request.headers['content-type']?.split(';').slice(1) ?? []
  if (!parameters.every(parameter => /^\s*(charset=("utf-8"|utf-8)\s*)?$/i.test(parameter))) {
    return new ProblemError('media-type-unsupported', {
      detail: 'The Content-Type has a parameter that is not read.', hint: 'Send `content-type: application/json`, and the body in UTF-8.'
    })
  }
  return undefined
}

const isCoded = (request: FastifyRequest): boolean =>
  (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase() !== 'identity'

/** @param rawHeaders each name, followed by its value */
const isTwiceIn = (rawHeaders: string[], wanted: string): boolean => {
  let times = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? ''
    if (name.length === wanted.length && name.toLowerCase() === wanted) times++
  }
  return times > 1
}

const noParameters = { type: 'object', properties: {}, additionalProperties: false }

const hasBody = ({ headers }: FastifyRequest): boolean =>
  headers['transfer-encoding'] !== undefined || !['0', undefined].includes(headers['content-length'])

/**
 * Counts the names in a valid JSON text, where a string before a colon is a name, and no other colon follows a string. With fewer members
 * in the value, an object has a name twice: JSON.parse keeps the last value and drops the first without a word; another reader of the
 * same body may keep the first (RFC 8259 section 4).
 *
 * @returns `escaped`: whether a name has a backslash. V8 of Node 22 to 26 may read such a name as another one, when an object that it read
 *   before begins alike (https://github.com/nodejs/node/issues/63785).
 */
const namesIn = (text: string): { count: number, escaped: boolean } => {
  let count = 0
  let escaped = false
  let backslash = text.indexOf('\\')
  let start = text.indexOf('"')
  while (start !== -1) {
    let end = text.indexOf('"', start + 1)
    while (end !== -1 && isEscaped(text, end)) end = text.indexOf('"', end + 1)
    if (end === -1) break
    let next = end + 1
    while (whitespace.has(text.charCodeAt(next))) next++
    if (text[next] === ':') {
      count++
      while (backslash !== -1 && backslash < start) backslash = text.indexOf('\\', backslash + 1)
      escaped ||= backslash !== -1 && backslash < end
    }
    start = text.indexOf('"', next)
  }
  return { count, escaped }
}

/** RFC 8259 section 2. */
const whitespace = new Set([' ', '\t', '\n', '\r'].map(character => character.charCodeAt(0)))

/** Whether an odd number of backslashes is before it. */
const isEscaped = (text: string, at: number): boolean => {
  let before = at
  while (text[before - 1] === '\\') before--
  return (at - before) % 2 === 1
}

// Without recursion: a body can be nested as deep as it is long.
const membersOf = (value: unknown): number => {
  let members = 0
  const rest = [value]
  while (rest.length > 0) {
    const next = rest.pop()
    if (typeof next !== 'object' || next === null) continue
    const inner: unknown[] = Object.values(next)
    if (!Array.isArray(next)) members += inner.length
    for (const item of inner) rest.push(item)
  }
  return members
}

/** An end has no parameters, and no input is ignored: a body with fields is refused. `{}` is how some clients send no body. */
export const refuseFields = (body: unknown): void => {
  if (body === undefined || body === null) return
  const pointers = typeof body === 'object' && !Array.isArray(body) ? Object.keys(body).map(name => pointerTo('', name)) : ['']
  if (pointers.length === 0) return
  throw ProblemError.of(pointers.map(pointer => ({
    code: 'request-invalid',
    pointer,
    detail: 'This operation takes no fields.',
    hint: 'Send no body, or an empty object.'
  })))
}
