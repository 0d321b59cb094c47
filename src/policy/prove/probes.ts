import type { AccessSpec, Source } from '../../domain/access-spec.ts'
import type { PolicyDocument } from '../../domain/policy-document.ts'
import { besideBlock, readBlock, readInstant, writeAddress, type Block } from './conditions.ts'
import { kindOfResource, type ResourceKind } from './validate.ts'

/*
 * The values of which the prover builds its requests. For each dimension: the boundaries that policy or spec have there, and the
 * values on both sides of each. A policy that is provable (validate.ts) has no other boundary, so every possible request is
 * decided like one of these.
 */

/** A character that no policy can contain (IAM takes U+0020 to U+00FF), so that text with it is in no literal of the policy. */
const more = '…'

const unique = <T>(values: Iterable<T>): T[] => [...new Set(values)]

/** Literals of a policy, without the `*` at their end, and the texts next to each. */
const aroundText = (literals: string[]): string[] => unique(literals.flatMap(literal => {
  const shorter = literal.slice(0, -1)
  return [literal, literal + more, shorter, shorter + more, literal + literal.slice(-1), literal.toUpperCase()]
}).concat('', more))

const withoutStar = (pattern: string) => pattern.replace(/\*$/, '')

/** Every value with which the policy compares a context key (lower case). */
const comparedWith = (policy: PolicyDocument, key: string): string[] => policy.Statement.flatMap(({ Condition = {} }) =>
  Object.values(Condition).flatMap(keys => Object.entries(keys).flatMap(([name, value]) => name.toLowerCase() === key ? value : [])))

const instants = (policy: PolicyDocument, { window }: AccessSpec): string[] => {
  const bounds = [window.notBefore, window.notAfter, window.outputNotAfter, ...comparedWith(policy, 'aws:currenttime')].map(readInstant)
  const start = Date.parse(window.notBefore)
  const middle = start + (Date.parse(window.notAfter) - start) / 2
  const around = bounds.flatMap(at => [at, at - 1000, at - 1, at + 1, at + 1000])
  return unique([middle, ...around, 0, Date.UTC(2999, 0)]).map(at => new Date(at).toISOString())
}

/** The IPv4-mapped IPv6 address, which no IPv4 block of a policy covers. */
const mapped = ({ low }: Block): string[] => low.length === 8 ? [`::ffff:${writeAddress(low)}`] : []

/** Those of both alternatives: an address that one of them allows must not pass as the other. */
const cidrsOf = (source: Source): string[] => {
  if (source.kind === 'any') return []
  return source.kind === 'either' ? [...source.ip.cidrs, ...source.vpc.cidrs] : source.cidrs
}

/** VPCs with the same id in another Region or account, or in another partition. */
const otherVpcs = (arn: string): string[] => {
  const [, partition, service, region, account, vpc] = arn.split(':')
  return [
    `arn:${partition}:${service}:${region}x:${account}:${vpc}`, `arn:${partition}:${service}:${region}:${account}0:${vpc}`,
    `arn:${partition === 'aws' ? 'aws-cn' : 'aws'}:${service}:${region}:${account}:${vpc}`, vpc ?? ''
  ]
}

const addresses = (policy: PolicyDocument, { source }: AccessSpec, key: string): string[] => {
  const blocks = unique([...cidrsOf(source), ...comparedWith(policy, key)]).map(readBlock)
  const around = unique(blocks.flatMap(block => [block.low, block.high, ...besideBlock(block)])).map(writeAddress)
  return unique([
    ...around, ...blocks.flatMap(mapped), '0.0.0.0', '255.255.255.255', '10.0.0.1', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
  ])
}

/** Values of a context key; undefined is a request without it. */
type Values = (string | undefined)[]

/**
 * By context key in lower case: the values to try, simple ones first, so that a counterexample is easy to read.
 * @param isTested whether policy or spec test a key; the others change no decision and are left out
 */
