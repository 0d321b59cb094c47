import { readFile } from 'node:fs/promises'
import { parseArgs, type ParseArgsConfig } from 'node:util'
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
  access: texts,
  with: texts,
  client: texts,
  layout: text,
  attach: text,
  ...changeFlags
} as const

export const grantFlags = {
  ...policyFlags, source: text, profile: text, 'issue-at': text, attempt: text, replace: { type: 'boolean' }
} as const

const entryFlags = ['dataset', 'dataset-key', 'base-model', 'base-model-key', 'output', 'access'] as const
type EntryFlag = typeof entryFlags[number]

/** parseArgs; each `--with` then also says whose it is: the entry before it. `versions` becomes `dataset 0 versions`. */
export const parseRequestArgs = <T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> => {
  const parsed = parseArgs(config)
  const seen = new Map<string, number>()
  const owned: string[] = []
  let last: string | undefined
  for (const token of parseArgs({ ...config, tokens: true }).tokens ?? []) {
    if (token.kind !== 'option') continue
    if (entryFlags.some(flag => flag === token.name)) {
      last = token.name
      seen.set(last, (seen.get(last) ?? -1) + 1)
    } else if (token.name === 'with') {
      if (last === undefined) throw new UsageError(`--with ${token.value ?? ''}: give it after the entry that it is for, as --dataset.`)
      // The last --output counts, as of every flag that is given once.
      owned.push(`${last} ${last === 'output' ? 0 : seen.get(last)} ${token.value ?? ''}`)
    }
  }
  if (owned.length > 0) (parsed.values as { with?: string[] }).with = owned
  return parsed
}

export type Values<F> = {
  [name in keyof F]?: F[name] extends { multiple: true } ? string[] : F[name] extends { type: 'boolean' } ? boolean : string
}

export const policyRequest = async (values: Values<typeof policyFlags>, io: Io): Promise<PolicyRequest> => {
  const given = values.request === undefined ? {} : await fromFile(values.request, io)
  const job = { ...given.job, ...defined({ id: values.job, team: values.team, labels: labelsOf(values.label) }) }
  const output = values.output === undefined ? given.output : withOptions(values, 'output', 0, placeOf(values.output, '--output'))
  const change = changeOf(values)
  return {
    ...given,
    job,
    ...defined({
      datasets: placesOf(values, 'dataset'),
      baseModels: placesOf(values, 'base-model'),
      access: values.access?.map((place, index) => withOptions(values, 'access', index, placeOf(place, '--access'))),
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
  const places = values[name]?.map((place, index) => withOptions(values, name, index, placeOf(place, `--${name}`))) ?? []
  const keys = values[`${name}-key`]?.map((place, index) => {
    const { bucket, prefix, keyPrefix } = placeOf(place, `--${name}-key`)
    if (prefix === undefined || keyPrefix !== undefined) throw new UsageError(`--${name}-key ${place}: give bucket/key.`)
    return withOptions(values, `${name}-key`, index, { bucket, key: prefix })
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

/** The fields of an entry that are lists: each `--with` adds to them, and an empty value is an empty list. */
const lists = ['clients', 'kmsKeyArns']

/** The place, with what its `--with versions,list=false,clients=s3fs` say; the names are those of the API, which refuses others. */
const withOptions = (values: Values<typeof policyFlags>, flag: EntryFlag, index: number, place: Place): Place => {
  const entry: Record<string, unknown> = { ...place }
  const owned = (values.with ?? []).filter(text => text.startsWith(`${flag} ${index} `)).map(text => text.slice(`${flag} ${index} `.length))
  for (const option of owned.flatMap(text => text.split(','))) {
    const [, name = '', value] = /^([^=]+)(?:=(.*))?$/s.exec(option) ?? []
    if (name === '') throw new UsageError(`--with ${option}: give options such as versions, list=false or clients=s3fs.`)
    if (lists.includes(name)) entry[name] = [...entry[name] as string[] | undefined ?? [], ...(value ? [value] : [])]
    else if (name === 'key' && value === undefined && place.prefix !== undefined) {
      delete entry.prefix
      entry.key = place.prefix
    } else entry[name] = value === undefined || value === 'true' ? true : value === 'false' ? false : value
  }
  return entry as unknown as Place
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
