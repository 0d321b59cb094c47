import t from 'tap'
import { QuestionError, check, type Question } from '../../../src/policy/prove/check.ts'
import { UnknownElementError } from '../../../src/policy/prove/wildcard.ts'
import { examples } from './examples.ts'

const policyOf = (name: string) => {
  const example = examples.find(each => each.name === name)
  if (example === undefined) throw new Error(name)
  return example.policy
}
const guide = policyOf('the guide')
const guarded = policyOf('window and source in Denies')
const vpc = policyOf('a VPC on every Allow')

const key1 = 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'
const key2 = 'arn:aws:kms:us-east-2:111122223333:key/mrk-0123456789abcdef0123456789abcdef'
const at = new Date('2025-07-16T02:00:00Z')
const write: Question = { action: 's3:PutObject', bucket: 'acmeco-finetuned-models', key: 'model.bin', sourceIp: '203.0.113.42', at }

t.test('allowed, and by which statement', async t => {
  t.same(check(guide, write), {
    allowed: true,
    decision: 'allow',
    statements: [{ sid: 'FinetunedModelsWrite', effect: 'Allow' }],
    because: 'FinetunedModelsWrite allows s3:PutObject on arn:aws:s3:::acmeco-finetuned-models/model.bin.'
  })
})

t.test('denied, and why', async t => {
  const noSids = { ...guide, Statement: guide.Statement.map(({ Sid, ...statement }) => statement) }
  const table: [string, () => ReturnType<typeof check>, string][] = [
    ['another address', () => check(guide, { ...write, sourceIp: '203.0.113.43' }),
      'FinetunedModelsWrite would allow it, but for IpAddress aws:SourceIp 203.0.113.42/32 (the request has 203.0.113.43).'],
    ['no address, and over', () => { const { sourceIp, ...rest } = write; return check(guide, { ...rest, at: new Date('2025-07-16T04:00:00Z') }) },
      'FinetunedModelsWrite would allow it, but for DateLessThan aws:CurrentTime 2025-07-16T04:00:00Z (the request has 2025-07-16T04:00:00.000Z) and ' +
      'IpAddress aws:SourceIp 203.0.113.42/32 (the request has none).'],
    ['another bucket', () => check(guide, { ...write, bucket: 'acmeco-base-models' }),
      'FinetunedModelsWrite allows s3:PutObject, but not on arn:aws:s3:::acmeco-base-models/model.bin.'],
    ['another action', () => check(guide, { ...write, action: 's3:DeleteObject' }), 'No statement allows s3:DeleteObject.'],
    ['without Sids', () => check(noSids, { ...write, bucket: 'other' }), '#3 allows s3:PutObject, but not on arn:aws:s3:::other/model.bin.'],
    ['no object', () => check(guide, { action: 's3:ListAllMyBuckets', bucket: 'x', at }), 'No statement allows s3:ListAllMyBuckets.'],
    ['listing without the prefix', () => check(guarded, { action: 's3:ListBucket', bucket: 'runs', sourceIp: '203.0.113.42', at }),
      'OutList would allow it, but for StringLike s3:prefix 42/* (the request has none).']
  ]
  for (const [name, ask, because] of table) t.same(ask(), { allowed: false, decision: 'implicit-deny', statements: [], because }, name)
})

t.test('an explicit Deny is named; the partition is the policy’s', async t => {
  t.same(check(guarded, { action: 's3:PutObject', bucket: 'runs', key: '42/a', sourceIp: '198.51.100.7', at: new Date('2025-07-16T05:00:00Z') }), {
    allowed: false,
    decision: 'explicit-deny',
    statements: [{ sid: 'After', effect: 'Deny' }, { sid: 'Elsewhere', effect: 'Deny' }],
    because: 'After and Elsewhere forbid s3:PutObject on arn:aws-cn:s3:::runs/42/a, whatever else allows it: DateGreaterThanEquals aws:CurrentTime ' +
      '2025-07-16T04:10:00Z (the request has 2025-07-16T05:00:00.000Z) and NotIpAddress aws:SourceIp 203.0.113.42/32 (the request has 198.51.100.7).'
  })
  t.match(check(guarded, { action: 's3:ListBucket', bucket: 'runs', prefix: '42/x', sourceIp: '203.0.113.42', at }), { allowed: true, statements: [{ sid: 'OutList' }] })
})

