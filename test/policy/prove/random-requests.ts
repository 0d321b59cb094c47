import ipaddr from 'ipaddr.js'
import type { AccessSpec } from '../../../src/domain/access-spec.ts'
import type { IamRequest } from '../../../src/policy/prove/evaluate.ts'
import type { Draw } from './seeded.ts'

/**
 * Requests near what was asked for, drawn without the prover's own values: what it proves has to hold for these, too.
 */
const actions = [
  ...['GetObject', 'GetObject', 'GetObject', 'PutObject', 'PutObject', 'ListBucket', 'ListBucket', 'ListBucket', 'GetBucketLocation', 'DeleteObject',
    'PutObjectAcl', 'AbortMultipartUpload', 'ListMultipartUploadParts', 'GetObjectVersion', 'GetObjectAcl', 'DeleteObjectVersion', 'PutBucketPolicy',
    'DeleteBucket', 'ListBucketVersions', 'ListBucketMultipartUploads', 'BypassGovernanceRetention', 'PutObjectTagging', 'GetObjectTagging', 'GetObjectVersionTagging', 'GetBucketVersioning', 'GetObjectAttributes',
    'RestoreObject'].map(name => `s3:${name}`),
  'kms:Decrypt', 'kms:GenerateDataKey', 'kms:Encrypt', 'kms:CreateGrant', 's3:ListAllMyBuckets', 'iam:CreateAccessKey'
]
const bucketActions = /Bucket/

const nearText = (draw: Draw, text: string): string => draw.of([
  text, text, text, `${text}a`, `${text}/`, text.slice(0, -1), `${text.slice(0, -1)}x`, `${text.slice(0, -1)}x/`, `a${text}`, text.toUpperCase(),
  text.slice(0, draw.below(text.length + 1)), text.normalize('NFD'), encodeURIComponent(text), text.replaceAll('+', ' '), `${text}${String.fromCodePoint(32 + draw.below(2000))}`
])

const address = (draw: Draw, cidrs: string[]): string => {
  if (cidrs.length === 0 || draw.chance(0.3)) {
    return draw.of(['203.0.113.41', '203.0.113.42', '10.0.12.255', '10.0.13.0', '8.8.8.8', '2001:db8:1::', '2001:db8:2::', '::1', '::ffff:203.0.113.42'])
  }
  const [network, bits] = ipaddr.parseCIDR(draw.of(cidrs))
  const bytes = network.toByteArray()
  // Any address of the block, then perhaps one step over its edge.
  for (let bit = bits; bit < bytes.length * 8; bit++) if (draw.chance(0.5)) bytes[bit >> 3]! |= 128 >> (bit & 7)
  if (bits > 0 && draw.chance(0.3)) bytes[bits - 1 >> 3]! ^= 128 >> (bits - 1 & 7)
  return ipaddr.fromByteArray(bytes).toString()
}

const instant = (draw: Draw, { window }: AccessSpec): string => {
  const start = Date.parse(window.notBefore)
  const at = draw.chance(0.6)
    ? Date.parse(draw.of([window.notBefore, window.notAfter, window.outputNotAfter])) + draw.of([-1000, -1, 0, 1, 1000])
    : start + Math.floor((draw.number() * 3 - 1) * (Date.parse(window.outputNotAfter) - start))
  return draw.chance(0.2) ? String(at / 1000) : new Date(at).toISOString()
}

export const randomRequest = (draw: Draw, spec: AccessSpec): IamRequest => {
  const { source } = spec
  const entry = draw.of(spec.entries)
  const action = draw.of(actions)
  const bucket = draw.chance(0.85) ? entry.bucket : nearText(draw, entry.bucket).replaceAll('/', '-')
  const bucketArn = `arn:${draw.chance(0.95) ? spec.partition : 'aws'}:s3:::${bucket}`
  const key = draw.chance(0.5) ? `${entry.prefix}${draw.of(['a', 'a/b', '', 'état', '*'])}` : nearText(draw, entry.prefix)
  const keyArn = draw.of([...entry.kmsKeyArns, ...spec.entries.flatMap(({ kmsKeyArns }) => kmsKeyArns), 'arn:aws:kms:eu-west-1:111122223333:key/another'])
  const resource = action.startsWith('s3:')
    ? action === 's3:ListAllMyBuckets' ? '*' : bucketActions.test(action) ? bucketArn : `${bucketArn}/${key}`
    : action.startsWith('kms:') ? keyArn : '*'
  const context: IamRequest['context'] = { 'aws:CurrentTime': instant(draw, spec) }
  // Addresses of both alternatives under both keys: an allowed one under the wrong key is the likeliest mistake.
  const either = source.kind === 'either'
  const cidrs = either ? [...source.ip.cidrs, ...source.vpc.cidrs] : source.kind === 'any' ? [] : source.cidrs
  const { vpcIds, vpcArns = [], vpcEndpointIds } = either ? source.vpc : source.kind === 'vpc' ? source : { vpcIds: [], vpcEndpointIds: [] }
  if (draw.chance(0.8)) context['aws:SourceIp'] = address(draw, cidrs)
  if (draw.chance(0.8)) context['aws:VpcSourceIp'] = address(draw, cidrs)
  if (draw.chance(0.8)) context['aws:SourceVpc'] = nearText(draw, draw.of([...vpcIds, 'vpc-0000000a']))
  if (draw.chance(0.8)) {
    const arn = draw.of([...vpcArns, 'arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0000000a'])
    context['aws:SourceVpcArn'] = draw.chance(0.2) ? arn.replace('eu-west-1', 'us-east-1') : nearText(draw, arn)
  }
  if (draw.chance(0.8)) context['aws:SourceVpce'] = nearText(draw, draw.of([...vpcEndpointIds, 'vpce-0000000a']))
  if (draw.chance(0.8)) context['s3:prefix'] = draw.chance(0.5) ? `${entry.prefix}${draw.of(['', 'a', 'a/'])}` : nearText(draw, entry.prefix)
  if (draw.chance(0.5)) context['s3:x-amz-acl'] = draw.of(['private', 'bucket-owner-full-control', 'public-read', 'privat'])
  if (draw.chance(0.8)) context['kms:ViaService'] = nearText(draw, `s3.${keyArn.split(':')[3]}.amazonaws.com${spec.partition === 'aws-cn' ? '.cn' : ''}`)
  return { action, resource, context }
}
