import ipaddr from 'ipaddr.js'
import type { AccessSpec, Entry, Partition, Source } from '../../domain/access-spec.ts'
import type { IamRequest } from './evaluate.ts'

/*
 * What a policy must allow and deny, request by request. It is made from the spec alone, in other terms than the renderer's and
 * with none of its code. Where the two differ, the policy is wrong and nothing is issued.
 */

/** Requests that a policy must allow, or must deny: those whose action, resource and context keys all match. */
export interface Requirement {
  /** In lower case. */
  action: Texts
  resource: Texts
  /** By condition key in lower case; any value of another key matches. */
  context: Record<string, ContextTest>
}

/** The texts of `whole`, and all that begin with one of `beginnings`. They are data, so that they need not be tried one by one. */
export interface Texts { whole: readonly string[], beginnings: readonly string[] }

/** `value` is undefined when the request has no such key. */
export type ContextTest = Texts | ((value: string | undefined) => boolean)

export const passes = (test: ContextTest, value: string | undefined): boolean => typeof test === 'function'
  ? test(value)
  : value !== undefined && (test.whole.includes(value) || test.beginnings.some(beginning => value.startsWith(beginning)))

const among = (whole: readonly string[]): Texts => ({ whole, beginnings: [] })
const beginningWith = (beginning: string): Texts => ({ whole: [], beginnings: [beginning] })

const named = (...actions: string[]): Texts => among(actions.map(action => action.toLowerCase()))

const objectActions = {
  read: ['s3:GetObject'],
  write: ['s3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts']
}

const writes = ({ level }: Entry) => level !== 'read'
const reads = ({ level }: Entry) => level !== 'write'

/** What the options of an entry add on its objects. Reading another version is another action than reading. */
const optionActionsOf = (entry: Entry): string[] => {
  const read = [...(entry.tags && reads(entry) ? ['Tagging'] : []), ...(entry.attributes ? ['Attributes'] : [])]
  return [
    ...(entry.versions ? ['', ...read].map(what => `s3:GetObjectVersion${what}`) : []),
    ...read.map(what => `s3:GetObject${what}`),
    ...(entry.tags && writes(entry) ? ['s3:PutObjectTagging'] : []),
    ...(entry.restore ? ['s3:RestoreObject'] : [])
  ]
}

/** In the guide's layout a job can also read where it writes, and set ACLs there. */
const objectActionsOf = (entry: Entry, guide: boolean): string[] => [
  ...(reads(entry) || guide ? objectActions.read : []),
  ...optionActionsOf(entry),
  ...(writes(entry) ? objectActions.write : []),
  ...(entry.acl || (guide && writes(entry)) ? ['s3:PutObjectAcl'] : []),
  ...(entry.delete ? ['s3:DeleteObject'] : [])
]

/** ISO 8601 or epoch seconds, as epoch milliseconds; NaN when it is no instant, so that it is in no window. */
const instant = (text = ''): number => /^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : Date.parse(text)

const during = (start: number, startIncluded: boolean, end: number): ContextTest => value => {
  const at = instant(value)
  return (startIncluded ? at >= start : at > start) && at < end
}

/** The start is inclusive, but exclusive in the guide's layout; the end is exclusive. Writing ends after the output grace. */
const windowsOf = ({ window, layout }: AccessSpec): { reading: ContextTest, writing: ContextTest } => {
  const until = (end: string) => during(Date.parse(window.notBefore), layout !== 'guide', Date.parse(end))
  return { reading: until(window.notAfter), writing: until(window.outputNotAfter) }
}

/** One character per byte: texts of the same length are in the order of the addresses. */
const inOrder = (bytes: number[]): string => String.fromCharCode(...bytes)

/** Undefined when it is no address. */
const addressOf = (text: string): string | undefined => {
  try {
    return inOrder((text.includes(':') ? ipaddr.IPv6 : ipaddr.IPv4).parse(text).toByteArray())
  } catch {
    return undefined
  }
}

/** The first and the last address of a CIDR. */
type Range = [string, string]

const rangeOf = (cidr: string): Range => {
  const [network, bits] = (cidr.includes(':') ? ipaddr.IPv6 : ipaddr.IPv4).parseCIDR(cidr)
  const bytes = network.toByteArray()
  const free = (index: number) => 0xff >> Math.min(8, Math.max(0, bits - 8 * index))
  return [inOrder(bytes.map((byte, index) => byte & ~free(index))), inOrder(bytes.map((byte, index) => byte | free(index)))]
}

const inCidrs = (cidrs: string[]): ContextTest => {
  const ranges = cidrs.map(rangeOf)
  const [v4, v6] = [4, 16].map(bytes => ranges.filter(([first]) => first.length === bytes)) as [Range[], Range[]]
  return value => {
    // Reading an IPv6 address takes longer than all else here, and often all CIDRs are of the other family.
    const ofFamily = value === undefined ? [] : value.includes(':') ? v6 : v4
    const address = value === undefined || ofFamily.length === 0 ? undefined : addressOf(value)
    return address !== undefined && ofFamily.some(([first, last]) => first <= address && address <= last)
  }
}

/** Tests by condition key, all of which must hold. */
type Tests = Record<string, ContextTest>

