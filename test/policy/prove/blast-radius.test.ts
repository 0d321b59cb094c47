import t from 'tap'
import { blastRadius } from '../../../src/policy/prove/blast-radius.ts'
import { evaluate } from '../../../src/policy/prove/evaluate.ts'
import { examples } from './examples.ts'

const policyOf = (name: string) => {
  const example = examples.find(each => each.name === name)
  if (example === undefined) throw new Error(name)
  return example.policy
}
const guide = policyOf('the guide')
const everywhere = policyOf('window and source on every Allow')
const guarded = policyOf('window and source in Denies')
const vpc = policyOf('a VPC on every Allow')

const before = new Date('2025-07-16T00:00:00Z')
const within = new Date('2025-07-16T02:00:00Z')
const grace = new Date('2025-07-16T04:05:00Z')
const over = new Date('2025-07-16T05:00:00Z')

t.test('from elsewhere: nothing, in every layout but the guide’s', async t => {
  for (const { name, policy } of examples.filter(({ spec }) => spec.layout !== 'guide' && spec.source.kind !== 'any')) {
    const { data, words } = blastRadius(policy, within)
    t.ok(data.areas.length > 0, `${name}: has areas`)
    for (const area of data.areas) {
      t.same(area.elsewhere, { read: null, list: null, write: null, delete: null, acl: null }, `${name}: ${area.bucket}/${area.prefix}`)
    }
    t.ok(words.some(sentence => /^From outside .*: nothing\.$/.test(sentence)), `${name}: ${words[1]}`)
  }
})

t.test('rights, and when they open and end', async t => {
  const at = (instant: Date) => blastRadius(guarded, instant).data.areas
  const until = { read: '2025-07-16T04:00:00Z', write: '2025-07-16T04:10:00Z' }
  const rights = (from: string, end: string) => ({ from, until: end })
  const none = { read: null, list: null, write: null, delete: null, acl: null }
  const start = '2025-07-16T01:00:00Z'
  const now = '2025-07-16T02:00:00Z'
  t.match(at(before), [
    { bucket: 'datasets', prefix: '', source: { ...none, read: rights(start, until.read), list: rights(start, until.read) } },
    { bucket: 'runs', prefix: '42/', source: { ...none, write: rights(start, until.write), list: rights(start, until.write) } }
  ])
  t.match(at(within), [
    { source: { ...none, read: rights(now, until.read), list: rights(now, until.read) } },
    { source: { read: null, write: rights(now, until.write) } }
  ])
  t.match(at(grace), [{ source: none }, { source: { ...none, write: rights('2025-07-16T04:05:00Z', until.write), list: rights('2025-07-16T04:05:00Z', until.write) } }])
  t.match(at(over), [{ source: none }, { source: none }])
})

t.test('a key is one object, and the beginning of keys is no directory', async t => {
  const { data, words } = blastRadius(policyOf('entries that share statements'), within)
  const area = (prefix: string) => data.areas.find(each => each.bucket === 'base' && each.prefix === prefix)
  t.match(area('llama/model.bin'), { exact: true, source: { read: { until: '2025-07-16T04:00:00Z' }, list: { until: '2025-07-16T04:00:00Z' } } })
  t.match(area('vocab.json'), { exact: true, source: { read: { until: '2025-07-16T04:00:00Z' }, list: null, write: null } })
  t.match(area('shards/train-'), { exact: false, source: { read: { until: '2025-07-16T04:00:00Z' } } })
  t.match(words[0], /read base\/llama\/model\.bin; list base\/llama\/model\.bin\*; read and list base\/shards\/train-\*; read base\/vocab\.json;/)
  t.ok(data.neighbours.some(({ arn, denied }) => arn === 'arn:aws:s3:::base/vocab.json.bak' && denied))
  t.ok(data.neighbours.every(({ denied }) => denied))
})