t.test('through a VPC endpoint', async t => {
  const read: Question = { action: 's3:GetObject', bucket: 'datasets', key: 'a', vpcId: 'vpc-0123456789abcdef0', vpcEndpointId: 'vpce-0123456789abcdef1', vpcSourceIp: '10.0.12.7', at }
  t.equal(check(vpc, read).allowed, true)
  for (const change of [{ vpcId: 'vpc-1' }, { vpcEndpointId: 'vpce-1' }, { vpcSourceIp: '10.0.13.7' }]) t.equal(check(vpc, { ...read, ...change }).allowed, false)
})

t.test('two alternatives: either is enough, and a part of one does not help the other', async t => {
  const read: Question = { action: 's3:GetObject', bucket: 'datasets', key: 'a', at }
  const vpcArn = 'arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef1'
  const endpoint = { vpcArn, vpcEndpointId: 'vpce-0123456789abcdef0', vpcSourceIp: '10.0.12.7' }
  for (const policy of [policyOf('two alternatives on Allows'), policyOf('two alternatives in Denies')]) {
    const allowed = (from: Partial<Question>) => check(policy, { ...read, ...from }).allowed
    t.ok(allowed({ sourceIp: '203.0.113.42' }))
    t.ok(allowed(endpoint))
    t.notOk(allowed({}))
    t.notOk(allowed({ sourceIp: '203.0.113.43' }))
    t.notOk(allowed({ sourceIp: '10.0.12.7' }))
    t.notOk(allowed({ ...endpoint, vpcSourceIp: '203.0.113.42' }))
    t.notOk(allowed({ ...endpoint, vpcEndpointId: 'vpce-0bad0bad0bad0bad0' }))
    t.notOk(allowed({ ...endpoint, vpcArn: vpcArn.replace('1111', '2222') }))
    const { vpcArn: _, ...unnamed } = endpoint
    t.notOk(allowed(unnamed))
  }
})

