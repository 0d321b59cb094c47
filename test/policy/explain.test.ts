import t from 'tap'
import type { PolicyDocument } from '../../src/domain/policy-document.ts'
import { explainPolicy } from '../../src/policy/explain.ts'
import { goldenCases } from './golden-cases.ts'

const cases = goldenCases()
const sentences = (name: string): Record<string, string> => {
  const found = cases.find(one => one.name === name)
  if (!found) throw new Error(name)
  return Object.fromEntries(explainPolicy(found.policy).map(({ sid, effect, text }) => [`${effect} ${sid}`, text]))
}

t.test('the guide’s policy: the words say what it leaves open', async t => {
  t.strictSame(sentences('guide-training-job'), {
    'Allow WikipediaReadOnly': 'The job may read objects and list the names of objects in the bucket ' +
      'acmeco-training-datasets-wikipedia-2025-07-01, at any time and from anywhere.',
    'Allow BaseModelsReadOnly': 'The job may read objects and list the names of objects in the bucket acmeco-base-models, ' +
      'at any time and from anywhere.',
    'Allow FinetunedModelsWrite': 'The job may read objects, list the names of objects, write objects, change who else may access ' +
      'objects, abort uploads in parts and list the parts of uploads in the bucket acmeco-finetuned-models, after 2025-07-16T01:00:00Z, ' +
      'until 2025-07-16T04:00:00Z, only from the address 203.0.113.42. ' +
      's3:CompleteMultipartUpload is no IAM action and allows nothing; writing objects covers it.'
  })
})

t.test('prefixes, options, keys', async t => {
  const bound = 'from 2025-07-16T01:00:00Z on, until 2025-07-16T04:30:00Z'
  t.strictSame(sentences('everywhere-all-options'), {
    'Allow Run42': 'The job may read objects, write objects, abort uploads in parts, list the parts of uploads, change who else may ' +
      `access objects, delete objects and ask for the region in the bucket acme-output under runs/42/, ${bound}, ` +
      'only from the address 203.0.113.42.',
    'Allow Run42List': `The job may list the names of objects in the bucket acme-output, only names that begin with runs/42/, ${bound}, ` +
      'only from the address 203.0.113.42.',
    'Allow Run42Keys': 'The job may encrypt and decrypt with the encryption key ' +
      'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-123456789000, ' +
      `only through S3 (s3.eu-west-1.amazonaws.com), ${bound}.`
  })
})

t.test('sources', async t => {
  t.match(sentences('everywhere-sources-merged')['Allow Output'],
    /only from the addresses 192\.0\.2\.1, 198\.51\.100\.7, 203\.0\.113\.0\/24 or 2001:db8::\/64\.$/)
  t.match(sentences('everywhere-cidr')['Allow Output'], /only from the addresses 203\.0\.113\.0\/28\.$/)
  t.match(sentences('everywhere-vpc-all')['Allow Output'],
    /the VPC vpc-0123456789abcdef0, only through the VPC endpoint vpce-0fedcba9876543210, only from the private addresses 10\.0\.12/)
  const both = sentences('everywhere-two-sources')
  t.match(both['Allow Output'], /only from the address 203\.0\.113\.42\.$/)
  t.match(both['Allow OutputVpc'], /only through the VPC endpoint vpce-0fedcba9876543210, only from the private addresses 10\.0\.12\.0\/24\.$/)
})

t.test('Denies', async t => {
  const all = sentences('guarded-vpc-all')
  t.strictSame(all['Allow Dataset1'],
    'The job may read objects, ask for the region and list the names of objects in the bucket acme-datasets, ' +
    'except where a Deny of this policy forbids it.')
  const never = 'Whatever else allows it, the job may not do anything in S3'
  t.strictSame(all['Deny DenyBeforeStart'], `${never} anywhere, before 2025-07-16T01:00:00Z.`)
  t.strictSame(all['Deny DenyAfterEnd'], `${never} anywhere, from 2025-07-16T04:00:00Z on.`)
  t.strictSame(all['Deny DenyOtherVpcs'],
    `${never} anywhere, unless the request comes through the VPC vpc-00000000 or vpc-0123456789abcdef0.`)
  t.strictSame(all['Deny DenyOtherSources'],
    `${never} anywhere, unless the request comes from the private addresses 10.0.12.0/24 or 10.0.13.0/24.`)
  const either = sentences('guarded-two-sources')
  const arn = 'arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef0'
  t.strictSame(either['Deny DenyOtherVpcArns'],
    `${never} anywhere, unless the request comes from the address 203.0.113.42, or through the VPC ${arn}.`)
  t.strictSame(either['Deny DenyOtherSources'],
    `${never} anywhere, unless the request comes from the address 203.0.113.42, or from the private addresses 10.0.12.0/24.`)
  t.strictSame(sentences('guarded-grace-two-outputs')['Deny DenyReadsAfterEnd'],
    `${never} outside of the bucket acme-shared under runs/42/ and the bucket acme-shared under logs/42/, from 2025-07-16T04:00:00Z on.`)
  t.strictSame(sentences('guarded-training-job')['Deny DenyOtherSources'],
    `${never} anywhere, unless the request comes from the address 203.0.113.42.`)
})

t.test('every golden policy: no term of IAM, and every bucket is named', async t => {
  for (const { name, policy } of cases) {
    for (const [index, { text }] of explainPolicy(policy).entries()) {
      const plain = text.replaceAll(/arn:\S+:(kms|ec2):\S+/g, '').replace(/s3:CompleteMultipartUpload/, '')
      t.notMatch(plain, /arn:|aws:|s3:|kms:|IpAddress|DateLess|StringLike|undefined/, `${name} ${index}`)
      const { Resource, NotResource } = policy.Statement[index] ?? {}
      for (const arn of [...[Resource ?? []].flat(), ...[NotResource ?? []].flat()].filter(arn => arn.includes(':s3:::'))) {
        t.match(text, arn.split(':::')[1]?.split('/')[0] ?? '-', `${name} ${index}`)
      }
    }
  }
})

t.test('what has no words of its own is named as in the policy; nothing is left out', async t => {
  const policy: PolicyDocument = {
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Action: 's3:GetObjectRetention',
        Resource: 'arn:aws:s3:::acme/x',
        Condition: { Bool: { 'aws:SecureTransport': 'true' } }
      },
      { Effect: 'Deny', Action: ['s3:PutObject', 's3:DeleteObject'], Resource: ['*'] },
      { Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::acme', 'arn:aws:s3:::other/*', 'arn:aws:s3:::acme-2'] }
    ]
  }
  t.strictSame(explainPolicy(policy), [
    {
      sid: '#1',
      effect: 'Allow',
      text: 'The job may use s3:GetObjectRetention in the bucket acme at the key x, if Bool aws:SecureTransport true.'
    },
    { sid: '#2', effect: 'Deny', text: 'Whatever else allows it, the job may not write objects or delete objects anywhere.' },
    {
      sid: '#3',
      effect: 'Allow',
      text: 'The job may read objects in the bucket acme, the bucket other and the bucket acme-2, ' +
        'except where a Deny of this policy forbids it.'
    }
  ])
})
