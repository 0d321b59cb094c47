import { CreateBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import fc from 'fast-check'
import t from 'tap'
import { createIam } from '../../../src/iam/client.ts'
import { unfit } from '../../../src/policy/dialect.ts'
import { dialects } from '../../../src/iam/dialects/index.ts'
import { inlinePolicyName } from '../../../src/iam/provisioner.ts'
import { defaultLimits } from '../../../src/policy/limits.ts'
import { normalise } from '../../../src/policy/normalise.ts'
import type { ConditionBlock, PolicyDocument, Statement } from '../../../src/domain/policy-document.ts'
import { evaluate, type IamRequest } from '../../../src/policy/prove/evaluate.ts'
import { render } from '../../../src/policy/render.ts'
import type { PolicyRequest, WindowRequest } from '../../../src/request.ts'
import { startRgw } from '../../servers/rgw.ts'
import { jobOf, s3, second, type Job, type Outcome } from '../job.ts'

// What our evaluator says of a policy and a request, a server says that enforces it: random policies, rendered ones and others.

const rgw = await startRgw()
t.teardown(() => rgw.stop())
const admin = s3(rgw.endpoint, rgw.admin)
const iam = createIam({ region: 'us-east-1', endpoint: rgw.endpoint, credentials: rgw.admin })
const keys = await rgw.createUser('job')
const clients = [['127.0.0.1', s3(rgw.endpoint, keys)], ['::1', s3(rgw.endpointV6, keys)]] as const
t.teardown(() => {
  admin.destroy()
  iam.close()
  for (const [, client] of clients) client.destroy()
})

const buckets = ['diff-a', 'diff-ab', 'diff-b']
const objects = ['k', 'p/k', 'p/q/k', 'pq/k']
for (const Bucket of buckets) {
  await admin.send(new CreateBucketCommand({ Bucket }))
  for (const Key of objects) await admin.send(new PutObjectCommand({ Bucket, Key, Body: 'of the admin' }))
}

// --- policies: an hour is longer than this test lasts ---

const hour = 3_600_000
const [past, ago, ahead, future] = [-2, -1, 1, 2].map(hours => second(Date.now() + hours * hour)) as [string, string, string, string]
const bucket = fc.constantFrom(...buckets)
const cidrs = fc.constantFrom<string[][]>(['127.0.0.1/32'], ['::1/128'], ['127.0.0.1/32', '::1/128'], ['10.0.0.0/8'], ['127.0.0.0/8'], ['10.0.0.0/8', '::1/128'])

const rendered: fc.Arbitrary<PolicyDocument> = fc.record({
  entries: fc.uniqueArray(fc.record({
    bucket,
    prefix: fc.constantFrom(undefined, undefined, 'p', 'p/q/'),
    level: fc.constantFrom('read' as const, 'write' as const, 'read-write' as const, 'read-write' as const),
    list: fc.constantFrom(true, true, false),
    delete: fc.boolean()
  }), { minLength: 2, maxLength: 4, selector: entry => `${entry.bucket}/${entry.prefix}` }),
  window: fc.constantFrom<WindowRequest[]>(
    { notBefore: ago, notAfter: ahead }, { notBefore: past, notAfter: future }, { notBefore: ahead, notAfter: future },
    // What it reads is over, what it writes is not.
    { notBefore: past, notAfter: second(Date.now() + 5_000), outputGraceSeconds: 7_200 }),
  sourceIps: fc.constantFrom<string[][]>(['127.0.0.1', '::1'], ['127.0.0.1'], ['::1'], ['127.0.0.1', '::1'], ['10.1.2.3'], ['127.0.0.0/16']),
  layout: fc.constantFrom('everywhere' as const, 'guarded' as const)
}).map(({ entries, window, ...rest }) => {
  const access = entries.map(({ prefix, delete: remove, ...entry }) => ({
    ...entry, ...(prefix !== undefined && { prefix }), ...(entry.level !== 'read' && { delete: remove })
  }))
  const { outputGraceSeconds, ...graceless } = window
  const writes = access.some(({ level }) => level !== 'read')
  const request: PolicyRequest = { job: { id: 'job', team: 'nlp' }, access, window: writes ? window : graceless, ...rest }
  const normalised = normalise(request, { ...defaultLimits, allowPrivateSourceIps: true }, new Date())
  if (!normalised.ok) throw new Error(JSON.stringify(normalised.findings))
  const policy = render(normalised.spec)
  if (unfit(policy, dialects.ceph).length > 0) throw new Error('unfit')
  return policy
})

const condition: fc.Arbitrary<ConditionBlock> = fc.oneof(
  fc.constant({}),
  fc.tuple(fc.constantFrom('IpAddress', 'NotIpAddress'), cidrs).map(([operator, values]) => ({ [operator]: { 'aws:SourceIp': values } })),
  fc.tuple(fc.constantFrom('DateLessThan', 'DateGreaterThan', 'DateGreaterThanEquals', 'DateLessThanEquals'), fc.constantFrom(ago, ahead))
    .map(([operator, at]) => ({ [operator]: { 'aws:CurrentTime': at } })),
  // Negated ones are left out: where a listing names no prefix AWS says they hold, and RGW that they do not.
  fc.constantFrom('p/*', 'p*', '*q/', 'p/q/').map(pattern => ({ StringLike: { 's3:prefix': pattern } })),
  fc.constantFrom('p/', '').map(text => ({ StringEquals: { 's3:prefix': text } })),
  fc.tuple(cidrs, fc.constantFrom(ago, ahead)).map(([values, at]) => ({
    IpAddress: { 'aws:SourceIp': values }, DateLessThan: { 'aws:CurrentTime': at }
  }))
)
const actions = fc.subarray(['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:ListBucket', 's3:GetBucketLocation'], { minLength: 1 })
const resources = fc.subarray([
  'arn:aws:s3:::diff-a', 'arn:aws:s3:::diff-a/*', 'arn:aws:s3:::diff-a*', 'arn:aws:s3:::diff-?/p/*', 'arn:aws:s3:::diff-b/p*', 'arn:aws:s3:::diff-b'
], { minLength: 1 })
const statement: fc.Arbitrary<Statement> = fc.tuple(
  fc.constantFrom('Allow' as const, 'Allow' as const, 'Deny' as const),
  fc.oneof(actions, fc.constant<string[]>(['s3:*'])),
  fc.oneof(resources.map(Resource => ({ Resource })), fc.constant<Pick<Statement, 'Resource'>>({ Resource: ['*'] }), resources.map(NotResource => ({ NotResource }))),
  condition
).map(([Effect, Action, on, Condition]) => ({ Effect, Action, ...on, ...(Object.keys(Condition).length > 0 && { Condition }) }))
const free: fc.Arbitrary<PolicyDocument> = fc.array(statement, { minLength: 1, maxLength: 4 })
  .map(Statement => ({ Version: '2012-10-17', Statement }))

// --- requests ---

interface Asked { action: string, resource: string, prefix?: string, ask: (job: Job) => Promise<Outcome> }

let fresh = 0
const asked: fc.Arbitrary<Asked> = fc.oneof(
  fc.tuple(bucket, fc.constantFrom(...objects)).map(([name, key]) =>
    ({ action: 's3:GetObject', resource: `${name}/${key}`, ask: (job: Job) => job.read(name, key) })),
  // A key of its own each time: what the job once wrote it may read, whatever its policy says.
  fc.tuple(bucket, fc.constantFrom('', 'p/', 'p/q/', 'pq/')).map(([name, folder]) => {
    const key = `${folder}written-${++fresh}`
    return { action: 's3:PutObject', resource: `${name}/${key}`, ask: (job: Job) => job.write(name, key) }
  }),
  fc.tuple(bucket, fc.constantFrom('gone', 'p/gone')).map(([name, key]) =>
    ({ action: 's3:DeleteObject', resource: `${name}/${key}`, ask: (job: Job) => job.delete(name, key) })),
  fc.tuple(bucket, fc.constantFrom('p/', 'p/q/', 'pq/', 'p', '')).map(([name, prefix]) =>
    ({ action: 's3:ListBucket', resource: name, prefix, ask: (job: Job) => job.list(name, prefix) })),
  bucket.map(name => ({ action: 's3:ListBucket', resource: name, ask: (job: Job) => job.list(name) })),
  bucket.map(name => ({ action: 's3:GetBucketLocation', resource: name, ask: (job: Job) => job.locate(name) }))
)

const seed = 20261124
const requestsPerPolicy = 8

for (const [kind, arbitrary] of [['rendered', rendered], ['free', free]] as const) {
  await t.test(`${kind} policies`, async t => {
    const policies = fc.sample(arbitrary, { seed, numRuns: 25 })
    // The one whose reads are over by now, too.
    await new Promise(resolve => setTimeout(resolve, 5_000))
    const differences: object[] = []
    const count = { allowed: 0, denied: 0 }
    for (const [index, policy] of policies.entries()) {
      await iam.putUserPolicy('job', inlinePolicyName, JSON.stringify(policy), Date.now() + 10_000)
      for (const { action, resource, prefix, ask } of fc.sample(asked, { seed: seed + index, numRuns: requestsPerPolicy })) {
        for (const [ip, client] of clients) {
          const context: IamRequest['context'] = {
            'aws:CurrentTime': new Date().toISOString(), 'aws:SourceIp': ip, ...(prefix !== undefined && { 's3:prefix': prefix })
          }
          const ours = evaluate(policy, { action, resource: `arn:aws:s3:::${resource}`, context }).allowed ? 'allowed' : 'denied'
          const theirs = await ask(jobOf(client))
          count[ours]++
          if (ours !== theirs) differences.push({ ours, theirs, action, resource, context, policy: JSON.stringify(policy) })
        }
      }
    }
    t.strictSame(differences, [], `${count.allowed + count.denied} decisions`)
    t.ok(count.allowed >= 40 && count.denied >= 40, `${count.allowed} allowed, ${count.denied} denied`)
  })
}

t.test('a block that the server reads otherwise is refused', async t => {
  const request = { job: { id: 'job', team: 'nlp' }, datasets: [{ bucket: 'diff-a' }], window: { notBefore: ago, notAfter: ahead }, sourceIps: ['::/64'] }
  const normalised = normalise(request, { ...defaultLimits, allowPrivateSourceIps: true }, new Date())
  if (!normalised.ok) return t.fail('has findings')
  const policy = render(normalised.spec)
  await iam.putUserPolicy('job', inlinePolicyName, JSON.stringify(policy), Date.now() + 10_000)
  t.equal(await jobOf(clients[0][1]).read('diff-a', 'k'), 'allowed', '127.0.0.1 is none of ::/64, and is let in')
  t.match(unfit(policy, dialects.ceph), [{ code: 'dialect-unfit', pointer: '/sourceIps', detail: /has the source ::\/64/ }])
  for (const cidr of ['::1/128', '2001:db8::/48', '10.0.0.0/8', '127.0.0.1/32']) t.notOk(dialects.ceph.misreads?.(cidr), cidr)
  for (const cidr of ['::/64', '::a00:0/104', '::2/128', '0.0.0.0/16']) t.ok(dialects.ceph.misreads?.(cidr), cidr)
})