t.test('an operation: every action that it needs', async t => {
  const here = { sourceIp: '203.0.113.42', at }
  const options = policyOf('every option')
  const everywhere = policyOf('window and source on every Allow')
  const from = { sourceIp: '198.51.100.1', at }
  const table: [string, ReturnType<typeof check>, boolean, string[] | undefined][] = [
    ['HeadObject', check(options, { action: 'HeadObject', bucket: 'datasets', key: 'a/x', ...here }), true, undefined],
    ['getobject', check(options, { action: 'getobject', bucket: 'datasets', key: 'a/x', ...here }), true, undefined],
    ['HeadBucket under a prefix', check(options, { action: 's3:HeadBucket', bucket: 'datasets', ...here }), false, undefined],
    ['HeadBucket where names are listed', check(options, { action: 's3:HeadBucket', bucket: 'base', ...here }), true, undefined],
    ['ListObjectsV2', check(options, { action: 'ListObjectsV2', bucket: 'datasets', prefix: 'a/', ...here }), true, undefined],
    ['CompleteMultipartUpload', check(options, { action: 's3:CompleteMultipartUpload', bucket: 'runs', key: '42/x', ...here }), true, undefined],
    ['CopyObject', check(options, { action: 'CopyObject', bucket: 'runs', key: '42/x', copySource: 'datasets/a/x', ...here }), true,
      ['s3:GetObject', 's3:PutObject']],
    ['CopyObject of another object', check(options, { action: 'CopyObject', bucket: 'runs', key: '42/x', copySource: 'datasets/b/x', ...here }), false,
      ['s3:GetObject', 's3:PutObject']],
    ['with its ACL', check(options, { action: 's3:PutObject', bucket: 'runs', key: '42/x', acl: 'private', ...here }), true, ['s3:PutObject', 's3:PutObjectAcl']],
    ['with another ACL', check(options, { action: 's3:PutObject', bucket: 'runs', key: '42/x', acl: 'public-read', ...here }), false,
      ['s3:PutObject', 's3:PutObjectAcl']],
    ['GetObject and its key', check(everywhere, { action: 's3:GetObject', bucket: 'datasets', key: 'wikipedia/a', kmsKeyArn: key1, ...from }), true,
      ['s3:GetObject', 'kms:Decrypt']],
    ['GetObject and another key', check(everywhere, { action: 's3:GetObject', bucket: 'datasets', key: 'wikipedia/a', kmsKeyArn: `${key1}0`, ...from }), false,
      ['s3:GetObject', 'kms:Decrypt']],
    ['a part', check(everywhere, { action: 'UploadPart', bucket: 'datasets', key: 'wikipedia/tokens/a', kmsKeyArn: key2, ...from }), true,
      ['s3:PutObject', 'kms:GenerateDataKey', 'kms:Decrypt']],
    ['kms:Decrypt', check(everywhere, { action: 'kms:Decrypt', bucket: 'datasets', kmsKeyArn: key1, ...from }), true, undefined]
  ]
  for (const [name, verdict, allowed, needs] of table) {
    t.equal(verdict.allowed, allowed, `${name}: ${verdict.because}`)
    t.strictSame(verdict.needs?.map(({ action }) => action), needs, name)
    t.equal(verdict.decision === 'allow', allowed, name)
  }
})

t.test('a question that is not about a request to S3 is refused, with its field', async t => {
  const { key, ...noKey } = write
  const table: [string, Question, RegExp][] = [
    ['action', { ...write, action: 's3:constructor' }, /neither an IAM action nor/],
    ['action', { ...write, action: 's3:Nothing' }, /neither an IAM action nor .* here\. Give an action such as/],
    ['copySource', { ...write, action: 's3:CopyObject' }, /reads another object\. Give that object as bucket\/key\./],
    ['copySource', { ...write, copySource: 'a/b' }, /copies nothing\. Leave it out\./],
    ['prefix', { action: 'HeadBucket', bucket: 'x', prefix: 'a', at }, /takes no prefix/],
    ['acl', { ...write, action: 's3:GetObject', acl: 'private' }, /sets no ACL/],
    ['kmsKeyArn', { ...write, action: 's3:DeleteObject', kmsKeyArn: key1 }, /uses no KMS key\. Leave it out\./],
    ['kmsKeyArn', { ...write, action: 'kms:Decrypt' }, /a KMS key\. Give its ARN\./],
    ['key', noKey, /an object\. Give its `key`\./],
    ['key', { ...write, action: 's3:ListBucket' }, /is not checked against an object\. Leave it out\./],
    ['prefix', { ...write, prefix: 'a/' }, /takes no prefix/],
    ['sourceIp', { ...write, sourceIp: '203.0.113.0/24' }, /not an IP address/],
    ['sourceIp', { ...write, sourceIp: 'localhost' }, /not an IP address\. Give one address/],
    ['vpcSourceIp', { ...write, vpcSourceIp: '10.0.0' }, /not an IP address/]
  ]
  for (const [field, question, message] of table) {
    try {
      check(guide, question)
      t.fail(`${field} is accepted`)
    } catch (error) {
      if (!(error instanceof QuestionError)) throw error
      t.equal(error.field, field, `${field}: ${error.message}`)
      t.match(`${error.message} ${error.hint}`, message)
    }
  }
  t.throws(() => check({ ...guide, Version: '2008-10-17' as '2012-10-17' }, write), UnknownElementError)
})
