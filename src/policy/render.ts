import {
  bucketActions, completeMultipartUpload, deleteObject, getObject, keyActions, listActions, listBucket, objectActions, putObjectAcl,
  writeObjects, writes
} from './actions.ts'
import type { AccessSpec, Entry, Partition, Source } from '../domain/access-spec.ts'
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
  Statement: layouts[spec.layout](spec)
})

const everywhere = (spec: AccessSpec): Statement[] => spec.entries.flatMap(entry => [
  ...allows(spec, entry, { ...within(spec.window.notBefore, endOf(spec, entry)), ...from(spec.source) }),
  ...keys(spec, entry)
])

/**
 * Window and source in Denies, which win over every Allow, that of a bucket policy included. A negated operator matches when the
 * key is missing from the request, so a request without a source address is denied.
 */
const guarded = (spec: AccessSpec): Statement[] => [
  ...spec.entries.flatMap(entry => [
    ...allows(spec, entry, outlived(spec, entry) ? { DateLessThan: currentTime(spec.window.notAfter) } : {}),
    ...keys(spec, entry)
  ]),
  deny(denySids.beforeStart, { DateLessThan: currentTime(spec.window.notBefore) }),
  ...(hasGrace(spec) ? [readsAfterEnd(spec)] : []),
  deny(denySids.afterEnd, { DateGreaterThanEquals: currentTime(lastEnd(spec)) }),
  ...otherSources(spec.source)
]

/** The published guide, word for word: reads without conditions, writes with strict operators, and the guide's own actions. */
const guide = (spec: AccessSpec): Statement[] => spec.entries.map(entry => {
  const reading = [getObject.action, listBucket.action]
  if (!writes(entry)) return allow(spec, entry, reading)
  const writing = writeObjects.map(row => row.action)
  return allow(spec, entry, [
    ...reading,
    ...writing.slice(0, 1), putObjectAcl.action, ...writing.slice(1), completeMultipartUpload,
    ...(entry.delete ? [deleteObject.action] : [])
  ], {
    DateGreaterThan: currentTime(spec.window.notBefore),
    DateLessThan: currentTime(spec.window.notAfter),
    ...from(spec.source)
  })
})

const layouts = { everywhere, guarded, guide }

/** Sids of the statements that the `guarded` layout adds; no entry may have one of them. */
export const denySids = {
  beforeStart: 'DenyBeforeStart',
  readsAfterEnd: 'DenyReadsAfterEnd',
  afterEnd: 'DenyAfterEnd',
  otherSources: 'DenyOtherSources',
  otherVpcs: 'DenyOtherVpcs',
  otherVpcEndpoints: 'DenyOtherVpcEndpoints'
} as const

const suffixes = { list: 'List', keys: 'Keys' } as const

/** Sids of the statements that an entry is rendered as. */
export const sidsOf = (entry: Pick<Entry, 'sid' | 'prefix' | 'list' | 'kmsKeyArns'>): string[] => [
  entry.sid,
  ...(entry.prefix !== '' && entry.list ? [entry.sid + suffixes.list] : []),
  ...regionsOf(entry).map((_, index) => keysSid(entry, index))
]

// --- one entry ---

const allows = (spec: AccessSpec, entry: Entry, condition: ConditionBlock): Statement[] => {
  const list = listActions(entry)
  const onBucket = [...(spec.noBucketLocation ? [] : bucketActions()), ...(entry.prefix === '' ? list : [])]
  const own = allow(spec, entry, [...objectActions(entry), ...onBucket], condition)
  // Without an action on the bucket, the bucket's ARN allows nothing, but it would if an action were added later.
  if (onBucket.length === 0) own.Resource = arnsOf(spec.partition, entry).slice(1)
  if (entry.prefix === '') return [own]
  // Only listings have s3:prefix: under that condition GetBucketLocation would never be allowed.
  const listing: Statement[] = list.length === 0
    ? []
    : [{
        Sid: entry.sid + suffixes.list,
        Effect: 'Allow',
        Action: list,
        Resource: [bucketArn(spec.partition, entry)],
        Condition: { StringLike: { 's3:prefix': `${entry.prefix}*` }, ...condition }
      }]
  return [own, ...listing]
}

const allow = (spec: AccessSpec, entry: Entry, actions: string[], condition: ConditionBlock = {}): Statement => ({
  Sid: entry.sid,
  Effect: 'Allow',
  Action: actions,
  Resource: arnsOf(spec.partition, entry),
  ...(Object.keys(condition).length > 0 ? { Condition: condition } : {})
})