t.test('a listing shows more names than the objects that can be read', async t => {
  const words = (prefixes?: string[]) => blastRadius({
    Version: '2012-10-17',
    Statement: [
      { Sid: 'Names', Effect: 'Allow', Action: 's3:ListBucket', Resource: 'arn:aws:s3:::acme', ...(prefixes && { Condition: { StringLike: { 's3:prefix': prefixes } } }) },
      { Sid: 'Objects', Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::acme/wiki/*' }
    ]
  }, within).words.slice(0, 2)
  const never = 'Never: any other bucket or prefix, such as acme-backup/.'
  t.same(words(['wiki/*', 'wiki/']), ['From anywhere, now and without end: read and list acme/wiki/.', never], 'each right once')
  t.same(words(['wiki/*', 'wiki/', 'wiki']), ['From anywhere, now and without end: read and list acme/wiki/; list acme/wiki*.', never], 'also names beside it')
  t.same(words(), ['From anywhere, now and without end: list acme/; read and list acme/wiki/.', never], 'all names of the bucket')
})

t.test('in words', async t => {
  t.same(blastRadius(guarded, within).words, [
    'From 203.0.113.42/32, now and until 2025-07-16T04:00:00Z: read and list datasets/.',
    'From 203.0.113.42/32, now and until 2025-07-16T04:10:00Z: list and write runs/42/.',
    'From outside 203.0.113.42/32: nothing.',
    'Never: any other bucket or prefix, such as datasets-backup/.',
    `Never: any of ${blastRadius(guarded, within).data.actionsDenied} other actions of S3, KMS, IAM and STS, such as deleting objects, changing ACLs, ` +
      'changing bucket policies and making access keys.'
  ])
  t.equal(blastRadius(guarded, over).words[0], 'Nothing, now or later, from anywhere.')
  t.match(blastRadius(guarded, before).words[0], /from 2025-07-16T01:00:00Z until 2025-07-16T04:00:00Z/)
  t.match(blastRadius(policyOf('two alternatives in Denies'), within).words.slice(0, 2).join('\n'), new RegExp('^From 203\\.0\\.113\\.42/32 or ' +
    '10\\.0\\.12\\.0/24 through arn:\\S+vpc-0123456789abcdef0 and arn:\\S+ through vpce-0123456789abcdef0, now.*\nFrom outside .*: nothing'))
  t.match(blastRadius(vpc, within).words[0], /^From 10\.0\.12\.0\/24 through vpc-0123456789abcdef0 through vpce-0123456789abcdef0 and vpce-0123456789abcdef1, now/)
})

t.test('the guide’s reads are open from everywhere, without end, and the words say so', async t => {
  const { data, words } = blastRadius(guide, over)
  t.match(data.areas[0]?.elsewhere, { read: { from: '2025-07-16T05:00:00Z', until: null }, write: null })
  t.match(data.areas[2], { bucket: 'acmeco-finetuned-models', source: { write: null }, elsewhere: { write: null } })
  t.match(words[0], /^From anywhere, now and without end: read and list acmeco-training-datasets-wikipedia-2025-07-01\//)
  t.match(blastRadius(guide, within).words.join('\n'), /From outside 203\.0\.113\.42\/32, too, now and without end/)
})

t.test('keys, neighbours and actions', async t => {
  const { data } = blastRadius(everywhere, grace)
  t.match(data.keys, [{ decrypt: null, encrypt: null }, { decrypt: { until: '2025-07-16T04:10:00Z' }, encrypt: { until: '2025-07-16T04:10:00Z' } }])
  t.ok(data.neighbours.length > 4)
  t.ok(data.neighbours.every(({ denied }) => denied))
  t.same(data.actionsAllowed, [
    's3:GetBucketLocation', 's3:ListBucket', 's3:AbortMultipartUpload', 's3:DeleteObject', 's3:GetObject', 's3:ListMultipartUploadParts', 's3:PutObject', 's3:PutObjectAcl'
  ])
  t.ok(data.actionsDenied > 180)
})

t.test('a thief whose address is known', async t => {
  const elsewhere = (source: Record<string, string>) => blastRadius(guarded, within, source).data.areas[0]?.elsewhere.read
  t.equal(elsewhere({ 'aws:SourceIp': '203.0.113.41' }), null)
  t.match(elsewhere({ 'aws:SourceIp': '203.0.113.42' }), { until: '2025-07-16T04:00:00Z' }, 'a thief on the job’s own machine has its access')
})

t.test('two alternatives are tried one by one, as no request has both', async t => {
  for (const name of ['two alternatives on Allows', 'two alternatives in Denies']) {
    const { data } = blastRadius(policyOf(name), within)
    t.same(data.tried.source.map(context => Object.keys(context)), [['aws:SourceIp'], ['aws:VpcSourceIp', 'aws:SourceVpcArn', 'aws:SourceVpce']])
    for (const context of data.tried.elsewhere) t.equal('aws:SourceIp' in context, !('aws:SourceVpce' in context))
    t.equal(data.tried.elsewhere.length, 2)
    const policy = policyOf(name)
    for (const context of data.tried.source) {
      const request = { action: 's3:GetObject', resource: 'arn:aws:s3:::datasets/a', context: { ...context, 'aws:CurrentTime': within.toISOString() } }
      t.ok(evaluate(policy, request).allowed, JSON.stringify(context))
    }
  }
})

t.test('the thief’s address is outside the job’s source', async t => {
  const bound = (...cidrs: string[]) => JSON.parse(JSON.stringify(guarded).replace('"203.0.113.42/32"', JSON.stringify(cidrs)))
  for (const cidrs of [['198.51.100.0/24'], ['198.51.100.0/24', '192.0.2.0/24'], ['128.0.0.0/1', '2001:db8::/32'], ['0.0.0.0/1', '128.0.0.0/1']]) {
    const { data } = blastRadius(bound(...cidrs), within)
    t.same(data.areas.map(({ elsewhere }) => elsewhere.read ?? elsewhere.write), [null, null], `${cidrs} ${data.tried.elsewhere[0]?.['aws:SourceIp']}`)
    t.not(data.areas[0]?.source.read, null)
  }
  t.equal(blastRadius(bound('2001:db8::/32'), within).data.tried.elsewhere[0]?.['aws:SourceIp'], '198.51.100.23', 'of the other family is outside')
})

t.test('a key that can only decrypt is listed', async t => {
  t.match(blastRadius(everywhere, within).words.join('\n'), /KMS keys, through S3 alone: arn:aws:kms:eu-west-1\S+ and arn:aws:kms:us-east-2/)
  t.notMatch(blastRadius(everywhere, over).words.join('\n'), /KMS keys/)
})

t.test('the words say when a policy leaks', async t => {
  const leak = { ...guarded, Statement: [...guarded.Statement, { Effect: 'Allow' as const, Action: 's3:PutObject', Resource: 'arn:aws-cn:s3:::datasets-backup/*' }] }
  const { data } = blastRadius(leak, within)
  t.ok(data.areas.some(({ bucket, source }) => bucket === 'datasets-backup' && source.write !== null), 'as an area')
  const wide = { ...guarded, Statement: [...guarded.Statement, { Effect: 'Allow' as const, Action: 's3:PutObject', Resource: '*' }] }
  t.ok(blastRadius(wide, within).data.neighbours.some(({ denied }) => !denied), 'and as neighbours')
  t.match(blastRadius(wide, within).words.join('\n'), /Beside what is listed: /)
})

t.test('it agrees with the evaluator', async t => {
  for (const { name, policy } of examples) {
    for (const at of [before, within, grace, over]) {
      const { data } = blastRadius(policy, at)
      for (const { bucket, prefix, source } of data.areas) {
        const partition = name === 'window and source in Denies' ? 'aws-cn' : 'aws'
        const context = { ...data.tried.source[0], 'aws:CurrentTime': at.toISOString() }
        const { allowed } = evaluate(policy, { action: 's3:PutObject', resource: `arn:${partition}:s3:::${bucket}/${prefix}object`, context })
        t.equal(source.write !== null && source.write.from === data.at, allowed, `${name} ${bucket}/${prefix} ${data.at}`)
      }
    }
  }
})
