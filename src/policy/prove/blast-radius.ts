import { many, type PolicyDocument } from '../../domain/policy-document.ts'
import { inWords } from './blast-radius-words.ts'
import { readInstant } from './conditions/date.ts'
import { readBlock, writeAddress } from './conditions/ip.ts'
import { compile, decide, type AccessRequest, type CompiledStatement } from './evaluate.ts'
import { actionsOn, kindOfResource } from './known-actions.ts'

/**
 * What a thief of a key could do with it: asked of the policy alone, by putting requests to it, from the source that it is
 * bound to and from elsewhere, now and at every instant at which its answer may change.
 */
export interface BlastRadius {
  data: {
    at: string
    /** What the policy binds requests to; empty when it binds none. */
    source: { key: string, values: string[] }[]
    /** Condition keys of the requests that were tried; those from elsewhere stand side by side. */
    tried: Record<Place, Record<string, string>[]>
    areas: Area[]
    keys: Key[]
    /** Look-alikes and neighbours of what is granted, and whether anything at all may be done there from the source. */
    neighbours: { arn: string, denied: boolean }[]
    /** How many actions of S3, KMS, IAM and STS are allowed on no area of the policy at any time, of those tried. */
    actionsDenied: number
    /** The others. */
    actionsAllowed: string[]
  }
  words: string[]
}

export type Place = 'source' | 'elsewhere'

/** A bucket, or a prefix of it, that the policy opens. */
export interface Area {
  bucket: string
  /** '' for the whole bucket. */
  prefix: string
  source: Rights
  elsewhere: Rights
}

export type Right = 'read' | 'list' | 'write' | 'delete' | 'acl'
export type Rights = Record<Right, Open>

export interface Key { arn: string, decrypt: Open, encrypt: Open }

/** When it is open next, or now if `from` is the instant asked about; `until` is null when it never ends. Null: never again. */
export type Open = { from: string, until: string | null } | null

const rightActions: Record<Right, string> = {
  read: 's3:GetObject', list: 's3:ListBucket', write: 's3:PutObject', delete: 's3:DeleteObject', acl: 's3:PutObjectAcl'
}
const rights = Object.keys(rightActions) as Right[]

const unique = <T>(values: Iterable<T>): T[] => [...new Set(values)]

/** `2025-07-16T01:00:00Z` where nothing is finer than a second. */
const iso = (epochMs: number): string => new Date(epochMs).toISOString().replace('.000Z', 'Z')

/** Every value that the policy asks of a context key. */
const asked = (statements: CompiledStatement[], key: string): string[] =>
  unique(statements.flatMap(({ tests }) => tests.flatMap(test => test.key === key ? test.values : [])))

const sourceKeys = ['aws:SourceIp', 'aws:VpcSourceIp', 'aws:SourceVpc', 'aws:SourceVpce']

// RFC 5737 documentation addresses and two well-known ones: one of them lies outside whatever a job is bound to.
const strangers = ['198.51.100.23', '192.0.2.23', '203.0.113.23', '1.1.1.1', '8.8.8.8']

/** The thief's own address, and, as private addresses are not unique, the same one in a VPC of the thief's. */
const contextsElsewhere = (atSource: Record<string, string>, blocks: string[]): Record<string, string>[] => {
  const ranges = blocks.map(readBlock)
  const stranger = strangers.find(text => {
    const { family, low } = readBlock(text)
    return !ranges.some(range => range.family === family && low >= range.low && low <= range.high)
  })
  const vpc = { 'aws:SourceVpc': 'vpc-0bad0bad0bad0bad0', 'aws:SourceVpce': 'vpce-0bad0bad0bad0bad0' }
  const throughVpc = Object.keys(atSource).some(key => key !== 'aws:SourceIp')
  return [{ 'aws:SourceIp': stranger ?? '::' }, ...(throughVpc ? [{ 'aws:VpcSourceIp': '10.0.0.1', ...atSource, ...vpc }] : [])]
}

/** The place the policy is bound to: of each key that it asks for, the first value. */
const contextAtSource = (statements: CompiledStatement[]): Record<string, string> => Object.fromEntries(sourceKeys.flatMap(name => {
  const [value] = asked(statements, name.toLowerCase())
  if (value === undefined) return []
  if (!name.endsWith('SourceIp')) return [[name, value]]
  const { family, low } = readBlock(value)
  return [[name, writeAddress(family, low)]]
}))

/** When a request that is right but for its time is allowed from one of the contexts, at an instant and after it. */
const openings = (statements: CompiledStatement[], request: AccessRequest, contexts: Record<string, string>[], at: number): Open => {
  const allowedAt = (instant: number) => contexts.some(context => decide(statements, {
    ...request, context: { 'aws:CurrentTime': new Date(instant).toISOString(), ...request.context, ...context }
  }).allowed)
  // Between two dates of the policy its answer is one and the same.
  const turns = asked(statements, 'aws:currenttime').map(readInstant).filter(turn => turn > at).sort((a, b) => a - b)
  const from = allowedAt(at) ? at : turns.find(turn => allowedAt(turn + 1))
  if (from === undefined) return null
  const until = turns.find(turn => turn > from && !allowedAt(turn + 1))
  return { from: iso(from), until: until === undefined ? null : iso(until) }
}

