import {
  CreateAccessKeyCommand, CreateUserCommand, GetUserPolicyCommand, IAMClient, ListAccessKeysCommand, ListUsersCommand, ListUserTagsCommand,
  PutUserPolicyCommand
} from '@aws-sdk/client-iam'
import * as sdk from '@aws-sdk/client-s3'
import t from 'tap'
import { jobOf, outcome, s3, second, type Outcome } from '../job.ts'
import { buckets, matrix, oddMatrix, oddNames, trainingJob } from '../store.ts'
import { elsewhere, here, openTo, startGateway } from './gateway.ts'

// JOB_ACCESS_PROVIDER=aws on an IAM and an S3 that nobody here wrote: from POST /v1/grants to a denied PutObject.

const { iam, admin, iamEndpoint, endpoint, jobFrom, serve } = await startGateway(t)
const service = await serve()
const users = async () => ((await iam.send(new ListUsersCommand({ PathPrefix: '/job-access/' }))).Users ?? []).map(user => user.UserName)
const keysOf = async (UserName: string) =>
  ((await iam.send(new ListAccessKeysCommand({ UserName }))).AccessKeyMetadata ?? []).map(key => key.AccessKeyId)

for (const layout of ['everywhere', 'guarded', 'guide'] as const) {
  await t.test(`layout ${layout}: what was asked for, and nothing else`, async t => {
    const { grant, credentials } = await service.issue({ ...trainingJob(layout), ...openTo(here) })
    t.match(grant, { state: 'active', attach: 'inline', user: { path: /^\/job-access\/\d+\/$/ } })
    const { PolicyDocument } = await iam.send(new GetUserPolicyCommand({ UserName: grant.user.name, PolicyName: 'job-access' }))
    t.strictSame(JSON.parse(decodeURIComponent(PolicyDocument ?? '')), grant.policy, 'the policy that the provider holds')
    const { Tags: tags } = await iam.send(new ListUserTagsCommand({ UserName: grant.user.name }))
    t.strictSame(Object.fromEntries(tags?.map(({ Key, Value }) => [Key, Value]) ?? []), {
      'job-access:grant': grant.id,
      'job-access:job': 'wiki-finetune-42',
      'job-access:team': 'nlp',
      'job-access:expires': new Date(grant.window.outputNotAfter).toISOString()
    }, 'and the tags')

    const job = jobFrom(here, credentials)
    for (const [what, wanted, ask] of matrix(layout)) t.equal(await ask(job), wanted, `${what}: ${wanted}`)
    for (const address of [elsewhere, '::1']) {
      const far = jobFrom(address, credentials)
      t.equal(await far.write(buckets.output, 'runs/42/stolen'), 'denied', `writes from ${address}`)
      // The guide binds what is only read to nothing, and is shown as it is.
      t.equal(await far.read(buckets.data, 'wiki/1.parquet'), layout === 'guide' ? 'allowed' : 'denied', `reads from ${address}`)
    }

    t.match(await service.call('POST', `/v1/grants/${grant.id}/complete`), { status: 200, body: { state: 'revoked' } })
    t.equal(await job.write(buckets.output, 'runs/42/late'), 'unknown-key', 'the key is dead at once')
    t.equal(await job.read(buckets.data, 'wiki/1.parquet'), 'unknown-key')
    t.notOk((await users()).includes(grant.user.name), 'no user is left')
  })
}