/**
 * KMS gets the request from S3, not from the job, so aws:SourceIp and the VPC keys are unreliable here (for forward access sessions
 * AWS documents both that they are kept and that they are not); S3 itself checks the source. The window is here, since a Deny of
 * s3:* does not apply to KMS. One statement per region, so that a key is used through S3 of its own region alone.
 */
const keys = (spec: AccessSpec, entry: Entry): Statement[] => regionsOf(entry).map((region, index) => ({
  Sid: keysSid(entry, index),
  Effect: 'Allow',
  Action: keyActions(entry),
  Resource: entry.kmsKeyArns.filter(arn => regionOf(arn) === region),
  Condition: {
    StringEquals: { 'kms:ViaService': `s3.${region}.${spec.partition === 'aws-cn' ? 'amazonaws.com.cn' : 'amazonaws.com'}` },
    ...within(spec.window.notBefore, endOf(spec, entry))
  }
}))

const regionOf = (arn: string): string => arn.split(':', 4)[3] ?? ''

const regionsOf = (entry: Pick<Entry, 'kmsKeyArns'>): string[] => [...new Set(entry.kmsKeyArns.map(regionOf))]

const keysSid = (entry: Pick<Entry, 'sid'>, index: number): string => `${entry.sid}${suffixes.keys}${index === 0 ? '' : index + 1}`

const bucketArn = (partition: Partition, entry: Entry): string => `arn:${partition}:s3:::${entry.bucket}`

const arnsOf = (partition: Partition, entry: Entry): string[] => {
  const bucket = bucketArn(partition, entry)
  return [bucket, `${bucket}/${entry.prefix}*`]
}

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
  NotResource: [...new Set(spec.entries.filter(writes).flatMap(entry => arnsOf(spec.partition, entry)))],
  Condition: { DateGreaterThanEquals: currentTime(spec.window.notAfter) }
})

const outlived = (spec: AccessSpec, entry: Entry): boolean =>
  hasGrace(spec) && !writes(entry) && spec.entries.some(other => writes(other) && other.bucket === entry.bucket)

// --- source ---

const from = (source: Source): ConditionBlock => {
  if (source.kind === 'any') return {}
  if (source.kind === 'ip') return { IpAddress: { 'aws:SourceIp': oneOrMany(source.cidrs) } }
  const endpoints = {
    ...(source.vpcIds.length > 0 ? { 'aws:SourceVpc': oneOrMany(source.vpcIds) } : {}),
    ...(source.vpcEndpointIds.length > 0 ? { 'aws:SourceVpce': oneOrMany(source.vpcEndpointIds) } : {})
  }
  return {
    ...(Object.keys(endpoints).length > 0 ? { StringEquals: endpoints } : {}),
    ...(source.cidrs.length > 0 ? { IpAddress: { 'aws:VpcSourceIp': oneOrMany(source.cidrs) } } : {})
  }
}

// One Deny per key: in one condition all keys must match, but here each mismatch alone must deny.
const otherSources = (source: Source): Statement[] => {
  if (source.kind === 'any') return []
  if (source.kind === 'ip') return [deny(denySids.otherSources, { NotIpAddress: { 'aws:SourceIp': oneOrMany(source.cidrs) } })]
  return [
    ...(source.vpcIds.length > 0
      ? [deny(denySids.otherVpcs, { StringNotEquals: { 'aws:SourceVpc': oneOrMany(source.vpcIds) } })]
      : []),
    ...(source.vpcEndpointIds.length > 0
      ? [deny(denySids.otherVpcEndpoints, { StringNotEquals: { 'aws:SourceVpce': oneOrMany(source.vpcEndpointIds) } })]
      : []),
    ...(source.cidrs.length > 0
      ? [deny(denySids.otherSources, { NotIpAddress: { 'aws:VpcSourceIp': oneOrMany(source.cidrs) } })]
      : [])
  ]
}

const deny = (sid: string, condition: ConditionBlock): Statement => ({
  Sid: sid, Effect: 'Deny', Action: 's3:*', Resource: '*', Condition: condition
})

const oneOrMany = (values: readonly string[]): OneOrMany => {
  const [first] = values
  return first !== undefined && values.length === 1 ? first : [...values]
}
