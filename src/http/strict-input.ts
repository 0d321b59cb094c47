import { Ajv, type Options, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance } from 'fastify'
import { ProblemError, pointerTo } from '../problems.ts'
import { shared } from './schemas.ts'

/** Input is taken as it is, or refused: no field is dropped, no value converted, no text read in two ways. */

/** In a body no field is dropped and no value converted. A URL has only strings, so its numbers are converted. */
export const strictValidators = () => {
  const strict: Options = { removeAdditional: false, coerceTypes: false, useDefaults: false, allErrors: true, strict: false }
  const of = (options: Options) => {
    const ajv = new Ajv(options)
    addFormats.default(ajv)
    for (const schema of shared) ajv.addSchema(schema, `${schema.$id}`)
    return ajv
  }
  const body = of(strict)
  const url = of({ ...strict, coerceTypes: true })
  return ({ schema, httpPart }: { schema: unknown, httpPart?: string }) =>
    httpPart === 'querystring' ? digitsAlone(url.compile(schema as object)) : body.compile(schema as object)
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
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') return done(null, undefined)
    return parse(request, body, (error, value: unknown) => {
      if (!error && hasDuplicateKeys(body, value)) {
        done(new ProblemError('request-malformed', { detail: 'An object of the body has two fields of one name.' }))
      } else {
        done(error, value)
      }
    })
  })
}

/**
 * Whether an object of a JSON text has a key twice. JSON.parse keeps the last value and drops the first without a word; another
 * reader of the same body may keep the first (RFC 8259 section 4).
 *
 * @param value what the text parses to
 */
const hasDuplicateKeys = (text: string, value: unknown): boolean => namesIn(text) !== membersOf(value)

// In a valid text a string before a colon is a name, and no other colon follows a string.
const namesIn = (text: string): number => {
  let names = 0
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?/g)) if (token.endsWith(':')) names++
  return names
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