for (const layout of ['everywhere', 'guarded'] as const) {
  await t.test(`layout ${layout}: no other call opens what is closed`, async t => {
    const { grant, credentials } = await service.issue({ ...trainingJob(layout), ...openTo(here) })
    const client = s3(endpoint, credentials, here)
    const owner = s3(endpoint, admin)
    t.teardown(() => { client.destroy(); owner.destroy() })
    const [Bucket, Key] = [buckets.output, 'runs/42/copy']
    const salaries = `${buckets.other}/salaries.csv`
    const { UploadId } = await client.send(new sdk.CreateMultipartUploadCommand({ Bucket, Key }))
    const calls: Array<[what: string, wanted: Outcome, call: () => Promise<unknown>]> = [
      ['copies from the dataset', 'allowed', () => client.send(new sdk.CopyObjectCommand({ Bucket, Key, CopySource: `${buckets.data}/wiki/1.parquet` }))],
      ['copies from another bucket', 'denied', () => client.send(new sdk.CopyObjectCommand({ Bucket, Key, CopySource: salaries }))],
      ['copies a part from another bucket', 'denied',
        () => client.send(new sdk.UploadPartCopyCommand({ Bucket, Key, UploadId, PartNumber: 1, CopySource: salaries }))],
      ['copies beside the prefix', 'denied',
        () => client.send(new sdk.CopyObjectCommand({ Bucket, Key: 'runs/420/copy', CopySource: `${buckets.data}/wiki/1.parquet` }))],
      ['heads another bucket\'s object', 'denied', () => client.send(new sdk.HeadObjectCommand({ Bucket: buckets.other, Key: 'salaries.csv' }))],
      ['lists old versions', 'denied', () => client.send(new sdk.ListObjectVersionsCommand({ Bucket: buckets.other }))],
      ['lists uploads', 'denied', () => client.send(new sdk.ListMultipartUploadsCommand({ Bucket }))],
      ['deletes several', 'denied', async () => {
        const { Errors = [] } = await client.send(new sdk.DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'runs/42/of-the-admin' }] } }))
        if (Errors[0]?.Code === 'AccessDenied') throw Object.assign(new Error('refused in the answer'), { $metadata: { httpStatusCode: 403 } })
      }],
      ['tags an object', 'denied',
        () => client.send(new sdk.PutObjectTaggingCommand({ Bucket, Key: 'runs/42/of-the-admin', Tagging: { TagSet: [{ Key: 'a', Value: 'b' }] } }))],
      ['reads the bucket policy', 'denied', () => client.send(new sdk.GetBucketPolicyCommand({ Bucket }))],
      ['writes a bucket policy', 'denied', () => client.send(new sdk.PutBucketPolicyCommand({
        Bucket, Policy: JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: 's3:*', Resource: `arn:aws:s3:::${Bucket}/*` }] })
      }))],
      ['makes a bucket', 'denied', () => client.send(new sdk.CreateBucketCommand({ Bucket: 'acme-own' }))],
      ['deletes a bucket', 'denied', () => client.send(new sdk.DeleteBucketCommand({ Bucket: buckets.other }))]
    ]
    for (const [what, wanted, call] of calls) t.equal(await outcome(call), wanted, `${what}: ${wanted}`)
    const left = await owner.send(new sdk.GetObjectCommand({ Bucket, Key: 'runs/42/of-the-admin' }))
    t.equal(await left.Body?.transformToString(), 'of the admin')
    await service.call('DELETE', `/v1/grants/${grant.id}`)
  })
}

await t.test('a bucket policy that lets the job in: guarded still denies, everywhere cannot', async t => {
  const owner = s3(endpoint, admin)
  t.teardown(() => owner.destroy())
  for (const [layout, outside] of [['everywhere', 'allowed'], ['guarded', 'denied']] as const) {
    const ahead = { notBefore: second(Date.now() + 3_600_000), durationSeconds: 600 }
    const { grant, credentials } = await service.issue({
      ...trainingJob(layout), job: { id: `let-in-${layout}`, team: 'nlp' }, ...openTo(here), window: ahead
    })
    const reads = (from: string) => jobFrom(from, credentials).read(buckets.other, 'salaries.csv')
    t.equal(await reads(here), 'denied')
    await owner.send(new sdk.PutBucketPolicyCommand({
      Bucket: buckets.other,
      Policy: JSON.stringify({
        Version: '2012-10-17',
        Statement: [{
          Effect: 'Allow',
          Principal: { AWS: [`arn:aws:iam::000000000000:user${grant.user.path}${grant.user.name}`] },
          Action: ['s3:GetObject'],
          Resource: [`arn:aws:s3:::${buckets.other}/*`]
        }]
      })
    }))
    t.equal(await reads(here), outside, `${layout}, before the window: ${outside}`)
    t.match(await service.call('PATCH', `/v1/grants/${grant.id}`, { window: openTo(here).window }), { status: 200 })
    t.equal(await reads(here), 'allowed', `${layout}: let in`)
    t.equal(await reads(elsewhere), outside, `${layout}, from another address: ${outside}`)
    await owner.send(new sdk.DeleteBucketPolicyCommand({ Bucket: buckets.other }))
    await service.call('DELETE', `/v1/grants/${grant.id}`)
  }
})

