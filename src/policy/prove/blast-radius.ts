import type { PolicyDocument } from '../../domain/policy-document.ts'
import { readBlock, readInstant, writeAddress } from './conditions.ts'
import { compile, decide, type CompiledStatement, type IamRequest } from './evaluate.ts'
import { actionsOn, kindOfResource } from './validate.ts'

/**
 * What a thief of a key could do with it. Found out from the policy alone: requests are tried against it, from its source and from
 * elsewhere, now and at every instant when the answer may change.
 */
export interface BlastRadius {
  data: {
    at: string
    /** The sources from which the policy allows requests; empty: it does not look at the source. */
    source: { key: string, values: string[] }[]
    /** Condition keys of the requests that were tried: each has one of these sets. */
    tried: Record<Place, Record<string, string>[]>
    areas: Area[]
    keys: Key[]
    /** Places with a name similar to a granted one, or next to it: denied when nothing is allowed there, at any time. */
    neighbours: { arn: string, denied: boolean }[]
    /** Of the actions of S3, KMS, IAM and STS that were tried, how many are allowed on no area of the policy at any time. */
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
  /** `prefix` is one whole key. */
  exact: boolean
  source: Rights
  elsewhere: Rights
}

export type Right = 'read' | 'list' | 'write' | 'delete' | 'acl'
export type Rights = Record<Right, Open>

export interface Key { arn: string, decrypt: Open, encrypt: Open }

/**
 * The next period in which something is allowed. `from` is the instant of the theft when it is allowed then; `until` is null when
 * the period has no end. Null: it is never allowed again.
 */
export type Open = { from: string, until: string | null } | null

const rightActions: Record<Right, string> = {
  read: 's3:GetObject', list: 's3:ListBucket', write: 's3:PutObject', delete: 's3:DeleteObject', acl: 's3:PutObjectAcl'
}
const rights = Object.keys(rightActions) as Right[]

const unique = <T>(values: Iterable<T>): T[] => [...new Set(values)]

/** `2025-07-16T01:00:00Z` where nothing is finer than a second. */
const iso = (epochMs: number): string => new Date(epochMs).toISOString().replace('.000Z', 'Z')

/** Every value with which the policy compares a context key. */
const comparedWith = (statements: CompiledStatement[], key: string): string[] =>
  unique(statements.flatMap(({ tests }) => tests.flatMap(test => test.key === key ? test.values : [])))

/** Off a VPC endpoint a request has the first of these keys; through one it has the others. */
const publicKey = 'aws:SourceIp'
const endpointKeys = ['aws:VpcSourceIp', 'aws:SourceVpc', 'aws:SourceVpcArn', 'aws:SourceVpce']

// Addresses of the documentation networks (RFC 5737) and two well-known ones: nearly always one of them is not in the job's source.
const strangers = ['198.51.100.23', '192.0.2.23', '203.0.113.23', '1.1.1.1', '8.8.8.8']

/** The thief's own address; and the job's private address in a VPC of the thief, as private addresses are not unique. */
const contextsElsewhere = (atSource: Record<string, string>[], blocks: string[]): Record<string, string>[] => {
  const ranges = blocks.map(readBlock)
  const stranger = strangers.find(text => {
    const { low } = readBlock(text)
    return !ranges.some(range => range.low.length === low.length && range.low <= low && low <= range.high)
  })
  const vpc = {
    'aws:SourceVpc': 'vpc-0bad0bad0bad0bad0',
    'aws:SourceVpcArn': 'arn:aws:ec2:us-east-1:000000000000:vpc/vpc-0bad0bad0bad0bad0',
    'aws:SourceVpce': 'vpce-0bad0bad0bad0bad0'
  }
  const through = atSource.filter(context => Object.keys(context).some(key => key !== publicKey))
  return [{ [publicKey]: stranger ?? '::' }, ...through.map(context => ({ 'aws:VpcSourceIp': '10.0.0.1', ...context, ...vpc }))]
}

/** Requests from the source that the policy allows, off an endpoint and through one: the first value of each key that it tests. */
const contextsAtSource = (statements: CompiledStatement[]): Record<string, string>[] => {
  const contexts = [[publicKey], endpointKeys].map(keys => Object.fromEntries(keys.flatMap(name => {
    const [value] = comparedWith(statements, name.toLowerCase())
    if (value === undefined) return []
    if (!name.endsWith('SourceIp')) return [[name, value]]
    return [[name, writeAddress(readBlock(value).low)]]
  })))
  const bound = contexts.filter(context => Object.keys(context).length > 0)
  return bound.length === 0 ? [{}] : bound
}

/** When a request is next allowed from one of the contexts, at an instant or after it. */
const openings = (statements: CompiledStatement[], request: IamRequest, contexts: Record<string, string>[], at: number): Open => {
  const allowedAt = (instant: number) => contexts.some(context => decide(statements, {
    ...request, context: { 'aws:CurrentTime': new Date(instant).toISOString(), ...request.context, ...context }
  }).allowed)
  // Between two dates of the policy its answer does not change.
  const turns = comparedWith(statements, 'aws:currenttime').map(readInstant).filter(turn => turn > at).sort((a, b) => a - b)
  const from = allowedAt(at) ? at : turns.find(turn => allowedAt(turn + 1))
  if (from === undefined) return null
  const until = turns.find(turn => turn > from && !allowedAt(turn + 1))
  return { from: iso(from), until: until === undefined ? null : iso(until) }
}

/** `onlyNames`: a bucket of which no Allow opens the objects, but one lists them all. */
interface NamedArea { bucket: string, prefix: string, exact: boolean, arn: string, onlyNames?: boolean }

/** Buckets, prefixes and keys that some Allow names. */
const areasOf = (policy: PolicyDocument): NamedArea[] => {
  const found = new Map<string, NamedArea>()
  const wholly = new Map<string, NamedArea>()
  for (const statement of policy.Statement) {
    if (statement.Effect !== 'Allow') continue
    for (const resource of [statement.Resource ?? []].flat()) {
      const [, arn = '', bucket = '', pattern] = /^(arn:[^:]+:s3:::([^/*]+))(?:\/(.*))?$/s.exec(resource) ?? []
      const listed = Object.values(statement.Condition ?? {}).flatMap(keys => keys['s3:prefix'] ?? [])
      for (const each of pattern === undefined ? listed : [pattern]) {
        const area = { bucket, prefix: each.replace(/\*$/, ''), exact: !each.endsWith('*'), arn }
        if (bucket !== '') found.set(`${bucket}/${each}`, area)
      }
      if (bucket !== '' && pattern === undefined && listed.length === 0 && [statement.Action ?? []].flat().includes(rightActions.list)) {
        wholly.set(`${bucket}/*`, { bucket, prefix: '', exact: false, arn, onlyNames: true })
      }
    }
  }
  return [...new Map([...wholly, ...found]).values()]
}

const neighboursOf = (areas: NamedArea[]): string[] => {
  const inside = (other: string) => areas.some(({ arn, prefix, exact }) =>
    exact ? other === `${arn}/${prefix}` : other.startsWith(`${arn}/${prefix}`))
  return unique(areas.flatMap(({ arn, prefix, exact }) => [
    ...(exact ? [`${arn}/${prefix}.bak`] : []),
    `${arn}-backup/a`, `${arn.slice(0, -1)}/a`,
    ...(prefix === '' ? [] : [`${arn}/${prefix.slice(0, -1)}-other/a`, `${arn}/a`])
  ])).filter(arn => !inside(arn))
}

const listing = (prefix: string): Record<string, string> => prefix === '' ? {} : { 's3:prefix': prefix }

const objectIn = ({ arn, prefix, exact }: NamedArea): string => `${arn}/${prefix}${exact ? '' : 'object'}`

/** The request for a right on an area: an object of it, or a listing of it. */
const requestFor = (right: Right, area: NamedArea, cannedAcl: string | undefined): IamRequest => right === 'list'
  ? { action: rightActions.list, resource: area.arn, context: listing(area.prefix) }
  : { action: rightActions[right], resource: objectIn(area), context: right === 'acl' ? aclContext(cannedAcl) : {} }

/** Where the policy asks for a canned ACL, a thief sends it. */
const aclContext = (cannedAcl: string | undefined): Record<string, string> => cannedAcl === undefined ? {} : { 's3:x-amz-acl': cannedAcl }

const viaS3 = (keyArn: string, action: string): IamRequest => {
  const [, partition, , region] = keyArn.split(':')
  return { action, resource: keyArn, context: { 'kms:ViaService': `s3.${region}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}` } }
}

const tryAll = [...actionsOn.bucket, ...actionsOn.object, ...actionsOn.other]

const measure = (policy: PolicyDocument, at: Date, thief: Record<string, string> | undefined): BlastRadius['data'] => {
  const statements = compile(policy)
  const allows = statements.filter(({ effect }) => effect === 'Allow')
  const now = at.getTime()
  const atSource = contextsAtSource(statements)
  const blocks = [...comparedWith(statements, 'aws:sourceip'), ...comparedWith(statements, 'aws:vpcsourceip')]
  const tried = { source: atSource, elsewhere: thief === undefined ? contextsElsewhere(atSource, blocks) : [thief] }
  const places = areasOf(policy)

  const [cannedAcl] = comparedWith(statements, 's3:x-amz-acl')
  const rightsFrom = (area: (typeof places)[number], contexts: Record<string, string>[]) => Object.fromEntries(
    rights.map(right => [right, openings(statements, requestFor(right, area, cannedAcl), contexts, now)])) as Rights
  // At any instant since 1970, and from either place.
  const ever = (action: string, resource: string, context: Record<string, string> = {}): boolean =>
    allows.some(statement => statement.action(action.toLowerCase())) &&
    openings(statements, { action, resource, context }, [...tried.source, ...tried.elsewhere], 0) !== null
  const actionsAllowed = tryAll.filter(action => places.some(area =>
    [area.arn, objectIn(area), '*'].some(resource => ever(action, resource, { ...listing(area.prefix), ...aclContext(cannedAcl) }))))
  const keyArns = unique(policy.Statement.flatMap(statement => statement.Effect === 'Allow' ? statement.Resource ?? [] : [])
    .filter(arn => kindOfResource(arn) === 'key'))

  return {
    at: iso(now),
    source: [publicKey, ...endpointKeys].flatMap(key => {
      const values = comparedWith(statements, key.toLowerCase())
      return values.length === 0 ? [] : [{ key, values }]
    }),
    tried,
    areas: places.map(area => ({
      bucket: area.bucket,
      prefix: area.prefix,
      exact: area.exact,
      source: rightsFrom(area, tried.source),
      elsewhere: rightsFrom(area, tried.elsewhere)
    })),
    keys: keyArns.map(arn => ({
      arn,
      decrypt: openings(statements, viaS3(arn, 'kms:Decrypt'), tried.source, now),
      encrypt: openings(statements, viaS3(arn, 'kms:GenerateDataKey'), tried.source, now)
    })),
    neighbours: neighboursOf(places.filter(({ onlyNames }) => !onlyNames))
      .map(arn => ({ arn, denied: !Object.values(rightActions).some(action => ever(action, arn)) })),
    actionsDenied: tryAll.length - actionsAllowed.length,
    actionsAllowed
  }
}

// --- in words ---

const listed = (texts: string[]): string => texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`

const verbs: Record<Right, string> = {
  read: 'read', list: 'list', write: 'write', delete: 'delete', acl: 'change the ACLs of'
}

const periodOf = (open: NonNullable<Open>, now: string): string => {
  const end = open.until === null ? 'without end' : `until ${open.until}`
  return open.from === now ? `now and ${end}` : `from ${open.from} ${end}`
}

/** No name has these quotes, so it cannot be taken for a part of the sentence. */
const inQuotes = (name: string): string => /[^A-Za-z0-9/!_.'()=+@,:*-]/.test(name) ? `“${name}”` : name

/** One phrase per period: what is allowed in it, area by area. */
const deeds = (areas: Area[], place: Place, now: string): string[] => {
  const byPeriod = new Map<string, Map<string, Right[]>>()
  for (const area of areas) {
    for (const right of Object.keys(verbs) as Right[]) {
      const open = area[place][right]
      if (open === null) continue
      const period = periodOf(open, now)
      // A listing of `wiki` also shows the names beside it, such as `wiki-backup/a`.
      const whole = /(^|\/)$/.test(area.prefix) || (area.exact && right !== 'list')
      const name = inQuotes(`${area.bucket}/${area.prefix}${whole ? '' : '*'}`)
      const areasOfPeriod = byPeriod.get(period) ?? new Map<string, Right[]>()
      areasOfPeriod.set(name, unique([...areasOfPeriod.get(name) ?? [], right]))
      byPeriod.set(period, areasOfPeriod)
    }
  }
  return [...byPeriod].map(([period, names]) =>
    `${period}: ${[...names].map(([name, granted]) => `${listed(granted.map(right => verbs[right]))} ${name}`).join('; ')}`)
}

/** Actions that the rights and keys stand for, and those that only go with them. */
const saidBefore = new Set([
  ...Object.values(rightActions), 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts', 's3:GetBucketLocation', 'kms:Decrypt',
  'kms:GenerateDataKey'
])

/** The data of a blast radius in words, for a reader who does not know IAM. */
const inWords = ({ source, areas, keys, neighbours, actionsDenied, actionsAllowed }: BlastRadius['data'], now: string): string[] => {
  const [off, through] = [(key: string) => key === publicKey, (key: string) => key !== publicKey].map(wanted => source
    .filter(({ key }) => wanted(key))
    .map(({ key, values }) => key.endsWith('SourceIp') ? listed(values) : `through ${listed(values)}`)
    .join(' '))
  const bound = [off, through].filter(Boolean).join(' or ')
  const inside = deeds(areas, 'source', now)
  const outside = deeds(areas, 'elsewhere', now)
  const everywhere = inside.join() === outside.join()
  const sentences = (start: string, phrases: string[]) => phrases.map(phrase => `${start}, ${phrase}.`)
  const open = keys.filter(key => key.decrypt !== null || key.encrypt !== null)
  const more = actionsAllowed.filter(action => !saidBefore.has(action))
  const leaks = neighbours.filter(({ denied }) => !denied)
  return [
    ...(inside.length === 0 && outside.length === 0
      ? ['Nothing, now or later, from anywhere.']
      : everywhere
        ? sentences('From anywhere', inside)
        : [
            ...(inside.length === 0 ? [`From ${bound}: nothing.`] : sentences(`From ${bound}`, inside)),
            ...(outside.length === 0 ? [`From outside ${bound}: nothing.`] : sentences(`From outside ${bound}, too`, outside))
          ]),
    ...(open.length === 0 ? [] : [`KMS keys, through S3 alone: ${listed(open.map(key => key.arn))}.`]),
    ...(more.length === 0 ? [] : [`On these places also: ${listed(more)}.`]),
    ...(leaks.length === 0
      ? neighbours.length === 0
        ? []
        : [`Never: any other bucket or prefix, such as ${inQuotes((neighbours[0]?.arn ?? '').replace(/^arn:[^:]+:s3:::/, '').replace(/a$/, ''))}.`]
      : [`Beside what is listed: ${listed(leaks.map(({ arn }) => arn))}.`]),
    `Never: any of ${actionsDenied} other actions of S3, KMS, IAM and STS, such as ${listed(neverOf(areas))}.`
  ]
}

const neverOf = (areas: Area[]): string[] => {
  const never = (right: Right) => areas.every(area => area.source[right] === null && area.elsewhere[right] === null)
  return [
    ...(never('delete') ? ['deleting objects'] : []),
    ...(never('acl') ? ['changing ACLs'] : []),
    'changing bucket policies',
    'making access keys'
  ]
}

/**
 * The blast radius of a key that carries this policy, as data and in plain words.
 * @param at the instant at which it is stolen
 * @param source condition keys of the thief's requests, such as `{ 'aws:SourceIp': '198.51.100.7' }`; absent: an address outside
 *   the policy's source
 * @param now the instant that the words call now: before `at` while the key does not exist
 * @throws UnknownElementError when the policy has something that the evaluator does not know
 */
export const blastRadius = (policy: PolicyDocument, at: Date, source?: Record<string, string>, now = at): BlastRadius => {
  const data = measure(policy, at, source)
  return { data, words: inWords(data, iso(now.getTime())) }
}
