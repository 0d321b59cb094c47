import { Ajv, type Options, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance } from 'fastify'
import { ProblemError, pointerTo } from '../problems.ts'
import { shared } from './schemas.ts'

/** What a caller sends is taken as it is, or refused: nothing is dropped, coerced or read in two ways. */

/** Nothing is dropped and nothing coerced in a body; a URL has strings only, so its numbers are read as numbers. */
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

/** ajv reads ' 10', '0x10' and '1e1' as numbers, too; in a URL a number is written in digits, or it is none. */
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
 * JSON alone, each name once. `POST …/complete` with a JSON content type and no body is what many clients send: no body, not a bad
 * one.
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
 * Whether an object of a JSON text names a member twice. JSON.parse keeps the last of the two and drops the other in silence, and
 * another reader of the same body may keep the first (RFC 8259 section 4).
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

// Not by recursion: a body may be as deep as it is long.
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