await t.test('a prefix ends where a folder ends', async t => {
  const { grant, credentials } = await service.issue({
    job: { id: 'runs-1', team: 'nlp' }, output: { bucket: buckets.output, prefix: 'runs/1', level: 'read-write', delete: true }, ...openTo(here)
  })
  const job = jobFrom(here, credentials)
  t.equal(await job.write(buckets.output, 'runs/1/checkpoint'), 'allowed')
  t.equal(await job.read(buckets.output, 'runs/1/checkpoint'), 'allowed')
  t.equal(await job.list(buckets.output, 'runs/1/'), 'allowed')
  for (const key of ['runs/10/checkpoint', 'runs/1', 'runs/1.txt', 'runs/../runs/10/x', 'runs/1/../10/x']) {
    t.not(await job.write(buckets.output, key).catch(() => 'refused'), 'allowed', `writes ${key}`)
  }
  t.equal(await job.delete(buckets.output, 'runs/1/checkpoint'), 'allowed')
  t.equal(await job.delete(buckets.output, 'runs/10/checkpoint'), 'denied')
  t.equal(await job.list(buckets.output, 'runs/10/'), 'denied')
  t.equal(await job.list(buckets.output, 'runs/1'), 'denied', 'a listing that would show runs/10')
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})

await t.test('PATCH moves window and source while the key stays; rotate kills the old key', async t => {
  const soon = Date.now() + 3_600_000
  const ahead = { window: { notBefore: second(soon), notAfter: second(soon + 600_000) } }
  const { grant, credentials } = await service.issue({ ...trainingJob('everywhere'), ...openTo(here), ...ahead, waitUntilReady: true })
  const path = `/v1/grants/${grant.id}`
  const write = (from = here, keys = credentials) => jobFrom(from, keys).write(buckets.output, 'runs/42/checkpoint')
  const patched = async (change: object) => t.match(await service.call('PATCH', path, change), { status: 200, body: { state: 'active', attach: 'inline' } })
  t.equal(await write(), 'denied', 'before the window')
  await patched({ window: openTo(here).window })
  t.equal(await write(), 'allowed', 'in the window that it was moved to')
  t.match(await service.call('PATCH', path, ahead), { status: 422 }, 'not away from a job that runs')
  t.equal(await write(), 'allowed')

  await patched({ sourceIps: [elsewhere] })
  t.equal(await write(), 'denied', 'the source was moved')
  t.equal(await write(elsewhere), 'allowed', 'to where it is allowed')
  await patched({ sourceIps: ['127.0.0.0/30'] })
  for (const [from, wanted] of [[here, 'allowed'], [elsewhere, 'allowed'], ['127.0.0.4', 'denied'], ['::1', 'denied']] as const) {
    t.equal(await write(from), wanted, `127.0.0.0/30 from ${from}: ${wanted}`)
  }
  await patched({ sourceIps: ['::1'] })
  t.equal(await write('::1'), 'allowed', 'IPv6')
  t.equal(await write(), 'denied')
  await patched({ sourceIps: [here] })

  const rotate = async (body: object) => {
    const answer = await service.call<{ credentials: typeof credentials }>('POST', `${path}/rotate`, body)
    t.equal(answer.status, 200)
    return answer.body.credentials
  }
  const fresh = await rotate({})
  t.equal(await write(here, fresh), 'allowed', 'the fresh key works')
  t.equal(await write(), 'unknown-key', 'the old one does not')
  t.strictSame(await keysOf(grant.user.name), [fresh.accessKeyId])

  const third = await rotate({ overlapSeconds: 600 })
  t.equal(await write(here, third), 'allowed')
  t.equal(await write(here, fresh), 'allowed', 'in the overlap both work')
  t.strictSame((await keysOf(grant.user.name)).sort(), [fresh.accessKeyId, third.accessKeyId].sort())

  t.match(await service.call('DELETE', path), { status: 200, body: { state: 'revoked' } })
  t.equal(await write(here, third), 'unknown-key', 'revoked')
  t.equal(await write(here, fresh), 'unknown-key')
})

