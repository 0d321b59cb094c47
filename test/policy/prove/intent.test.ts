import t from 'tap'
import type { AccessSpec } from '../../../src/domain/access-spec.ts'
import type { IamRequest } from '../../../src/policy/prove/evaluate.ts'
import { intends } from '../../../src/policy/prove/intent.ts'
import { specOf, entry } from './examples.ts'

const start = '2025-07-16T01:00:00Z'
const end = '2025-07-16T04:00:00Z'
const outputEnd = '2025-07-16T04:10:00Z'
const inside = '2025-07-16T02:00:00Z'
const key = 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'

type Row = [expected: boolean, action: string, resource: string, changes?: IamRequest['context'] | undefined]

const ask = (t: { equal: (found: unknown, wanted: unknown, message: string) => unknown }, spec: AccessSpec, rows: Row[], context: IamRequest['context']) => {
  for (const [expected, action, resource, changes = {}] of rows) {
    const merged = Object.fromEntries(Object.entries({ ...context, ...changes }).filter(([, value]) => value !== ''))
    const arn = /^(\*|arn:)/.test(resource) ? resource : `arn:${spec.partition}:s3:::${resource}`
    t.equal(intends(spec, { action, resource: arn, context: merged }), expected, `${expected ? 'wanted' : 'unwanted'}: ${action} ${resource} ${JSON.stringify(changes)}`)
  }
}

const at = (instant: string) => ({ 'aws:CurrentTime': instant })
const here = { ...at(inside), 'aws:SourceIp': '203.0.113.42' }

t.test('read, write, read-write and their options', async t => {
  ask(t, specOf({
    layout: 'everywhere',
    entries: [
      entry({ sid: 'R', bucket: 'in', kmsKeyArns: [key] }),
      entry({ sid: 'P', bucket: 'shared', prefix: 'a/b/' }),
      entry({ sid: 'N', bucket: 'silent', list: false }),
      entry({ sid: 'W', bucket: 'out', prefix: 'run/', level: 'write', list: false }),
      entry({ sid: 'L', bucket: 'listed', level: 'write', delete: true }),
      entry({ sid: 'RW', bucket: 'both', level: 'read-write', acl: true }),
      entry({ sid: 'K', bucket: 'keyed', prefix: 'a/b.bin', exact: true }),
      entry({ sid: 'B', bucket: 'begun', prefix: 'a/train-' })
    ]
  }), [
    [true, 's3:GetObject', 'in/a'], [true, 'S3:getobject', 'in/a'], [false, 's3:GetObject', 'inx/a'], [false, 's3:GetObject', 'in'], [false, 's3:PutObject', 'in/a'],
    [false, 's3:GetObject', 'arn:aws-cn:s3:::in/a'], [false, 's3:GetObjectVersion', 'in/a'], [false, 's3:DeleteObject', 'in/a'],
    [true, 's3:GetBucketLocation', 'in'], [true, 's3:ListBucket', 'in'], [true, 's3:ListBucket', 'in', { 's3:prefix': 'anything' }], [false, 's3:ListBucketVersions', 'in'],
    [true, 's3:GetObject', 'shared/a/b/c'], [true, 's3:GetObject', 'shared/a/b/'], [false, 's3:GetObject', 'shared/a/b'], [false, 's3:GetObject', 'shared/a/bc/d'],
    [true, 's3:ListBucket', 'shared', { 's3:prefix': 'a/b/' }], [true, 's3:ListBucket', 'shared', { 's3:prefix': 'a/b/c' }], [false, 's3:ListBucket', 'shared'],
    [false, 's3:ListBucket', 'shared', { 's3:prefix': 'a/b' }], [true, 's3:GetBucketLocation', 'shared'],
    [true, 's3:GetObject', 'silent/a'], [false, 's3:ListBucket', 'silent'],
    [true, 's3:PutObject', 'out/run/a'], [true, 's3:AbortMultipartUpload', 'out/run/a'], [true, 's3:ListMultipartUploadParts', 'out/run/a'],
    [false, 's3:GetObject', 'out/run/a'], [false, 's3:ListBucket', 'out'], [false, 's3:PutObject', 'out/run2/a'], [false, 's3:PutObjectAcl', 'out/run/a'],
    [true, 's3:GetBucketLocation', 'out'], [false, 's3:ListBucketMultipartUploads', 'out'],
    [true, 's3:ListBucket', 'listed'], [true, 's3:DeleteObject', 'listed/a'], [false, 's3:DeleteObjectVersion', 'listed/a'], [false, 's3:GetObject', 'listed/a'],
    [true, 's3:GetObject', 'both/a'], [true, 's3:PutObject', 'both/a'], [true, 's3:PutObjectAcl', 'both/a'], [false, 's3:DeleteObject', 'both/a'],
    [true, 's3:GetObject', 'keyed/a/b.bin'], [false, 's3:GetObject', 'keyed/a/b.binx'], [false, 's3:GetObject', 'keyed/a/b.bin/x'], [false, 's3:GetObject', 'keyed/a/b.bi'],
    [true, 's3:ListBucket', 'keyed', { 's3:prefix': 'a/b.bin' }], [false, 's3:ListBucket', 'keyed', { 's3:prefix': 'a/b.bin/' }], [false, 's3:ListBucket', 'keyed'],
    [true, 's3:GetObject', 'begun/a/train-1'], [true, 's3:GetObject', 'begun/a/train-/1'], [false, 's3:GetObject', 'begun/a/train'], [false, 's3:GetObject', 'begun/a/'],
    [true, 's3:ListBucket', 'begun', { 's3:prefix': 'a/train-0' }], [false, 's3:ListBucket', 'begun', { 's3:prefix': 'a/' }],
    [false, 's3:ListAllMyBuckets', '*'], [false, 'iam:CreateAccessKey', '*']
  ], here)
})

