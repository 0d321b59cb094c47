import type { AccessSpec, Entry } from '../../../src/domain/access-spec.ts'
import type { ConditionBlock, PolicyDocument, Statement } from '../../../src/domain/policy-document.ts'

/** Requests and the policies that say the same, written by hand: the prover is tested without the renderer. */
export interface Example { name: string, spec: AccessSpec, policy: PolicyDocument }

export const entry = (changes: Partial<Entry> & Pick<Entry, 'sid' | 'bucket'>): Entry =>
  ({ pointer: `/${changes.sid}`, prefix: '', level: 'read', list: true, acl: false, delete: false, kmsKeyArns: [], ...changes })

export const specOf = (changes: Partial<AccessSpec> & Pick<AccessSpec, 'layout' | 'entries'>): AccessSpec => ({
  partition: 'aws',
  job: { id: 'wiki-finetune-42', team: 'nlp', labels: {} },
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputNotAfter: '2025-07-16T04:10:00Z' },
  source: { kind: 'ip', cidrs: ['203.0.113.42/32'] },
  attach: 'auto',
  ...changes
})

const policyOf = (...Statement: Statement[]): PolicyDocument => ({ Version: '2012-10-17', Statement })

const arns = (bucket: string, prefix = '', partition = 'aws') => [`arn:${partition}:s3:::${bucket}`, `arn:${partition}:s3:::${bucket}/${prefix}*`]

const allow = (Sid: string, Action: string[], Resource: string[], Condition?: ConditionBlock): Statement =>
  ({ Sid, Effect: 'Allow', Action, Resource, ...(Condition && { Condition }) })

const deny = (Sid: string, Condition: ConditionBlock, changes: Partial<Statement> = { Resource: '*' }): Statement =>
  ({ Sid, Effect: 'Deny', Action: 's3:*', ...changes, Condition })

const at = (instant: string) => ({ 'aws:CurrentTime': instant })
const during = (end: string): ConditionBlock => ({ DateGreaterThanEquals: at('2025-07-16T01:00:00Z'), DateLessThan: at(end) })
const untilEnd = during('2025-07-16T04:00:00Z')
const untilOutputEnd = during('2025-07-16T04:10:00Z')

const read = ['s3:GetObject', 's3:GetBucketLocation', 's3:ListBucket']
const write = ['s3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts']

const guide: Example = {
  name: 'the guide',
  spec: specOf({
    layout: 'guide',
    entries: [
      entry({ sid: 'WikipediaReadOnly', bucket: 'acmeco-training-datasets-wikipedia-2025-07-01' }),
      entry({ sid: 'BaseModelsReadOnly', bucket: 'acmeco-base-models' }),
      entry({ sid: 'FinetunedModelsWrite', bucket: 'acmeco-finetuned-models', level: 'write', acl: true })
    ],
    window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputNotAfter: '2025-07-16T04:00:00Z' }
  }),
  policy: policyOf(
    allow('WikipediaReadOnly', ['s3:GetObject', 's3:ListBucket'], arns('acmeco-training-datasets-wikipedia-2025-07-01')),
    allow('BaseModelsReadOnly', ['s3:GetObject', 's3:ListBucket'], arns('acmeco-base-models')),
    allow('FinetunedModelsWrite', [
      's3:GetObject', 's3:ListBucket', 's3:PutObject', 's3:PutObjectAcl', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts',
      's3:CompleteMultipartUpload'
    ], arns('acmeco-finetuned-models'), {
      DateGreaterThan: at('2025-07-16T01:00:00Z'),
      DateLessThan: at('2025-07-16T04:00:00Z'),
      IpAddress: { 'aws:SourceIp': '203.0.113.42/32' }
    }))
}

