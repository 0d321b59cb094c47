import { readFileSync } from 'node:fs'
import type { Static, TSchema } from '@sinclair/typebox'
import { Ajv, type ErrorObject } from 'ajv'

/** Something wrong in a configuration. Never repeats a value, which may be a secret. */
export interface ConfigFault {
  /** RFC 6901 pointer to the wrong value. */
  pointer: string
  message: string
}

export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly faults: ConfigFault[]

  /** @param file the file of the faults; without it their pointers name environment variables */
  constructor (faults: ConfigFault[], file?: string) {
    const lines = faults.map(({ pointer, message }) => `  ${file === undefined ? pointer.slice(1) : `${file}${pointer}`}: ${message}`)
    super(`The configuration is not valid:\n${lines.join('\n')}`)
    this.faults = faults
  }
}

/**
 * Reads a JSON file and checks it.
 * @param furtherFaults what the schema cannot express; called only for a value that the schema accepts
 * @throws ConfigError with all faults
 */
export const readConfigFile = <S extends TSchema>(
  file: string, schema: S, furtherFaults?: (config: Static<S>) => ConfigFault[]
): Static<S> => {
  const config = readJson(file)
  const faults = configFaults(schema, config, furtherFaults)
  if (faults.length > 0) throw new ConfigError(faults, file)
  return config
}

const readJson = (file: string): unknown => {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new ConfigError([{ pointer: '', message: error instanceof SyntaxError ? 'is not JSON' : 'cannot be read' }], file)
  }
}

// What is checked once is not worth optimising: that takes as long as the rest.
const ajv = new Ajv({ allErrors: true, strict: false, code: { optimize: false } })

/** All faults of a configuration: those that its schema finds or, if there are none, the further ones. */
export const configFaults = <S extends TSchema>(
  schema: S, config: unknown, furtherFaults: (config: Static<S>) => ConfigFault[] = () => []
): ConfigFault[] => {
  const validate = ajv.compile(schema)
  if (validate(config)) return furtherFaults(config)
  const errors = validate.errors ?? []
  const unions = errors.filter(({ keyword }) => keyword === 'anyOf')
  // Of a union, one fault: the errors of its alternatives contradict each other.
  const alternativesOf = (union: ErrorObject) => errors.filter(({ schemaPath }) => schemaPath.startsWith(`${union.schemaPath}/`))
  const ofAlternatives = new Set(unions.flatMap(alternativesOf))
  return errors.filter(error => !ofAlternatives.has(error)).map(error => faultOf(error, alternativesOf(error), schema.removed))
}

/** @param removed what to do about top-level fields that an earlier release had, from the schema's own `removed` */
const faultOf = (
  { instancePath, keyword, message = 'is not valid', params }: ErrorObject, alternatives: ErrorObject[],
  removed: Record<string, string> = {}
): ConfigFault => {
  switch (keyword) {
    case 'required': return { pointer: `${instancePath}/${escaped(params.missingProperty)}`, message: 'is missing' }
    case 'additionalProperties': return {
      pointer: `${instancePath}/${escaped(params.additionalProperty)}`,
      message: (instancePath === '' && removed[params.additionalProperty]) || 'is unknown'
    }
    case 'enum': return { pointer: instancePath, message: `must be one of ${params.allowedValues.join(', ')}` }
    case 'const': return { pointer: instancePath, message: `must be ${params.allowedValue}` }
    case 'anyOf': {
      const values = new Set(alternatives.map(alternative => alternative.params.allowedValue as unknown))
      return {
        pointer: instancePath, message: values.has(undefined) ? 'has none of the allowed forms' : `must be one of ${[...values].join(', ')}`
      }
    }
    default: return { pointer: instancePath, message }
  }
}

/** A name as part of a JSON pointer: RFC 6901 section 3. */
const escaped = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')
