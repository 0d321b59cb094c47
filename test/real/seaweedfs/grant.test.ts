import { IAMClient, ListUsersCommand, ListPoliciesCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { eventually, jobOf, s3, second, type Keys } from '../job.ts'
import { startService } from '../service.ts'
import { buckets, fill, matrix, oddMatrix, oddNames, trainingJob } from '../store.ts'

// The service, an IAM and an S3 that nobody here wrote: from POST /v1/grants to a denied PutObject.

const weed = await startSeaweedfs()
t.teardown(() => weed.stop())
const iam = new IAMClient({ endpoint: weed.endpoint, region: 'us-east-1', credentials: weed.admin })
const admin = s3(weed.endpoint, weed.admin)
t.teardown(() => { iam.destroy(); admin.destroy() })
await fill(admin)
const service = await startService(t, { provider: 'seaweedfs', endpoint: weed.endpoint, admin: weed.admin })

const users = async () => (await iam.send(new ListUsersCommand({}))).Users?.map(user => user.UserName) ?? []
const policies = async () => (await iam.send(new ListPoliciesCommand({ Scope: 'Local' }))).Policies?.map(policy => policy.PolicyName) ?? []
const jobWith = (keys: Keys, endpoint = weed.endpoint) => {
  const client = s3(endpoint, keys)
  t.teardown(() => client.destroy())
  return jobOf(client)
}
// Begun a minute ago: the guide's start is exclusive, and time is compared to the second.
const from = (ip: string) => ({ window: { notBefore: second(Date.now() - 60_000), durationSeconds: 600 }, sourceIps: [ip] })

for (const layout of ['everywhere', 'guarded', 'guide'] as const) {
  await t.test(`layout ${layout}: what was asked for, and nothing else`, async t => {
    const { grant, credentials } = await service.issue({ ...trainingJob(layout), ...from('127.0.0.1') })
    t.match(grant, { state: 'active', attach: 'managed', user: { path: '/' } })
    t.ok((await users()).includes(grant.user.name), 'a user of its own')
    t.ok((await policies()).includes(grant.user.name), 'with a managed policy of its own')
    const job = jobWith(credentials)
    t.equal(await eventually(() => job.read(buckets.data, 'wiki/1.parquet'), 'allowed'), 'allowed', 'the key works')
    for (const [what, wanted, ask] of matrix(layout)) t.equal(await ask(job), wanted, `${what}: ${wanted}`)

    const elsewhere = jobWith(credentials, weed.endpointV6)
    t.equal(await elsewhere.write(buckets.output, 'runs/42/stolen'), 'denied', 'denied from another address')
    // The guide binds what is only read to nothing, and is shown as it is.
    t.equal(await elsewhere.read(buckets.data, 'wiki/1.parquet'), layout === 'guide' ? 'allowed' : 'denied', 'reads from another address')

    const completed = await service.call('POST', `/v1/grants/${grant.id}/complete`)
    t.match(completed, { status: 200, body: { state: 'revoked' } })
    t.equal(await eventually(() => job.write(buckets.output, 'runs/42/late'), 'unknown-key'), 'unknown-key', 'the key is dead')
    t.equal(await job.read(buckets.data, 'wiki/1.parquet'), 'unknown-key')
    t.notOk((await users()).includes(grant.user.name), 'no user is left')
    t.notOk((await policies()).includes(grant.user.name), 'no policy is left')
  })
}

t.test('PATCH moves the window while the key stays; rotate kills the old key', async t => {
  const soon = Date.now() + 3_600_000
  const ahead = { window: { notBefore: second(soon), notAfter: second(soon + 600_000) } }
  const { grant, credentials } = await service.issue({ ...trainingJob('everywhere'), ...from('127.0.0.1'), ...ahead, waitUntilReady: true })
  const path = `/v1/grants/${grant.id}`
  const job = jobWith(credentials)
  const write = () => job.write(buckets.output, 'runs/42/checkpoint')
  t.equal(await eventually(write, 'denied'), 'denied', 'before the window')
  t.equal(await job.read(buckets.data, 'wiki/1.parquet'), 'denied')

  const { window } = from('127.0.0.1')
  const moved = await service.call('PATCH', path, { window })
  t.match(moved, { status: 200, body: { state: 'active', window: { notBefore: window.notBefore } } })
  t.equal(await eventually(write, 'allowed'), 'allowed', 'in the window that it was moved to')
  t.match(await service.call('PATCH', path, ahead), { status: 422 }, 'not away from a job that runs')
  t.equal(await write(), 'allowed')

  await service.call('PATCH', path, { sourceIps: ['::1'] })
  t.equal(await eventually(write, 'denied'), 'denied', 'the source was moved to ::1')
  t.equal(await jobWith(credentials, weed.endpointV6).write(buckets.output, 'runs/42/checkpoint'), 'allowed', 'where it is allowed')
  await service.call('PATCH', path, { sourceIps: ['127.0.0.1', '::1'] })
  t.equal(await eventually(write, 'allowed'), 'allowed', 'both')
  t.equal((await policies()).filter(name => name?.startsWith(grant.user.name)).length, 1, 'three more policies, one after the other')

  t.match(await service.call('PATCH', path, { vpc: { vpcIds: ['vpc-01234567'] } }), { status: 422, body: { code: 'dialect-unfit', pointer: '/vpc' } })

  const rotated = await service.call<{ credentials: typeof credentials }>('POST', `${path}/rotate`, {})
  t.equal(rotated.status, 200)
  const fresh = jobWith(rotated.body.credentials)
  t.equal(await eventually(() => fresh.write(buckets.output, 'runs/42/checkpoint'), 'allowed'), 'allowed', 'the fresh key works')
  t.equal(await eventually(write, 'unknown-key'), 'unknown-key', 'the old one does not')

  const again = await service.call<{ credentials: typeof credentials }>('POST', `${path}/rotate`, { overlapSeconds: 600 })
  const third = jobWith(again.body.credentials)
  t.equal(await eventually(() => third.write(buckets.output, 'runs/42/checkpoint'), 'allowed'), 'allowed')
  t.equal(await fresh.write(buckets.output, 'runs/42/checkpoint'), 'allowed', 'in the overlap both work')

  t.match(await service.call('DELETE', path), { status: 200, body: { state: 'revoked' } })
  t.equal(await eventually(() => third.write(buckets.output, 'runs/42/late'), 'unknown-key'), 'unknown-key', 'revoked')
  t.equal(await fresh.write(buckets.output, 'runs/42/late'), 'unknown-key')
})

t.test('waitUntilReady tells whose the key is', async t => {
  const { ready, grant, credentials } = await service.issue({
    ...trainingJob('guarded'), job: { id: 'ready', team: 'nlp' }, ...from('127.0.0.1'), waitUntilReady: true
  })
  t.equal(ready, true)
  t.equal(await eventually(() => jobWith(credentials).list(buckets.data), 'allowed'), 'allowed')
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})

t.test('what SeaweedFS cannot express is refused, and nothing is made', async t => {
  const before = (await users()).length
  const job = { ...trainingJob('everywhere'), ...from('127.0.0.1') }
  const { sourceIps: _, ...anywhere } = job
  const cases: Array<[string, object, string]> = [
    ['inline policies', { ...job, attach: 'inline' }, '/attach'],
    ['sessions', { ...job, attach: 'session' }, '/attach'],
    ['VPCs', { ...anywhere, vpc: { vpcIds: ['vpc-01234567'] } }, '/vpc'],
    ['KMS', {
      ...job, datasets: [{ bucket: buckets.data, kmsKeyArns: ['arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'] }]
    }, '/datasets/0/kmsKeyArns']
  ]
  for (const [what, request, pointer] of cases) {
    t.match(await service.call('POST', '/v1/grants', request), { status: 422, body: { code: 'dialect-unfit', pointer } }, what)
  }
  t.equal((await users()).length, before)
})

t.test('names of orchestrators and of Spark, taken as they are', async t => {
  const access = oddNames.map(([prefix]) => ({ bucket: buckets.output, prefix, level: 'read-write' }))
  const { grant, credentials } = await service.issue({ job: { id: 'job[3] #17%', team: 'nlp' }, access, ...from('127.0.0.1') })
  const job = jobWith(credentials)
  t.equal(await eventually(() => job.write(buckets.output, 'a+b/o'), 'allowed'), 'allowed', 'the key works')
  for (const odd of oddNames) {
    for (const [what, wanted, ask] of oddMatrix(odd)) t.equal(await ask(job), wanted, `${odd[0]}: ${what}: ${wanted}`)
  }
  t.match(await service.call('GET', `/v1/grants?job=${encodeURIComponent('job[3] #17%')}`), { body: { grants: [{ id: grant.id }] } })
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})
