import {
  bucketActions, completeMultipartUpload, deleteObject, getBucketLocation, getObject, keyActions, listActions, listBucket, objectActions,
  putObjectAcl, uploadActions, writeObjects, writes
} from './actions.ts'
import type { AccessSpec, Entry, IpSource, Partition, Source, VpcSource } from '../domain/access-spec.ts'
import type { ConditionBlock, OneOrMany, PolicyDocument, Statement } from '../domain/policy-document.ts'

/**
 * Renders a spec as an IAM policy. The same spec always gives the same text, and every spec has a policy. The values of a spec are
 * safe in a Resource, so nothing is escaped here.
 *
 * What the policy means, which prove/ checks independently: an entry allows its actions on its bucket and prefix, from the source
 * alone, from notBefore on, until notAfter when it only reads and until outputNotAfter when it writes.
 */
export const render = (spec: AccessSpec): PolicyDocument => ({
  Version: '2012-10-17',
  Statement: spec.shared
    // The first part is the same for all workers of a job. So the source is never in an Allow of it, whatever the layout.
    ? [...layouts[spec.layout]({ ...spec, source: { kind: 'any' } }), ...otherSources(spec.source)]
    : layouts[spec.layout](spec)
})

/** What a worker has that shares the policy of its job: that one as it is, perhaps of an earlier release, and the own part of `policy`. */
export const together = (ofJob: PolicyDocument, policy: PolicyDocument): PolicyDocument =>
  ({ ...ofJob, Statement: [...ofJob.Statement, ...ownPart(policy).Statement] })

/**
 * The part of a worker's policy that is its own, where the rest is the policy of its job: all Denies about the source, and they alone.
 * IAM decides over all policies of a user together, so the two parts mean what the whole means.
 */
export const ownPart = ({ Version, Statement }: PolicyDocument): PolicyDocument =>
  ({ Version, Statement: Statement.filter(({ Effect, Sid }) => Effect === 'Deny' && sourceSids.has(Sid)) })

/** All keys of one condition must match, so each alternative of the source has Allows of its own. */
const everywhere = (spec: AccessSpec): Statement[] => groupsOf(spec.entries).flatMap(group => [
  ...alternativesOf(spec.source).flatMap(({ suffix, from }) => suffixed(suffix,
    allows(spec, group, { ...within(spec.window.notBefore, endOf(spec, group[0])), ...from }))),
  ...keys(spec, group)
])

/**
 * Window and source in Denies, which win over every Allow, that of a bucket policy included. A negated operator matches when the
 * key is missing from the request, so a request without a source address is denied.
 */
const guarded = (spec: AccessSpec): Statement[] => [
  ...groupsOf(spec.entries).flatMap(group => [
    ...allows(spec, group, outlived(spec, group) ? { DateLessThan: currentTime(spec.window.notAfter) } : {}),
    ...keys(spec, group)
  ]),
  deny(denySids.beforeStart, { DateLessThan: currentTime(spec.window.notBefore) }),
  ...(hasGrace(spec) ? [readsAfterEnd(spec)] : []),
  deny(denySids.afterEnd, { DateGreaterThanEquals: currentTime(lastEnd(spec)) }),
  ...otherSources(spec.source)
]

/** The published guide, word for word: reads without conditions, writes with strict operators, and the guide's own actions. */
const guide = (spec: AccessSpec): Statement[] => spec.entries.flatMap(entry => {
  const reading = [getObject.action, listBucket.action]
  if (!writes(entry)) return allow(spec, [entry], reading)
  const writing = writeObjects.map(row => row.action)
  // normalise() refuses two alternatives in this layout, so that the guide's words stay its words.
  return alternativesOf(spec.source).flatMap(({ suffix, from }) => suffixed(suffix, [allow(spec, [entry], [
    ...reading,
    ...writing.slice(0, 1), putObjectAcl.action, ...writing.slice(1), completeMultipartUpload,
    ...(entry.delete ? [deleteObject.action] : [])
  ], {
    DateGreaterThan: currentTime(spec.window.notBefore),
    DateLessThan: currentTime(spec.window.notAfter),
    ...from
  })]))
})

const layouts = { everywhere, guarded, guide }

/** Sids of the statements that the `guarded` layout adds; no entry may have one of them. */
export const denySids = {
  beforeStart: 'DenyBeforeStart',
  readsAfterEnd: 'DenyReadsAfterEnd',
  afterEnd: 'DenyAfterEnd',
  otherSources: 'DenyOtherSources',
  otherVpcs: 'DenyOtherVpcs',
  otherVpcArns: 'DenyOtherVpcArns',
  otherVpcEndpoints: 'DenyOtherVpcEndpoints'
} as const