/** Buckets and prefixes that some Allow names. */
const areasOf = (policy: PolicyDocument): { bucket: string, prefix: string, arn: string }[] => {
  const found = new Map<string, { bucket: string, prefix: string, arn: string }>()
  for (const statement of policy.Statement) {
    if (statement.Effect !== 'Allow') continue
    for (const resource of many(statement.Resource)) {
      const [, arn = '', bucket = '', prefix] = /^(arn:[^:]+:s3:::([^/*]+))(?:\/(.*?)\*?)?$/s.exec(resource) ?? []
      const listed = Object.values(statement.Condition ?? {}).flatMap(keys => many(keys['s3:prefix'])).map(text => text.replace(/\*$/, ''))
      for (const each of prefix === undefined ? listed : [prefix]) if (bucket !== '') found.set(`${bucket}/${each}`, { bucket, prefix: each, arn })
    }
  }
  return [...found.values()]
}

const neighboursOf = (areas: ReturnType<typeof areasOf>): string[] => {
  const granted = new Set(areas.map(({ arn, prefix }) => `${arn}/${prefix}`))
  const inside = (arn: string) => [...granted].some(place => arn.startsWith(place))
  return unique(areas.flatMap(({ arn, prefix }) => [
    `${arn}-backup/a`, `${arn.slice(0, -1)}/a`,
    ...(prefix === '' ? [] : [`${arn}/${prefix.slice(0, -1)}-other/a`, `${arn}/a`])
  ])).filter(arn => !inside(arn))
}

const listing = (prefix: string): Record<string, string> => prefix === '' ? {} : { 's3:prefix': prefix }

/** The request for a right on an area: an object below its prefix, or a listing of it. */
const requestFor = (right: Right, { arn, prefix }: { arn: string, prefix: string }): AccessRequest => right === 'list'
  ? { action: rightActions.list, resource: arn, context: listing(prefix) }
  : { action: rightActions[right], resource: `${arn}/${prefix}object`, context: {} }

const viaS3 = (keyArn: string, action: string): AccessRequest => {
  const [, partition, , region] = keyArn.split(':')
  return { action, resource: keyArn, context: { 'kms:ViaService': `s3.${region}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}` } }
}

const tryAll = [...actionsOn.bucket, ...actionsOn.object, ...actionsOn.other]

const measure = (policy: PolicyDocument, at: Date, thief: Record<string, string> | undefined): BlastRadius['data'] => {
  const statements = compile(policy)
  const allows = statements.filter(({ effect }) => effect === 'Allow')
  const now = at.getTime()
  const atSource = contextAtSource(statements)
  const blocks = [...asked(statements, 'aws:sourceip'), ...asked(statements, 'aws:vpcsourceip')]
  const tried = { source: [atSource], elsewhere: thief === undefined ? contextsElsewhere(atSource, blocks) : [thief] }
  const places = areasOf(policy)

  const rightsFrom = (area: (typeof places)[number], contexts: Record<string, string>[]) => Object.fromEntries(
    rights.map(right => [right, openings(statements, requestFor(right, area), contexts, now)])) as Rights
  // At any instant since 1970, and from either place.
  const ever = (action: string, resource: string, context: Record<string, string> = {}): boolean =>
    allows.some(statement => statement.action(action.toLowerCase())) &&
    openings(statements, { action, resource, context }, [...tried.source, ...tried.elsewhere], 0) !== null
  const actionsAllowed = tryAll.filter(action => places.some(({ arn, prefix }) =>
    [arn, `${arn}/${prefix}object`, '*'].some(resource => ever(action, resource, listing(prefix)))))
  const keyArns = unique(policy.Statement.flatMap(statement => statement.Effect === 'Allow' ? many(statement.Resource) : [])
    .filter(arn => kindOfResource(arn) === 'key'))

  return {
    at: iso(now),
    source: sourceKeys.flatMap(key => {
      const values = asked(statements, key.toLowerCase())
      return values.length === 0 ? [] : [{ key, values }]
    }),
    tried,
    areas: places.map(area => ({
      bucket: area.bucket, prefix: area.prefix, source: rightsFrom(area, tried.source), elsewhere: rightsFrom(area, tried.elsewhere)
    })),
    keys: keyArns.map(arn => ({
      arn,
      decrypt: openings(statements, viaS3(arn, 'kms:Decrypt'), tried.source, now),
      encrypt: openings(statements, viaS3(arn, 'kms:GenerateDataKey'), tried.source, now)
    })),
    neighbours: neighboursOf(places).map(arn => ({ arn, denied: !Object.values(rightActions).some(action => ever(action, arn)) })),
    actionsDenied: tryAll.length - actionsAllowed.length,
    actionsAllowed
  }
}

/**
 * The blast radius of a key that carries this policy, as data and in plain words.
 * @param at the instant at which it is stolen
 * @param source condition keys of the thief's requests, such as `{ 'aws:SourceIp': '198.51.100.7' }`; absent: an address that the
 *   policy does not name
 * @throws UnknownElementError when the policy is one this evaluator does not know
 */
export const blastRadius = (policy: PolicyDocument, at: Date, source?: Record<string, string>): BlastRadius => {
  const data = measure(policy, at, source)
  return { data, words: inWords(data) }
}