/** A request comes from the source when it passes every test of one of these. */
const sourcesOf = (source: Source): Tests[] => {
  switch (source.kind) {
    case 'any': return [{}]
    case 'ip': return [{ 'aws:sourceip': inCidrs(source.cidrs) }]
    case 'either': return [...sourcesOf(source.ip), ...sourcesOf(source.vpc)]
    case 'vpc': return [{
      ...(source.vpcIds.length > 0 && { 'aws:sourcevpc': among(source.vpcIds) }),
      ...(source.vpcArns && { 'aws:sourcevpcarn': among(source.vpcArns) }),
      ...(source.vpcEndpointIds.length > 0 && { 'aws:sourcevpce': among(source.vpcEndpointIds) }),
      ...(source.cidrs.length > 0 && { 'aws:vpcsourceip': inCidrs(source.cidrs) })
    }]
  }
}

/** Every way to come from none of the sources: a failed test of each. */
const misses = (sources: Tests[]): Tests[] => sources.reduce<Tests[]>((found, source) => found.flatMap(miss =>
  Object.entries(source).map(([key, test]) => ({ ...miss, [key]: value => !passes(test, value) }))), [{}])

/** S3 calls KMS for the job. The key is used through S3 of the key's own region alone. */
const viaS3 = (keyArn: string, partition: Partition): string =>
  `s3.${keyArn.split(':')[3] ?? ''}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}`

/** What all entries have in common. */
interface Bounds { windows: ReturnType<typeof windowsOf>, sources: Tests[] }

const boundsOf = (spec: AccessSpec): Bounds => ({ windows: windowsOf(spec), sources: sourcesOf(spec.source) })

const requiredAllowsOf = (spec: AccessSpec, entry: Entry, { windows, sources }: Bounds): Requirement[] => {
  const guide = spec.layout === 'guide'
  const bucketArn = `arn:${spec.partition}:s3:::${entry.bucket}`
  // In the guide's layout, what is only read is open at all times and from everywhere.
  const bound = !guide || writes(entry)
  const time: Tests = bound ? { 'aws:currenttime': writes(entry) ? windows.writing : windows.reading } : {}
  const contexts = (bound ? sources : [{}]).map(source => ({ ...time, ...source }))
  const onBucket = among([bucketArn])

  const whole = entry.prefix === '' || entry.listNames
  const inside = (parent: string): Texts => {
    const place = `${parent}${entry.prefix}`
    if (entry.exact) return among([place])
    return { whole: entry.bareName && entry.prefix.endsWith('/') ? [place.slice(0, -1)] : [], beginnings: [place] }
  }
  const below = inside('')
  const ofEntry = inside(`${bucketArn}/`)
  const required = contexts.flatMap((context): Requirement[] => [
    {
      action: named(...objectActionsOf(entry, guide)),
      resource: ofEntry,
      context
    },
    ...(entry.versions ? [{ action: named('s3:GetBucketVersioning'), resource: onBucket, context }] : []),
    ...(entry.uploads ? [{ action: named('s3:ListBucketMultipartUploads'), resource: onBucket, context }] : []),
    ...(entry.cannedAcl
      ? [{ action: named('s3:PutObjectAcl'), resource: ofEntry, context: { ...context, 's3:x-amz-acl': among([entry.cannedAcl]) } }]
      : []),
    ...(guide || spec.noBucketLocation ? [] : [{ action: named('s3:GetBucketLocation'), resource: onBucket, context }]),
    ...(guide || entry.list
      ? [{
          action: entry.versions ? named('s3:ListBucket', 's3:ListBucketVersions') : named('s3:ListBucket'),
          resource: onBucket,
          context: whole ? context : { ...context, 's3:prefix': below }
        }]
      : [])
  ])
  for (const keyArn of entry.kmsKeyArns) {
    const via = viaS3(keyArn, spec.partition)
    required.push({
      action: writes(entry) ? named('kms:Decrypt', 'kms:GenerateDataKey') : named('kms:Decrypt'),
      resource: among([keyArn]),
      // Without the source: AWS's pages contradict each other about the source address that KMS sees when S3 calls it.
      context: { ...time, 'kms:viaservice': among([via]) }
    })
  }
  return required
}

/** Everything that the policy must allow; it must allow nothing else. */
export const requiredAllows = (spec: AccessSpec): Requirement[] => {
  const bounds = boundsOf(spec)
  return spec.entries.flatMap(entry => requiredAllowsOf(spec, entry, bounds))
}

/** intends() for many requests. */
export const intention = (spec: AccessSpec): (request: IamRequest) => boolean => {
  const required = requiredAllows(spec)
  return request => {
    const action = request.action.toLowerCase()
    const context = new Map(Object.entries(request.context).map(([key, value]) =>
      [key.toLowerCase(), typeof value === 'string' ? value : value.length === 1 ? value[0] : undefined]))
    return required.some(allow => passes(allow.action, action) && passes(allow.resource, request.resource) &&
      Object.entries(allow.context).every(([key, test]) => passes(test, context.get(key))))
  }
}

/** Whether the policy must allow this request. A context key with several values counts as missing: S3 sends one value. */
export const intends = (spec: AccessSpec, request: IamRequest): boolean => intention(spec)(request)

/**
 * What the policy must deny explicitly, so that no bucket policy can allow it: in the `guarded` layout, every action of S3 before
 * the start, after the last end, and from anywhere that is none of the sources. Empty in the other layouts.
 */
export const requiredDenies = (spec: AccessSpec): Requirement[] => {
  if (spec.layout !== 'guarded') return []
  const { windows, sources } = boundsOf(spec)
  const open = spec.entries.some(writes) ? windows.writing : windows.reading
  return [...misses([{ 'aws:currenttime': open }]), ...misses(sources)].map(context => ({
    action: beginningWith('s3:'),
    resource: beginningWith(''),
    context
  }))
}