const sourceSids = new Set<string | undefined>(
  [denySids.otherSources, denySids.otherVpcs, denySids.otherVpcArns, denySids.otherVpcEndpoints])

const suffixes = { list: 'List', names: 'Names', acl: 'Acl', keys: 'Keys', vpc: 'Vpc' } as const

const suffixed = (suffix: string, statements: Statement[]): Statement[] =>
  suffix === '' ? statements : statements.map(statement => ({ ...statement, Sid: `${statement.Sid}${suffix}` }))

// --- groups ---

/** Entries that share their statements: those with the same Sid. */
export type Group = readonly [Entry, ...Entry[]]

/** In the order of the first entry of each. */
export const groupsOf = (entries: readonly Entry[]): Group[] => {
  const groups = new Map<string, [Entry, ...Entry[]]>()
  for (const entry of entries) {
    const group = groups.get(entry.sid)
    if (group) group.push(entry)
    else groups.set(entry.sid, [entry])
  }
  return [...groups.values()]
}

/**
 * Equal for entries that can share statements without a change of meaning. A statement allows each of its actions on each of its
 * resources under all of its conditions, so the entries need the same actions and the same end. Listing a whole bucket and listing a
 * prefix have different conditions.
 */
export const rightsOf = (entry: Entry): string => {
  const { level, list, acl, cannedAcl, delete: del, prefix, versions, tags, uploads, attributes, restore, listNames } = entry
  return [level, list, acl, cannedAcl, del, prefix === '', versions, tags, uploads, attributes, restore, listNames].join()
}

/** Entries with the same key get the sid of the first of them, and so share statements. Without a key an entry keeps its own. */
export const withSharedSids = (entries: readonly Entry[], keyOf: (entry: Entry) => string | undefined): Entry[] => {
  const first = new Map<string, string>()
  return entries.map(entry => {
    const key = keyOf(entry)
    if (key === undefined) return entry
    const sid = first.get(key) ?? entry.sid
    first.set(key, sid)
    return { ...entry, sid }
  })
}

/**
 * Sids of the statements that a group is rendered as.
 * @param alternatives whether the layout is `everywhere` and the source has two alternatives
 */
export const sidsOf = (group: Group, alternatives: boolean): string[] => {
  const [{ sid, cannedAcl }] = group
  const allows = [
    sid,
    ...listings(group).map((_, index) => numbered(group, suffixes.list, index)),
    ...(unboundActions(group[0]).length > 0 ? [sid + suffixes.names] : []),
    ...(cannedAcl ? [sid + suffixes.acl] : [])
  ]
  return [
    ...allows,
    ...(alternatives ? allows.map(sid => sid + suffixes.vpc) : []),
    ...regionsOf(group).map((_, index) => numbered(group, suffixes.keys, index))
  ]
}

const numbered = ([{ sid }]: Group, suffix: string, index: number): string => `${sid}${suffix}${index === 0 ? '' : index + 1}`

const unique = <T>(values: readonly T[]): T[] => [...new Set(values)]

// --- the Allows of a group ---

const allows = (spec: AccessSpec, group: Group, condition: ConditionBlock): Statement[] => {
  const [entry] = group
  const list = listActions(entry)
  const onBucket = [
    ...bucketActions(entry).filter(action => !spec.noBucketLocation || action !== getBucketLocation.action),
    ...(entry.prefix === '' ? [...list, ...uploadActions(entry)] : [])
  ]
  const buckets = unique(group.map(each => bucketArn(spec.partition, each.bucket)))
  const objects = unique(group.flatMap(each => objectArns(spec.partition, each)))
  const unbound = unboundActions(entry)
  const own = allow(spec, group, [...objectActions(entry), ...onBucket], condition)
  // Without an action on the bucket, the bucket's ARN allows nothing, but it would if an action were added later.
  if (onBucket.length === 0) own.Resource = objects
  return [
    own,
    // Only listings have s3:prefix: under that condition GetBucketLocation would never be allowed.
    ...listings(group).map(({ buckets, prefixes }, index) => statement(numbered(group, suffixes.list, index), list,
      buckets.map(bucket => bucketArn(spec.partition, bucket)), { StringLike: { 's3:prefix': oneOrMany(prefixes) }, ...condition })),
    // Apart from the objects, so that explanations say that these are of the whole bucket.
    ...(unbound.length > 0 ? [statement(entry.sid + suffixes.names, unbound, buckets, condition)] : []),
    // StringLike, not StringEquals: the name has no wildcard, and the source has conditions under StringEquals.
    ...(entry.cannedAcl
      ? [statement(entry.sid + suffixes.acl, [putObjectAcl.action], objects,
          { StringLike: { 's3:x-amz-acl': entry.cannedAcl }, ...condition })]
      : [])
  ]
}