const key = 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
const outKey = 'arn:aws:kms:us-east-2:111122223333:key/mrk-0123456789abcdef0123456789abcdef'
const from: ConditionBlock = { IpAddress: { 'aws:SourceIp': ['198.51.100.0/28', '2001:db8:1::/48'] } }
const ip: ConditionBlock = { IpAddress: { 'aws:SourceIp': '203.0.113.42/32' } }
const viaS3 = (region: string): ConditionBlock => ({ StringEquals: { 'kms:ViaService': `s3.${region}.amazonaws.com` } })
const everywhere: Example = {
  name: 'window and source on every Allow',
  spec: specOf({
    layout: 'everywhere',
    source: { kind: 'ip', cidrs: ['198.51.100.0/28', '2001:db8:1::/48'] },
    entries: [
      entry({ sid: 'Wikipedia', bucket: 'datasets', prefix: 'wikipedia/', kmsKeyArns: [key] }),
      entry({ sid: 'Models', bucket: 'base-models', list: false }),
      entry({ sid: 'Run', bucket: 'runs', prefix: 'nlp/42/', level: 'read-write', delete: true, acl: true }),
      entry({ sid: 'Out', bucket: 'datasets', prefix: 'wikipedia/tokens/', level: 'write', list: false, kmsKeyArns: [outKey] })
    ]
  }),
  policy: policyOf(
    allow('Wikipedia', ['s3:GetObject', 's3:GetBucketLocation'], arns('datasets', 'wikipedia/'), { ...untilEnd, ...from }),
    allow('WikipediaList', ['s3:ListBucket'], ['arn:aws:s3:::datasets'], { StringLike: { 's3:prefix': 'wikipedia/*' }, ...untilEnd, ...from }),
    allow('WikipediaKeys', ['kms:Decrypt'], [key], { ...viaS3('eu-west-1'), ...untilEnd }),
    allow('Models', ['s3:GetObject', 's3:GetBucketLocation'], arns('base-models'), { ...untilEnd, ...from }),
    allow('Run', ['s3:GetObject', ...write, 's3:PutObjectAcl', 's3:DeleteObject', 's3:GetBucketLocation'], arns('runs', 'nlp/42/'), { ...untilOutputEnd, ...from }),
    allow('RunList', ['s3:ListBucket'], ['arn:aws:s3:::runs'], { StringLike: { 's3:prefix': 'nlp/42/*' }, ...untilOutputEnd, ...from }),
    allow('Out', [...write, 's3:GetBucketLocation'], arns('datasets', 'wikipedia/tokens/'), { ...untilOutputEnd, ...from }),
    allow('OutKeys', ['kms:GenerateDataKey', 'kms:Decrypt'], [outKey], { ...viaS3('us-east-2'), ...untilOutputEnd }))
}

const guarded: Example = {
  name: 'window and source in Denies',
  spec: specOf({
    layout: 'guarded',
    partition: 'aws-cn',
    entries: [
      entry({ sid: 'Wikipedia', bucket: 'datasets' }),
      entry({ sid: 'Out', bucket: 'runs', prefix: '42/', level: 'write', list: true })
    ]
  }),
  policy: policyOf(
    allow('Wikipedia', read, arns('datasets', '', 'aws-cn')),
    allow('Out', [...write, 's3:GetBucketLocation'], arns('runs', '42/', 'aws-cn')),
    allow('OutList', ['s3:ListBucket'], ['arn:aws-cn:s3:::runs'], { StringLike: { 's3:prefix': '42/*' } }),
    deny('Before', { DateLessThan: at('2025-07-16T01:00:00Z') }),
    deny('ReadsAfter', { DateGreaterThanEquals: at('2025-07-16T04:00:00Z') }, { NotResource: arns('runs', '42/', 'aws-cn') }),
    deny('After', { DateGreaterThanEquals: at('2025-07-16T04:10:00Z') }),
    deny('Elsewhere', { NotIpAddress: { 'aws:SourceIp': '203.0.113.42/32' } }))
}