await t.test('waitUntilReady tells whose the key is; a retry gets the same grant and one live key', async t => {
  const request = { ...trainingJob('guarded'), job: { id: 'ready', team: 'nlp' }, ...openTo(here), waitUntilReady: true, attempt: '1' }
  const first = await service.issue(request)
  t.equal(first.ready, true)
  const again = await service.call<typeof first>('POST', '/v1/grants', request)
  t.match(again, { status: 200, body: { grant: { id: first.grant.id } } })
  t.equal(await jobFrom(here, first.credentials).read(buckets.data, 'wiki/1.parquet'), 'unknown-key', 'the lost key is dead')
  t.equal(await jobFrom(here, again.body.credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed')
  await service.call('DELETE', `/v1/grants/${first.grant.id}`)
})

await t.test('a client cannot say where it is', async t => {
  const { grant, credentials } = await service.issue({ ...trainingJob('everywhere'), job: { id: 'liar', team: 'nlp' }, ...openTo('203.0.113.42') })
  const client = s3(endpoint, credentials, here)
  t.teardown(() => client.destroy())
  client.middlewareStack.add(next => async args => {
    Object.assign((args.request as { headers: object }).headers, {
      'x-forwarded-for': '203.0.113.42', 'x-real-ip': '203.0.113.42', forwarded: 'for=203.0.113.42'
    })
    return next(args)
  }, { step: 'finalizeRequest', priority: 'low' })
  t.equal(await jobOf(client).read(buckets.data, 'wiki/1.parquet'), 'denied')
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})

await t.test('a key can do nothing at the IAM', async t => {
  const { grant, credentials } = await service.issue({ ...trainingJob('everywhere'), job: { id: 'curious', team: 'nlp' }, ...openTo(here) })
  const { accessKeyId, secretAccessKey } = credentials
  const client = new IAMClient({ endpoint: iamEndpoint, region: 'us-east-1', credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 })
  t.teardown(() => client.destroy())
  const calls: Array<[what: string, call: () => Promise<unknown>]> = [
    ['makes a key', () => client.send(new CreateAccessKeyCommand({}))],
    ['lists its keys', () => client.send(new ListAccessKeysCommand({}))],
    ['lists the users', () => client.send(new ListUsersCommand({}))],
    ['makes a user', () => client.send(new CreateUserCommand({ UserName: 'mine' }))],
    ['changes its policy', () => client.send(new PutUserPolicyCommand({
      UserName: grant.user.name, PolicyName: 'job-access', PolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] })
    }))]
  ]
  for (const [what, call] of calls) t.equal(await outcome(call), 'denied', what)
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})

t.test('names of orchestrators and of Spark, taken as they are', async t => {
  const access = oddNames.map(([prefix]) => ({ bucket: buckets.output, prefix, level: 'read-write' }))
  const { grant, credentials } = await service.issue({ job: { id: 'job[3] #17%', team: 'nlp' }, access, ...openTo(here) })
  const job = jobFrom(here, credentials)
  const { Tags = [] } = await iam.send(new ListUserTagsCommand({ UserName: grant.user.name }))
  t.equal(Tags.find(({ Key }) => Key === 'job-access:job')?.Value, '=job=5B3=5D=20=2317=25')
  for (const odd of oddNames) {
    for (const [what, wanted, ask] of oddMatrix(odd)) t.equal(await ask(job), wanted, `${odd[0]}: ${what}: ${wanted}`)
  }
  t.match(await service.call('GET', `/v1/grants?job=${encodeURIComponent('job[3] #17%')}`), { body: { grants: [{ id: grant.id }] } })
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})