t.test('windows: start inclusive, ends exclusive, writing ends after the grace', async t => {
  ask(t, specOf({ layout: 'everywhere', entries: [entry({ sid: 'R', bucket: 'in' }), entry({ sid: 'RW', bucket: 'out', level: 'read-write' })] }), [
    [false, 's3:GetObject', 'in/a', at('2025-07-16T00:59:59Z')], [true, 's3:GetObject', 'in/a', at(start)], [false, 's3:GetObject', 'in/a', at(end)],
    [true, 's3:GetObject', 'in/a', at('2025-07-16T03:59:59.999Z')], [true, 's3:GetObject', 'in/a', at('1752631200')], [false, 's3:GetObject', 'in/a', at('soon')],
    [false, 's3:GetObject', 'in/a', at('')], [true, 's3:PutObject', 'out/a', at(end)], [true, 's3:GetObject', 'out/a', at(end)], [true, 's3:ListBucket', 'out', at(end)],
    [true, 's3:PutObject', 'out/a', at('2025-07-16T04:09:59Z')], [false, 's3:PutObject', 'out/a', at(outputEnd)], [false, 's3:ListBucket', 'in', at(end)]
  ], here)
})

t.test('sources', async t => {
  const entries = [entry({ sid: 'R', bucket: 'in' })]
  const from = (name: string) => (value: string) => ({ [name]: value })
  const [ip, privateIp, vpc, vpce] = [from('aws:SourceIp'), from('aws:VpcSourceIp'), from('aws:SourceVpc'), from('aws:SourceVpce')] as const
  const arn = from('aws:SourceVpcArn')
  ask(t, specOf({ layout: 'everywhere', entries, source: { kind: 'ip', cidrs: ['203.0.113.0/28', '2001:db8::/48'] } }), [
    [true, 's3:GetObject', 'in/a', ip('203.0.113.0')], [true, 's3:GetObject', 'in/a', ip('203.0.113.15')], [false, 's3:GetObject', 'in/a', ip('203.0.113.16')],
    [false, 's3:GetObject', 'in/a', ip('203.0.112.255')], [true, 's3:GetObject', 'in/a', ip('2001:db8:0:ffff::1')], [false, 's3:GetObject', 'in/a', ip('2001:db8:1::')],
    [false, 's3:GetObject', 'in/a', ip('::ffff:203.0.113.1')], [false, 's3:GetObject', 'in/a', ip('')], [false, 's3:GetObject', 'in/a', ip('elsewhere')],
    [false, 's3:GetObject', 'in/a', { ...ip(''), ...privateIp('203.0.113.1') }]
  ], here)
  const vpcHere = { ...at(inside), ...vpc('vpc-1'), ...vpce('vpce-2'), ...privateIp('10.0.0.9') }
  ask(t, specOf({ layout: 'everywhere', entries, source: { kind: 'vpc', vpcIds: ['vpc-1'], vpcEndpointIds: ['vpce-1', 'vpce-2'], cidrs: ['10.0.0.0/24'] } }), [
    [true, 's3:GetObject', 'in/a'], [false, 's3:GetObject', 'in/a', vpc('vpc-2')], [false, 's3:GetObject', 'in/a', vpc('')], [false, 's3:GetObject', 'in/a', vpce('vpce-3')],
    [false, 's3:GetObject', 'in/a', vpce('')], [false, 's3:GetObject', 'in/a', privateIp('10.0.1.0')], [false, 's3:GetObject', 'in/a', privateIp('')]
  ], vpcHere)
  ask(t, specOf({ layout: 'everywhere', entries, source: { kind: 'vpc', vpcIds: [], vpcEndpointIds: ['vpce-2'], cidrs: [] } }), [
    [true, 's3:GetObject', 'in/a', { ...vpc('vpc-9'), ...privateIp('') }], [false, 's3:GetObject', 'in/a', vpce('vpce-1')]
  ], vpcHere)
  const inVpc = { ...ip(''), ...vpcHere }
  ask(t, specOf({
    layout: 'everywhere',
    entries,
    source: {
      kind: 'either',
      ip: { kind: 'ip', cidrs: ['203.0.113.0/28'] },
      vpc: { kind: 'vpc', vpcIds: ['vpc-1'], vpcArns: ['arn:aws:ec2:r:1:vpc/vpc-1'], vpcEndpointIds: [], cidrs: ['10.0.0.0/24'] }
    }
  }), [
    [true, 's3:GetObject', 'in/a', { ...inVpc, ...arn('arn:aws:ec2:r:1:vpc/vpc-1') }], [false, 's3:GetObject', 'in/a', inVpc],
    [false, 's3:GetObject', 'in/a', { ...inVpc, ...arn('arn:aws:ec2:r:2:vpc/vpc-1') }],
    [false, 's3:GetObject', 'in/a', { ...inVpc, ...arn('arn:aws:ec2:r:1:vpc/vpc-1'), ...vpc('vpc-2') }],
    [false, 's3:GetObject', 'in/a', { ...inVpc, ...arn('arn:aws:ec2:r:1:vpc/vpc-1'), ...privateIp('203.0.113.1') }],
    [true, 's3:GetObject', 'in/a', { ...here, ...ip('203.0.113.1') }], [false, 's3:GetObject', 'in/a', { ...here, ...ip('10.0.0.9') }],
    [false, 's3:GetObject', 'in/a', ip('')],
    // AWS never sends both; each alternative is enough.
    [true, 's3:GetObject', 'in/a', { ...inVpc, ...ip('203.0.113.1'), ...vpc('vpc-2') }]
  ], at(inside))
  ask(t, specOf({ layout: 'everywhere', entries, source: { kind: 'any' } }), [[true, 's3:GetObject', 'in/a', ip('')], [false, 's3:GetObject', 'in/a', at(end)]], here)
})