const shardsOf = ['a/', 'b/', 'c/']
const shared: Example = {
  name: 'entries that share statements',
  spec: specOf({
    layout: 'everywhere',
    entries: [
      ...shardsOf.map(prefix => entry({ sid: 'Shards', bucket: 'datasets', prefix, ...(prefix !== 'b/' && { kmsKeyArns: [key] }) })),
      ...['logs/', 'out/'].map(prefix => entry({ sid: 'Run', bucket: 'datasets', prefix, level: 'write', list: true })),
      entry({ sid: 'Mixed', bucket: 'base', prefix: 'llama/model.bin', exact: true }),
      entry({ sid: 'Mixed', bucket: 'base', prefix: 'shards/train-' }),
      entry({ sid: 'Key', bucket: 'base', prefix: 'vocab.json', exact: true, list: false }),
      ...['b/', 'x/'].flatMap(prefix => ['models', 'tokens'].map(bucket => entry({ sid: 'Two', bucket, prefix })))
    ]
  }),
  policy: policyOf(
    allow('Shards', ['s3:GetObject', 's3:GetBucketLocation'],
      ['arn:aws:s3:::datasets', ...shardsOf.map(prefix => `arn:aws:s3:::datasets/${prefix}*`)], { ...untilEnd, ...ip }),
    allow('ShardsList', ['s3:ListBucket'], ['arn:aws:s3:::datasets'],
      { StringLike: { 's3:prefix': ['a/*', 'b/*', 'c/*'] }, ...untilEnd, ...ip }),
    allow('ShardsKeys', ['kms:Decrypt'], [key], { ...viaS3('eu-west-1'), ...untilEnd }),
    allow('Run', [...write, 's3:GetBucketLocation'], ['arn:aws:s3:::datasets', 'arn:aws:s3:::datasets/logs/*', 'arn:aws:s3:::datasets/out/*'],
      { ...untilOutputEnd, ...ip }),
    allow('RunList', ['s3:ListBucket'], ['arn:aws:s3:::datasets'], { StringLike: { 's3:prefix': ['logs/*', 'out/*'] }, ...untilOutputEnd, ...ip }),
    allow('Mixed', ['s3:GetObject', 's3:GetBucketLocation'],
      ['arn:aws:s3:::base', 'arn:aws:s3:::base/llama/model.bin', 'arn:aws:s3:::base/shards/train-*'], { ...untilEnd, ...ip }),
    allow('MixedList', ['s3:ListBucket'], ['arn:aws:s3:::base'],
      { StringLike: { 's3:prefix': ['llama/model.bin', 'shards/train-*'] }, ...untilEnd, ...ip }),
    allow('Key', ['s3:GetObject'], ['arn:aws:s3:::base/vocab.json'], { ...untilEnd, ...ip }),
    allow('Two', ['s3:GetObject', 's3:GetBucketLocation'],
      ['models', 'tokens'].flatMap(bucket => [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/b/*`, `arn:aws:s3:::${bucket}/x/*`]),
      { ...untilEnd, ...ip }),
    allow('TwoList', ['s3:ListBucket'], ['arn:aws:s3:::models', 'arn:aws:s3:::tokens'],
      { StringLike: { 's3:prefix': ['b/*', 'x/*'] }, ...untilEnd, ...ip }))
}

const options: Example = {
  name: 'every option',
  spec: specOf({
    layout: 'guarded',
    entries: [
      entry({ sid: 'Versions', bucket: 'datasets', prefix: 'a/', versions: true, tags: true, attributes: true, restore: true, bareName: true }),
      entry({ sid: 'Names', bucket: 'base', prefix: 'b/', list: true, listNames: true, versions: true }),
      entry({ sid: 'Out', bucket: 'runs', prefix: '42/', level: 'write', list: false, tags: true, uploads: true, cannedAcl: 'private' })
    ],
    window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputNotAfter: '2025-07-16T04:00:00Z' }
  }),
  policy: policyOf(
    allow('Versions', [
      's3:GetObject', 's3:GetObjectVersion', 's3:GetObjectTagging', 's3:GetObjectVersionTagging', 's3:GetObjectAttributes',
      's3:GetObjectVersionAttributes', 's3:RestoreObject', 's3:GetBucketLocation', 's3:GetBucketVersioning'
    ], ['arn:aws:s3:::datasets', 'arn:aws:s3:::datasets/a', 'arn:aws:s3:::datasets/a/*']),
    allow('VersionsList', ['s3:ListBucket', 's3:ListBucketVersions'], ['arn:aws:s3:::datasets'], { StringLike: { 's3:prefix': ['a', 'a/*'] } }),
    allow('Names', ['s3:GetObject', 's3:GetObjectVersion', 's3:GetBucketLocation', 's3:GetBucketVersioning'], arns('base', 'b/')),
    allow('NamesNames', ['s3:ListBucket', 's3:ListBucketVersions'], ['arn:aws:s3:::base']),
    allow('Out', [...write, 's3:PutObjectTagging', 's3:GetBucketLocation'], arns('runs', '42/')),
    allow('OutNames', ['s3:ListBucketMultipartUploads'], ['arn:aws:s3:::runs']),
    allow('OutAcl', ['s3:PutObjectAcl'], ['arn:aws:s3:::runs/42/*'], { StringLike: { 's3:x-amz-acl': 'private' } }),
    deny('Before', { DateLessThan: at('2025-07-16T01:00:00Z') }),
    deny('After', { DateGreaterThanEquals: at('2025-07-16T04:00:00Z') }),
    deny('Elsewhere', { NotIpAddress: { 'aws:SourceIp': '203.0.113.42/32' } }))
}

const vpcIds = ['vpc-0123456789abcdef0']
const vpcEndpointIds = ['vpce-0123456789abcdef0', 'vpce-0123456789abcdef1']
const vpcSource: AccessSpec['source'] = { kind: 'vpc', vpcIds, vpcEndpointIds, cidrs: ['10.0.12.0/24'] }
const vpcEverywhere: Example = {
  name: 'a VPC on every Allow',
  spec: specOf({
    layout: 'everywhere', source: vpcSource, entries: [entry({ sid: 'Wikipedia', bucket: 'datasets' })]
  }),
  policy: policyOf(allow('Wikipedia', read, arns('datasets'), {
    ...untilEnd,
    StringEquals: { 'aws:SourceVpc': vpcIds, 'aws:SourceVpce': vpcEndpointIds },
    IpAddress: { 'aws:VpcSourceIp': '10.0.12.0/24' }
  }))
}

const vpcGuarded: Example = {
  name: 'a VPC in Denies',
  spec: specOf({
    layout: 'guarded', source: vpcSource, entries: [entry({ sid: 'Wikipedia', bucket: 'datasets' })]
  }),
  policy: policyOf(
    allow('Wikipedia', read, arns('datasets')),
    deny('Before', { DateLessThan: at('2025-07-16T01:00:00Z') }),
    deny('After', { DateGreaterThanEquals: at('2025-07-16T04:00:00Z') }),
    deny('OtherVpcs', { StringNotEquals: { 'aws:SourceVpc': vpcIds } }),
    deny('OtherEndpoints', { StringNotEquals: { 'aws:SourceVpce': vpcEndpointIds } }),
    deny('Elsewhere', { NotIpAddress: { 'aws:VpcSourceIp': '10.0.12.0/24' } }))
}

const anywhere: Example = {
  name: 'any source',
  spec: specOf({
    layout: 'everywhere', source: { kind: 'any' }, entries: [entry({ sid: 'Wikipedia', bucket: 'datasets', list: false })]
  }),
  policy: policyOf(allow('Wikipedia', ['s3:GetObject', 's3:GetBucketLocation'], arns('datasets'), untilEnd))
}

const vpcArns = ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef0', 'arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef1']
const either: AccessSpec['source'] = {
  kind: 'either',
  ip: { kind: 'ip', cidrs: ['203.0.113.42/32'] },
  vpc: { kind: 'vpc', vpcIds: [], vpcArns, vpcEndpointIds: ['vpce-0123456789abcdef0'], cidrs: ['10.0.12.0/24'] }
}
const throughVpc: ConditionBlock = {
  StringEquals: { 'aws:SourceVpce': 'vpce-0123456789abcdef0' },
  ArnEquals: { 'aws:SourceVpcArn': vpcArns },
  IpAddress: { 'aws:VpcSourceIp': '10.0.12.0/24' }
}
const eitherEverywhere: Example = {
  name: 'two alternatives on Allows',
  spec: specOf({
    layout: 'everywhere',
    source: either,
    entries: [
      entry({ sid: 'Wikipedia', bucket: 'datasets' }),
      entry({ sid: 'Out', bucket: 'runs', prefix: '42/', level: 'write', list: true, kmsKeyArns: [key] })
    ]
  }),
  policy: policyOf(
    allow('Wikipedia', read, arns('datasets'), { ...untilEnd, IpAddress: { 'aws:SourceIp': '203.0.113.42/32' } }),
    allow('WikipediaVpc', read, arns('datasets'), { ...untilEnd, ...throughVpc }),
    allow('Out', [...write, 's3:GetBucketLocation'], arns('runs', '42/'), { ...untilOutputEnd, IpAddress: { 'aws:SourceIp': '203.0.113.42/32' } }),
    allow('OutList', ['s3:ListBucket'], ['arn:aws:s3:::runs'],
      { StringLike: { 's3:prefix': '42/*' }, ...untilOutputEnd, IpAddress: { 'aws:SourceIp': '203.0.113.42/32' } }),
    allow('OutVpc', [...write, 's3:GetBucketLocation'], arns('runs', '42/'), { ...untilOutputEnd, ...throughVpc }),
    allow('OutListVpc', ['s3:ListBucket'], ['arn:aws:s3:::runs'], { StringLike: { 's3:prefix': '42/*' }, ...untilOutputEnd, ...throughVpc }),
    allow('OutKeys', ['kms:GenerateDataKey', 'kms:Decrypt'], [key], { ...viaS3('eu-west-1'), ...untilOutputEnd }))
}

const eitherGuarded: Example = {
  name: 'two alternatives in Denies',
  spec: specOf({ layout: 'guarded', source: either, entries: [entry({ sid: 'Wikipedia', bucket: 'datasets' })] }),
  policy: policyOf(
    allow('Wikipedia', read, arns('datasets')),
    deny('Before', { DateLessThan: at('2025-07-16T01:00:00Z') }),
    deny('After', { DateGreaterThanEquals: at('2025-07-16T04:00:00Z') }),
    deny('OtherVpcs', { NotIpAddress: { 'aws:SourceIp': '203.0.113.42/32' }, ArnNotEquals: { 'aws:SourceVpcArn': vpcArns } }),
    deny('OtherEndpoints', {
      NotIpAddress: { 'aws:SourceIp': '203.0.113.42/32' }, StringNotEquals: { 'aws:SourceVpce': 'vpce-0123456789abcdef0' }
    }),
    deny('Elsewhere', { NotIpAddress: { 'aws:SourceIp': '203.0.113.42/32', 'aws:VpcSourceIp': '10.0.12.0/24' } }))
}

export const examples: Example[] = [
  guide, everywhere, guarded, shared, options, vpcEverywhere, vpcGuarded, anywhere, eitherEverywhere, eitherGuarded
]
