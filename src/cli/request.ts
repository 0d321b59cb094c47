import { readFile } from 'node:fs/promises'
import type { GrantRequest, PolicyRequest } from '../client/index.ts'
import { UsageError, type Io } from './command.ts'

/**
 * A request from a file and flags. A flag replaces the whole field of the file. Nothing is checked here that the service checks:
 * its answer names the field and says what to do.
 */

const text = { type: 'string' } as const
const texts = { type: 'string', multiple: true } as const

const stated = {
  'source-ip': texts,
  vpc: texts,
  'vpc-arn': texts,
  'vpc-endpoint': texts,
  'vpc-source-ip': texts
} as const

/** From where: what a worker has of its own. */
export const sourceFlags = { ...stated, source: text } as const

/** What shapes the window and the source: also what `extend` takes. */
export const changeFlags = {
  'not-before': text,
  'not-after': text,
  duration: text,
  grace: text,
  ...stated
} as const

export const policyFlags = {
  request: text,
  job: text,
  team: text,
  label: texts,
  dataset: texts,
  'dataset-key': texts,
  'base-model': texts,
  'base-model-key': texts,
  output: text,
  'output-level': text,
  client: texts,
  layout: text,
  attach: text,
  ...changeFlags
} as const

export const grantFlags = {
  ...policyFlags, source: text, profile: text, 'issue-at': text, attempt: text, replace: { type: 'boolean' }
} as const

export type Values<F> = {
  [name in keyof F]?: F[name] extends { multiple: true } ? string[] : F[name] extends { type: 'boolean' } ? boolean : string
}

export const policyRequest = async (values: Values<typeof policyFlags>, io: Io): Promise<PolicyRequest> => {
  const given = values.request === undefined ? {} : await fromFile(values.request, io)
  const job = { ...given.job, ...defined({ id: values.job, team: values.team, labels: labelsOf(values.label) }) }
  const output = values.output === undefined ? given.output : placeOf(values.output, '--output')
  const change = changeOf(values)
  return {
    ...given,
    job,
    ...defined({
      datasets: placesOf(values, 'dataset'),
      baseModels: placesOf(values, 'base-model'),
      output: values['output-level'] === undefined ? output : { ...output, level: values['output-level'] },
      clients: values.client,
      layout: values.layout,
      attach: values.attach
    }),
    ...change,
    window: { ...windowWithout(given.window, change.window), ...change.window }
    // As it was typed: the service refuses what does not fit, and says where.
  } as PolicyRequest
}

export const grantRequest = async (values: Values<typeof grantFlags>, io: Io): Promise<GrantRequest> => ({
  ...await policyRequest(values, io),
  ...defined({
    // As it was typed, like all the others.
    source: values.source as 'observed' | undefined,
    profile: values.profile,
    issueAt: values['issue-at'],
    attempt: values.attempt,
    replace: values.replace
  })
})

interface Change {
  window?: { notBefore?: string, notAfter?: string, durationSeconds?: number, outputGraceSeconds?: number }
  sourceIps?: string[]
  vpc?: { vpcIds?: string[], vpcArns?: string[], vpcEndpointIds?: string[], sourceIps?: string[] }
}

export const changeOf = (values: Values<typeof changeFlags>): Change => {
  const window = defined({
    notBefore: values['not-before'],
    notAfter: values['not-after'],
    durationSeconds: secondsOf(values.duration, '--duration'),
    outputGraceSeconds: secondsOf(values.grace, '--grace')
  })
  const vpc = defined({
    vpcIds: values.vpc, vpcArns: values['vpc-arn'], vpcEndpointIds: values['vpc-endpoint'], sourceIps: values['vpc-source-ip']
  })
  return {
    ...(Object.keys(window).length > 0 && { window }),
    ...defined({ sourceIps: values['source-ip'] }),
    ...(Object.keys(vpc).length > 0 && { vpc })
  }
}

/** `3h`, `90m`, `10800s` or `10800`, in seconds. */
export const secondsOf = (value: string | undefined, flag: string): number | undefined => {
  if (value === undefined) return undefined
  const [, digits, unit = 's'] = /^(\d{1,9})([smhd])?$/.exec(value) ?? []
  if (digits === undefined) throw new UsageError(`${flag} ${value}: give 3h, 90m, 2d or seconds.`)
  return Number(digits) * { s: 1, m: 60, h: 3600, d: 86_400 }[unit as 's' | 'm' | 'h' | 'd']
}

interface Place { bucket: string, prefix?: string, key?: string, keyPrefix?: string }

const placesOf = (values: Values<typeof policyFlags>, name: 'dataset' | 'base-model'): Place[] | undefined => {
  const places = values[name]?.map(place => placeOf(place, `--${name}`)) ?? []
  const keys = values[`${name}-key`]?.map(place => {
    const { bucket, prefix, keyPrefix } = placeOf(place, `--${name}-key`)
    if (prefix === undefined || keyPrefix !== undefined) throw new UsageError(`--${name}-key ${place}: give bucket/key.`)
    return { bucket, key: prefix }
  }) ?? []
  return places.length + keys.length > 0 ? [...places, ...keys] : undefined
}

/**
 * `bucket`, `bucket/prefix`, `bucket/beginning*`, each also with `s3://`. An empty prefix is an empty variable more often than the whole
 * bucket.
 */
const placeOf = (value: string, flag: string): Place => {
  const [, bucket = '', slash, prefix = ''] = /^(?:s3:\/\/)?([^/]*)(\/)?(.*)$/s.exec(value) ?? []
  if (bucket === '') throw new UsageError(`${flag} ${value}: give bucket or bucket/prefix.`)
  if (slash === undefined) return { bucket }
  if (prefix === '') throw new UsageError(`${flag} ${value}: the prefix is empty; for the whole bucket give ${bucket}.`)
  return prefix.endsWith('*') && prefix !== '*' ? { bucket, keyPrefix: prefix.slice(0, -1) } : { bucket, prefix }
}

/** The two ends of a window exclude each other, so the one that was typed replaces the other one of the file. */
const windowWithout = (given: PolicyRequest['window'] | undefined, typed: Change['window']) => {
  const { notAfter, durationSeconds, ...rest } = given ?? {}
  return typed?.notAfter !== undefined || typed?.durationSeconds !== undefined ? rest : defined({ ...rest, notAfter, durationSeconds })
}

const labelsOf = (pairs: string[] | undefined): Record<string, string> | undefined => pairs && Object.fromEntries(pairs.map(pair => {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
  if (name === undefined || value === undefined) throw new UsageError(`--label ${pair}: give NAME=VALUE.`)
  return [name, value]
}))

const fromFile = async (path: string, io: Io): Promise<Partial<PolicyRequest>> => {
  let content: string
  try {
    content = path === '-' ? await io.readStdin() : await readFile(path, 'utf8')
  } catch (error) {
    throw new UsageError(`--request: ${error instanceof Error ? error.message : 'cannot be read'}`)
  }
  try {
    const request: unknown = JSON.parse(content)
    if (typeof request === 'object' && request !== null && !Array.isArray(request)) return request
  } catch { /* said below */ }
  throw new UsageError(`--request ${path}: is not a JSON object.`)
}

const defined = <T extends object>(fields: T): { [name in keyof T]?: NonNullable<T[name]> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [name in keyof T]?: NonNullable<T[name]> }