export const contextValues = (policy: PolicyDocument, spec: AccessSpec, isTested: (key: string) => boolean): Map<string, Values> => {
  const { source, entries, partition } = spec
  const { vpcIds, vpcArns = [], vpcEndpointIds } =
    source.kind === 'either' ? source.vpc : source.kind === 'vpc' ? source : { vpcIds: [], vpcEndpointIds: [] }
  const regions = entries.flatMap(entry => entry.kmsKeyArns.map(arn => arn.split(':')[3] ?? ''))
  const services = unique(regions).flatMap(region => ['s3', 'ec2', 's3-outposts'].map(service => `${service}.${region}.amazonaws.com`))
  const text = (key: string, wanted: string[]): Values =>
    [...aroundText(unique([...wanted, ...comparedWith(policy, key).map(withoutStar), ...comparedWith(policy, key)])), undefined]

  const dimensions: Record<string, () => Values> = {
    // AWS sends the time with every request.
    'aws:currenttime': () => instants(policy, spec),
    'aws:sourceip': () => [...addresses(policy, spec, 'aws:sourceip'), undefined],
    'aws:vpcsourceip': () => [...addresses(policy, spec, 'aws:vpcsourceip'), undefined],
    'aws:sourcevpc': () => text('aws:sourcevpc', vpcIds),
    'aws:sourcevpcarn': () => [...text('aws:sourcevpcarn', vpcArns), ...vpcArns.flatMap(otherVpcs)],
    'aws:sourcevpce': () => text('aws:sourcevpce', vpcEndpointIds),
    's3:x-amz-acl': () => text('s3:x-amz-acl', ['private', 'public-read', ...entries.flatMap(entry => entry.cannedAcl ?? [])]),
    's3:prefix': () => text('s3:prefix', entries.map(entry => entry.prefix)),
    'kms:viaservice': () => text('kms:viaservice', partition === 'aws-cn' ? services.flatMap(name => [`${name}.cn`, name]) : services)
  }
  return new Map(Object.entries(dimensions).flatMap(([key, values]): [string, Values][] => isTested(key) ? [[key, values()]] : []))
}

const lookAlikes = (bucket: string): string[] => [
  bucket, `${bucket}x`, bucket.slice(0, -1), `${bucket}-`, `x${bucket}`, `${bucket}.backup`, bucket.slice(0, Math.ceil(bucket.length / 2)),
  bucket.toUpperCase()
]

/** Object keys and list prefixes that resemble a prefix such as `runs/42/`. */
const nearPrefix = (prefix: string): string[] => {
  const folder = prefix.slice(0, -1)
  const parent = folder.slice(0, folder.lastIndexOf('/') + 1)
  return [
    `${prefix}a`, prefix, folder, `${folder}x/a`, parent, `${parent}a`,
    `${prefix}${prefix}a`, `x/${prefix}a`, prefix.toUpperCase(), `/${prefix}a`
  ]
}

/** Resources of each kind: those of the spec, their neighbours, and both sides of every pattern in the policy. */
export const resources = (policy: PolicyDocument, { entries, partition }: AccessSpec): Record<ResourceKind, string[]> => {
  const buckets = unique(entries.map(entry => entry.bucket))
  const inBucket = (bucket: string) =>
    unique(['a', '', ...entries.filter(entry => entry.bucket === bucket).flatMap(({ prefix }) => nearPrefix(prefix))])
  const arn = (bucket: string) => `arn:${partition}:s3:::${bucket}`
  const otherPartition = partition === 'aws' ? 'aws-cn' : 'aws'
  const keys = unique(entries.flatMap(entry => entry.kmsKeyArns))
  // Where the patterns of the policy and the places of the spec begin and end.
  const literals = unique([
    ...policy.Statement.flatMap(statement => [statement.Resource ?? [], statement.NotResource ?? []].flat(2)).map(withoutStar),
    ...entries.flatMap(({ bucket, prefix }) => [arn(bucket), `${arn(bucket)}/${prefix}`])
  ])

  const all = [
    ...buckets.flatMap(bucket => lookAlikes(bucket).flatMap(name =>
      [arn(name), ...(name === bucket ? inBucket(bucket) : ['a']).map(key => `${arn(name)}/${key}`)])),
    ...[...buckets, 'another-bucket'].flatMap(bucket => [arn(bucket), `${arn(bucket)}/a`, `arn:${otherPartition}:s3:::${bucket}/a`]),
    ...keys.flatMap(key => [key, `${key}0`, key.replace(/[^:/]+$/, 'another'), key.replace(':key/', ':alias/')]),
    ...aroundText(literals),
    ...literals.map(literal => `${literal}${more}/${more}`),
    '*', `arn:${partition}:s3:us-east-1:111122223333:accesspoint/a/object/a`, `arn:${partition}:kms:us-east-1:111122223333:key/another`
  ]
  const sorted: Record<ResourceKind, string[]> = { bucket: [], object: [], key: [], other: [] }
  for (const resource of unique(all)) sorted[kindOfResource(resource)].push(resource)
  return sorted
}