t.test('KMS keys: only through S3 in their region, in the entry’s window, whatever the source', async t => {
  const writeKey = key.replace('eu-west-1', 'us-east-1')
  const via = (service: string) => ({ 'kms:ViaService': service })
  const s3 = via('s3.eu-west-1.amazonaws.com')
  ask(t, specOf({
    layout: 'everywhere',
    entries: [entry({ sid: 'R', bucket: 'in', kmsKeyArns: [key] }), entry({ sid: 'W', bucket: 'out', level: 'write', kmsKeyArns: [writeKey] })]
  }), [
    [true, 'kms:Decrypt', key, s3], [true, 'kms:Decrypt', key, { ...s3, 'aws:SourceIp': '' }], [false, 'kms:GenerateDataKey', key, s3], [false, 'kms:Decrypt', key],
    [false, 'kms:Decrypt', key, via('s3.us-east-1.amazonaws.com')], [false, 'kms:Decrypt', key, via('ec2.eu-west-1.amazonaws.com')], [false, 'kms:Decrypt', key, { ...s3, ...at(end) }],
    [false, 'kms:Decrypt', `${key}0`, s3], [false, 'kms:Encrypt', key, s3], [false, 'kms:CreateGrant', key, s3],
    [true, 'kms:GenerateDataKey', writeKey, { ...via('s3.us-east-1.amazonaws.com'), ...at(end) }], [true, 'kms:Decrypt', writeKey, via('s3.us-east-1.amazonaws.com')],
    [false, 'kms:Decrypt', key, via('s3.eu-west-1.amazonaws.com.cn')], [false, 's3:GetObject', key, s3]
  ], here)
  const chinese = 'arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
  ask(t, specOf({ layout: 'guarded', partition: 'aws-cn', entries: [entry({ sid: 'R', bucket: 'in', kmsKeyArns: [chinese] })] }), [
    [true, 'kms:Decrypt', chinese, via('s3.cn-north-1.amazonaws.com.cn')], [false, 'kms:Decrypt', chinese, via('s3.cn-north-1.amazonaws.com')]
  ], here)
})