const statement = (Sid: string, Action: string[], Resource: string[], Condition: ConditionBlock): Statement =>
  ({ Sid, Effect: 'Allow', Action, Resource, ...(Object.keys(Condition).length > 0 ? { Condition } : {}) })

/** What an entry for a part of the bucket may list of the whole bucket. */
const unboundActions = (entry: Entry): string[] =>
  entry.prefix === '' ? [] : [...(entry.listNames ? listActions(entry) : []), ...uploadActions(entry)]

/** `prefixes` are the patterns of s3:prefix. */
interface Listing { buckets: string[], prefixes: string[] }

/** Buckets share a statement when the same prefixes are listed in each: every prefix of it is allowed in every bucket of it. */
const listings = (group: Group): Listing[] => {
  const [entry] = group
  if (entry.prefix === '' || !entry.list || entry.listNames) return []
  const found = new Map<string, Listing>()
  for (const bucket of unique(group.map(each => each.bucket))) {
    // A directory's name may be there twice: of the directory, and as a key.
    const prefixes = unique(group.filter(each => each.bucket === bucket).flatMap(patternsOf))
    const same = JSON.stringify([...prefixes].sort())
    const listing = found.get(same)
    if (listing) listing.buckets.push(bucket)
    else found.set(same, { buckets: [bucket], prefixes })
  }
  return [...found.values()]
}

const allow = (spec: AccessSpec, group: Group, actions: string[], condition: ConditionBlock = {}): Statement =>
  statement(group[0].sid, actions, arnsOf(spec.partition, group), condition)

/**
 * KMS gets the request from S3, not from the job, so aws:SourceIp and the VPC keys are unreliable here (for forward access sessions
 * AWS documents both that they are kept and that they are not); S3 itself checks the source. The window is here, since a Deny of
 * s3:* does not apply to KMS. One statement per region, so that a key is used through S3 of its own region alone.
 */
const keys = (spec: AccessSpec, group: Group): Statement[] => regionsOf(group).map((region, index) => ({
  Sid: numbered(group, suffixes.keys, index),
  Effect: 'Allow',
  Action: keyActions(group[0]),
  Resource: keysOf(group).filter(arn => regionOf(arn) === region),
  Condition: {
    StringEquals: { 'kms:ViaService': `s3.${region}.${spec.partition === 'aws-cn' ? 'amazonaws.com.cn' : 'amazonaws.com'}` },
    ...within(spec.window.notBefore, endOf(spec, group[0]))
  }
}))

const keysOf = (group: Group): string[] => unique(group.flatMap(entry => entry.kmsKeyArns)).sort()

const regionOf = (arn: string): string => arn.split(':', 4)[3] ?? ''

const regionsOf = (group: Group): string[] => unique(keysOf(group).map(regionOf))

const bucketArn = (partition: Partition, bucket: string): string => `arn:${partition}:s3:::${bucket}`

const objectArns = (partition: Partition, entry: Entry): string[] =>
  patternsOf(entry).map(pattern => `${bucketArn(partition, entry.bucket)}/${pattern}`)

/** The keys of an entry, and what s3:prefix may be. */
const patternsOf = ({ prefix, exact, bareName }: Entry): string[] =>
  exact ? [prefix] : [...(bareName ? [prefix.slice(0, -1)] : []), `${prefix}*`]

/** The ARNs of the buckets and of their objects, without repetition. */
const arnsOf = (partition: Partition, entries: readonly Entry[]): string[] =>
  unique(entries.flatMap(entry => [bucketArn(partition, entry.bucket), ...objectArns(partition, entry)]))

// --- window ---

const currentTime = (instant: string) => ({ 'aws:CurrentTime': instant })

const within = (start: string, end: string): ConditionBlock => ({
  DateGreaterThanEquals: currentTime(start),
  DateLessThan: currentTime(end)
})

