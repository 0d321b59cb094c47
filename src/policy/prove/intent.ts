import ipaddr from 'ipaddr.js'
import type { AccessSpec, Entry, Partition } from '../../domain/access-spec.ts'
import type { AccessRequest } from './evaluate.ts'

/**
 * What was asked, as a question about single requests: said from the admitted request alone, in other words than the
 * renderer's, and with none of its code. Where the two differ, the policy is wrong and nothing is issued.
 */

/** One thing the job asked to be able to do: a request is this wish when action, resource and every context key agree. */
export interface Wish {
  /** The request field it comes from. */
  pointer: string
  /** @param name in lower case */
  action: (name: string) => boolean
  resource: (arn: string) => boolean
  /** By condition key in lower case; a key that is not here does not matter. */
  context: Record<string, ContextTest>
}

/** `value` is undefined when the request has no such key. */
export type ContextTest = (value: string | undefined) => boolean

const named = (...actions: string[]) => {
  const names = new Set(actions.map(action => action.toLowerCase()))
  return (name: string) => names.has(name)
}

const objectActions = {
  read: ['s3:GetObject'],
  write: ['s3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts']
}

const writes = ({ level }: Entry) => level !== 'read'
const reads = ({ level }: Entry) => level !== 'write'

/** The guide lets a job read where it writes, and lets it write object ACLs. */
const objectActionsOf = (entry: Entry, guide: boolean): string[] => [
  ...(reads(entry) || guide ? objectActions.read : []),
  ...(writes(entry) ? objectActions.write : []),
  ...(entry.acl || (guide && writes(entry)) ? ['s3:PutObjectAcl'] : []),
  ...(entry.delete ? ['s3:DeleteObject'] : [])
]

/** ISO 8601 or epoch seconds, as epoch milliseconds; NaN for no instant, which lies in no window. */
const instant = (text = ''): number => /^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : Date.parse(text)

const during = (start: number, startIncluded: boolean, end: number): ContextTest => value => {
  const at = instant(value)
  return (startIncluded ? at >= start : at > start) && at < end
}

/** Start inclusive, end exclusive; strict at both ends in the guide. What may write lasts through the output grace. */
const windowsOf = ({ window, layout }: AccessSpec): { reading: ContextTest, writing: ContextTest } => {
  const until = (end: string) => during(Date.parse(window.notBefore), layout !== 'guide', Date.parse(end))
  return { reading: until(window.notAfter), writing: until(window.outputNotAfter) }
}

const inCidrs = (cidrs: string[]): ContextTest => {
  const ranges = cidrs.map(cidr => ipaddr.parseCIDR(cidr))
  return value => {
    if (value === undefined || !ipaddr.isValid(value)) return false
    const address = ipaddr.parse(value)
    return ranges.some(([network, bits]) => network.kind() === address.kind() && address.match([network, bits]))
  }
}

const among = (values: string[]): ContextTest => value => value !== undefined && values.includes(value)

const sourceOf = ({ source }: AccessSpec): Record<string, ContextTest> => {
  if (source.kind === 'any') return {}
  if (source.kind === 'ip') return { 'aws:sourceip': inCidrs(source.cidrs) }
  return {
    ...(source.vpcIds.length > 0 && { 'aws:sourcevpc': among(source.vpcIds) }),
    ...(source.vpcEndpointIds.length > 0 && { 'aws:sourcevpce': among(source.vpcEndpointIds) }),
    ...(source.cidrs.length > 0 && { 'aws:vpcsourceip': inCidrs(source.cidrs) })
  }
}

/** KMS sees S3 calling on the job's behalf; only through S3 in the key's own region. */
const viaS3 = (keyArn: string, partition: Partition): string =>
  `s3.${keyArn.split(':')[3] ?? ''}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}`

/** What all entries share. */
interface Bounds { windows: ReturnType<typeof windowsOf>, source: Record<string, ContextTest> }

const boundsOf = (spec: AccessSpec): Bounds => ({ windows: windowsOf(spec), source: sourceOf(spec) })

const wishesOf = (spec: AccessSpec, entry: Entry, { windows, source }: Bounds): Wish[] => {
  const guide = spec.layout === 'guide'
  const bucketArn = `arn:${spec.partition}:s3:::${entry.bucket}`
  const { pointer } = entry
  // The guide leaves what is only read open at all times and from everywhere.
  const bound = !guide || writes(entry)
  const time: Record<string, ContextTest> = bound ? { 'aws:currenttime': writes(entry) ? windows.writing : windows.reading } : {}
  const context = { ...time, ...(bound && source) }
  const onBucket = (arn: string) => arn === bucketArn

  const wishes: Wish[] = [{
    pointer,
    action: named(...objectActionsOf(entry, guide)),
    resource: arn => arn.startsWith(`${bucketArn}/${entry.prefix}`),
    context
  }]
  if (!guide && !spec.noBucketLocation) wishes.push({ pointer, action: named('s3:GetBucketLocation'), resource: onBucket, context })
  if (guide || entry.list) {
    const below: ContextTest = value => value?.startsWith(entry.prefix) ?? false
    wishes.push({
      pointer,
      action: named('s3:ListBucket'),
      resource: onBucket,
      context: entry.prefix === '' ? context : { ...context, 's3:prefix': below }
    })
  }
  for (const keyArn of entry.kmsKeyArns) {
    const via = viaS3(keyArn, spec.partition)
    wishes.push({
      pointer,
      action: writes(entry) ? named('kms:Decrypt', 'kms:GenerateDataKey') : named('kms:Decrypt'),
      resource: arn => arn === keyArn,
      // Whatever the source: AWS's pages disagree on what KMS sees as the caller's address when S3 calls it.
      context: { ...time, 'kms:viaservice': value => value === via }
    })
  }
  return wishes
}

export const wishes = (spec: AccessSpec): Wish[] => {
  const bounds = boundsOf(spec)
  return spec.entries.flatMap(entry => wishesOf(spec, entry, bounds))
}

/** As intends(), for many requests. */
export const intention = (spec: AccessSpec): (request: AccessRequest) => boolean => {
  const wanted = wishes(spec)
  return request => {
    const action = request.action.toLowerCase()
    const context = new Map(Object.entries(request.context).map(([key, value]) =>
      [key.toLowerCase(), typeof value === 'string' ? value : value.length === 1 ? value[0] : undefined]))
    return wanted.some(wish => wish.action(action) && wish.resource(request.resource) &&
      Object.entries(wish.context).every(([key, test]) => test(context.get(key))))
  }
}

/** Whether the job asked to be able to do this. A key with several values counts as none: S3 sends one. */
export const intends = (spec: AccessSpec, request: AccessRequest): boolean => intention(spec)(request)

/**
 * What the `guarded` layout must deny explicitly, so that no bucket policy can allow it either: S3 before the start, after
 * the last end, and from any other source. Empty in other layouts.
 */
export const bars = (spec: AccessSpec): Wish[] => {
  if (spec.layout !== 'guarded') return []
  const { windows, source } = boundsOf(spec)
  const open = spec.entries.some(writes) ? windows.writing : windows.reading
  return Object.entries({ 'aws:currenttime': open, ...source }).map(([key, test]) => ({
    pointer: '',
    action: name => name.startsWith('s3:'),
    resource: () => true,
    context: { [key]: value => !test(value) }
  }))
}
