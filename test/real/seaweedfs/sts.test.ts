import { CreateBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { AttachUserPolicyCommand, CreateAccessKeyCommand, CreatePolicyCommand, CreateUserCommand, IAMClient, ListUsersCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { createIam } from '../../../src/iam/client.ts'
import { dialects } from '../../../src/iam/dialects/index.ts'
import { userProvisioner } from '../../../src/iam/user-provisioner.ts'
import { withoutSts } from '../../../src/iam/without-sts.ts'
import { defaultLimits } from '../../../src/policy/limits.ts'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { eventually, jobOf, s3, second } from '../job.ts'
import { trainingJob } from '../store.ts'
import { accessOf } from '../../harness.ts'

// With an STS configuration SeaweedFS 4.48 evaluates policies without aws:CurrentTime: why nothing is issued there.

const setUp = async (sts: boolean) => {
  const weed = await startSeaweedfs({ sts })
  const sdk = new IAMClient({ endpoint: weed.endpoint, region: 'us-east-1', credentials: weed.admin })
  const iam = createIam({ region: 'us-east-1', endpoint: weed.endpoint, stsEndpoint: weed.endpoint, credentials: weed.admin })
  t.teardown(async () => {
    sdk.destroy()
    iam.close()
    await weed.stop()
  })
  const dialect = dialects.seaweedfs
  const { tagged, policyVersions, identityProbe, selfService } = dialect
  const plain = userProvisioner({ iam, prefix: 'ja', tagged, policyVersions, identityProbe, selfService, now: Date.now })
  const rules = { limits: { ...defaultLimits, allowPrivateSourceIps: true }, dialect, profiles: {} }
  const request = { ...trainingJob('guarded'), window: { durationSeconds: 600 }, sourceIps: ['127.0.0.1'] }
  const plan = {
    ref: { name: 'ja-job-20250716t040000z-01k0000000000000000000000a', path: '/', policyArn: null, roleArn: null },
    attachment: 'managed' as const,
    policy: accessOf(rules, request, Date.now()).policy,
    tags: {},
    withKey: true
  }
  const users = async () => (await sdk.send(new ListUsersCommand({}))).Users?.map(({ UserName }) => UserName) ?? []
  return { weed, sdk, principals: withoutSts(plain, iam), plan, users }
}

t.test('with STS: not ready, and nothing is issued', async t => {
  const { principals, plan, users } = await setUp(true)
  const refused = { kind: 'unsupported', providerCode: 'StsConfigured' }
  t.match(await principals.ping(Date.now() + 5_000).catch((error: unknown) => error), refused)
  t.match(await principals.create(plan, Date.now() + 5_000).catch((error: unknown) => error), refused)
  t.notOk((await users()).includes(plan.ref.name))
})

t.test('without: ready, and issued', async t => {
  const { principals, plan, users } = await setUp(false)
  await principals.ping(Date.now() + 5_000)
  t.match(await principals.create(plan, Date.now() + 5_000), { credentials: { accessKeyId: /./ } })
  t.ok((await users()).includes(plan.ref.name))
})

t.test('the reason: there a Deny by time does not close', async t => {
  const over = { Effect: 'Deny', Action: 's3:*', Resource: '*', Condition: { DateGreaterThanEquals: { 'aws:CurrentTime': second(Date.now() - 3_600_000) } } }
  const policy = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::reason/*'] }, over] }
  for (const [sts, read] of [[true, 'allowed'], [false, 'denied']] as const) {
    const { weed, sdk } = await setUp(sts)
    const admin = s3(weed.endpoint, weed.admin)
    await admin.send(new CreateBucketCommand({ Bucket: 'reason' }))
    await admin.send(new PutObjectCommand({ Bucket: 'reason', Key: 'a', Body: 'x' }))
    await sdk.send(new CreateUserCommand({ UserName: 'job' }))
    const { Policy } = await sdk.send(new CreatePolicyCommand({ PolicyName: 'job', PolicyDocument: JSON.stringify(policy) }))
    await sdk.send(new AttachUserPolicyCommand({ UserName: 'job', PolicyArn: Policy?.Arn }))
    const { AccessKey } = await sdk.send(new CreateAccessKeyCommand({ UserName: 'job' }))
    const client = s3(weed.endpoint, { accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: AccessKey?.SecretAccessKey ?? '' })
    t.teardown(() => { admin.destroy(); client.destroy() })
    t.equal(await eventually(() => jobOf(client).read('reason', 'a'), read), read, sts ? 'with STS: open an hour after its end' : 'without: closed')
  }
})