t.test('the guide: reads always, writes strict at both ends, no location', async t => {
  const entries = [entry({ sid: 'R', bucket: 'in' }), entry({ sid: 'W', bucket: 'out', level: 'write', list: false, delete: true })]
  ask(t, specOf({ layout: 'guide', entries, window: { notBefore: start, notAfter: end, outputNotAfter: end } }), [
    [true, 's3:GetObject', 'in/a', { ...at('2031-01-01T00:00:00Z'), 'aws:SourceIp': '8.8.8.8' }], [true, 's3:ListBucket', 'in', { 'aws:SourceIp': '' }],
    [false, 's3:GetBucketLocation', 'in'], [false, 's3:GetBucketLocation', 'out'], [false, 's3:PutObject', 'in/a'],
    [true, 's3:GetObject', 'out/a'], [true, 's3:ListBucket', 'out'], [true, 's3:PutObject', 'out/a'], [true, 's3:PutObjectAcl', 'out/a'],
    [true, 's3:AbortMultipartUpload', 'out/a'], [true, 's3:ListMultipartUploadParts', 'out/a'], [true, 's3:DeleteObject', 'out/a'],
    [false, 's3:CompleteMultipartUpload', 'out/a'], [false, 's3:PutObject', 'out/a', at(start)], [true, 's3:PutObject', 'out/a', at('2025-07-16T01:00:01Z')],
    [false, 's3:PutObject', 'out/a', at(end)], [false, 's3:GetObject', 'out/a', { 'aws:SourceIp': '8.8.8.8' }]
  ], here)
})

t.test('context keys ignore case, and a key with several values counts as missing', async t => {
  const spec = specOf({ layout: 'everywhere', entries: [entry({ sid: 'R', bucket: 'in' })] })
  const request = (context: IamRequest['context']): IamRequest => ({ action: 's3:GetObject', resource: 'arn:aws:s3:::in/a', context })
  t.ok(intends(spec, request({ 'AWS:currenttime': [inside], 'aws:sourceip': '203.0.113.42' })))
  t.notOk(intends(spec, request({ 'AWS:currenttime': inside, 'aws:sourceip': ['203.0.113.42', '8.8.8.8'] })))
})
