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

t.test('a question that is not about a request to S3 is refused, with its field', async t => {
  const { key, ...noKey } = write
  const table: [string, Question, RegExp][] = [
    ['action', { ...write, action: 's3:CompleteMultipartUpload' }, /not an IAM action: for that operation S3 checks s3:PutObject/],
    ['action', { ...write, action: 's3:HeadObject' }, /S3 checks s3:GetObject/],
    ['action', { ...write, action: 's3:constructor' }, /is not an IAM action$/],
    ['action', { ...write, action: 's3:Nothing' }, /is not an IAM action$/],
    ['action', { ...write, action: 'kms:Decrypt' }, /KMS key/],
    ['key', noKey, /needs a key/],
    ['key', { ...write, action: 's3:ListBucket' }, /takes no key/],
    ['prefix', { ...write, prefix: 'a/' }, /takes no prefix/],
    ['sourceIp', { ...write, sourceIp: '203.0.113.0/24' }, /not an IP address/],
    ['sourceIp', { ...write, sourceIp: 'localhost' }, /not an IP address/],
    ['vpcSourceIp', { ...write, vpcSourceIp: '10.0.0' }, /not an IP address/]
  ]
  for (const [field, question, message] of table) {
    try {
      check(guide, question)
      t.fail(`${field} is accepted`)
    } catch (error) {
      if (!(error instanceof QuestionError)) throw error
      t.equal(error.field, field, `${field}: ${error.message}`)
      t.match(error.message, message)
    }
  }
  t.throws(() => check({ ...guide, Version: '2008-10-17' as '2012-10-17' }, write), UnknownElementError)
})