const endOf = (spec: AccessSpec, entry: Entry): string => writes(entry) ? spec.window.outputNotAfter : spec.window.notAfter

const lastEnd = (spec: AccessSpec): string =>
  spec.entries.some(writes) ? spec.window.outputNotAfter : spec.window.notAfter

const hasGrace = (spec: AccessSpec): boolean => lastEnd(spec) !== spec.window.notAfter

/**
 * During the output's grace only the places that the job writes to stay open. A read entry of the same bucket has its bucket ARN,
 * and perhaps its objects, in this NotResource, so its Allows have the end themselves (see outlived).
 */
const readsAfterEnd = (spec: AccessSpec): Statement => ({
  Sid: denySids.readsAfterEnd,
  Effect: 'Deny',
  Action: 's3:*',
  NotResource: arnsOf(spec.partition, spec.entries.filter(writes)),
  Condition: { DateGreaterThanEquals: currentTime(spec.window.notAfter) }
})

const outlived = (spec: AccessSpec, group: Group): boolean => hasGrace(spec) && !writes(group[0]) &&
  group.some(entry => spec.entries.some(other => writes(other) && other.bucket === entry.bucket))

// --- source ---

/** What a source asks of one condition key: the operator that says so, and the one that says the opposite. */
interface KeyTest { key: string, is: string, isNot: string, sid: string, values: readonly string[] }

const publicAddress = ({ cidrs }: IpSource): KeyTest =>
  ({ key: 'aws:SourceIp', is: 'IpAddress', isNot: 'NotIpAddress', sid: denySids.otherSources, values: cidrs })

// ARN operators, as the IAM User Guide recommends for aws:SourceVpcArn. A request must fit every one of these keys.
const endpointTests = ({ vpcIds, vpcArns = [], vpcEndpointIds, cidrs }: VpcSource): KeyTest[] => [
  { key: 'aws:SourceVpc', is: 'StringEquals', isNot: 'StringNotEquals', sid: denySids.otherVpcs, values: vpcIds },
  { key: 'aws:SourceVpce', is: 'StringEquals', isNot: 'StringNotEquals', sid: denySids.otherVpcEndpoints, values: vpcEndpointIds },
  { key: 'aws:SourceVpcArn', is: 'ArnEquals', isNot: 'ArnNotEquals', sid: denySids.otherVpcArns, values: vpcArns },
  { key: 'aws:VpcSourceIp', is: 'IpAddress', isNot: 'NotIpAddress', sid: denySids.otherSources, values: cidrs }
].filter(({ values }) => values.length > 0)

const condition = (tests: readonly KeyTest[], operator: 'is' | 'isNot'): ConditionBlock => {
  const block: ConditionBlock = {}
  for (const test of tests) block[test[operator]] = { ...block[test[operator]], [test.key]: oneOrMany(test.values) }
  return block
}

/** Each way in which a request may come, as the condition of an Allow and the suffix of that Allow's Sid. */
const alternativesOf = (source: Source): { suffix: string, from: ConditionBlock }[] => {
  if (source.kind === 'any') return [{ suffix: '', from: {} }]
  if (source.kind === 'ip') return [{ suffix: '', from: condition([publicAddress(source)], 'is') }]
  if (source.kind === 'vpc') return [{ suffix: '', from: condition(endpointTests(source), 'is') }]
  return [...alternativesOf(source.ip), ...alternativesOf(source.vpc).map(({ from }) => ({ suffix: suffixes.vpc, from }))]
}

/**
 * One Deny per key: in one condition all keys must match, but here each mismatch alone must deny. With two alternatives a request is
 * denied when it misses both: its address is not one of sourceIps, and a key of the endpoint does not fit. The first is in every Deny.
 */
const otherSources = (source: Source): Statement[] => {
  if (source.kind === 'any') return []
  if (source.kind === 'ip') return [deny(denySids.otherSources, condition([publicAddress(source)], 'isNot'))]
  const address = source.kind === 'either' ? [publicAddress(source.ip)] : []
  return endpointTests(source.kind === 'either' ? source.vpc : source)
    .map(test => deny(test.sid, condition([...address, test], 'isNot')))
}

const deny = (sid: string, condition: ConditionBlock): Statement => ({
  Sid: sid, Effect: 'Deny', Action: 's3:*', Resource: '*', Condition: condition
})

const oneOrMany = (values: readonly string[]): OneOrMany => {
  const [first] = values
  return first !== undefined && values.length === 1 ? first : [...values]
}
