import {
  AttachUserPolicyCommand, CreateAccessKeyCommand, CreatePolicyCommand, CreateUserCommand, IAMClient, ListAccessKeysCommand,
  ListPoliciesCommand, ListUsersCommand
} from '@aws-sdk/client-iam'
import t from 'tap'
import { principalName } from '../../../src/iam/names.ts'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { eventually, jobOf, s3, second, type Keys } from '../job.ts'
import { startService } from '../service.ts'
import { buckets, fill, trainingJob } from '../store.ts'

// What is left over: by an expired grant, by a lost ledger, by a job that makes itself keys.

const weed = await startSeaweedfs()
t.teardown(() => weed.stop())
const client = ({ accessKeyId, secretAccessKey }: Keys) => {
  const made = new IAMClient({ endpoint: weed.endpoint, region: 'us-east-1', credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 })
  t.teardown(() => made.destroy())
  return made
}
const iam = client(weed.admin)
const admin = s3(weed.endpoint, weed.admin)
t.teardown(() => admin.destroy())
await fill(admin)
const service = await startService(t, {
  provider: 'seaweedfs', endpoint: weed.endpoint, admin: weed.admin, env: { JOB_ACCESS_SWEEP_SECONDS: '1' }
})
const jobWith = (keys: Keys) => {
  const made = s3(weed.endpoint, keys)
  t.teardown(() => made.destroy())
  return jobOf(made)
}
const users = async () => (await iam.send(new ListUsersCommand({}))).Users?.map(user => user.UserName ?? '') ?? []
const policies = async () => (await iam.send(new ListPoliciesCommand({ Scope: 'Local' }))).Policies?.map(policy => policy.PolicyName ?? '') ?? []
const request = { ...trainingJob('everywhere'), sourceIps: ['127.0.0.1'] }

t.test('the sweeper removes an expired grant', async t => {
  const { grant, credentials } = await service.issue({
    ...request, window: { notBefore: second(Date.now() - 60_000), notAfter: second(Date.now() + 3_000) }
  })
  const job = jobWith(credentials)
  t.equal(await eventually(() => job.read(buckets.data, 'wiki/1.parquet'), 'unknown-key'), 'unknown-key', 'the key is gone')
  const state = async () => (await service.call('GET', `/v1/grants/${grant.id}`)).body.state
  t.equal(await eventually(state, 'expired'), 'expired')
  t.notOk((await users()).includes(grant.user.name))
  t.notOk((await policies()).includes(grant.user.name))
})

/** What a lost ledger leaves: a user with policy and key, named as the service names them. */
const leave = async (name: string, ends: number): Promise<void> => {
  await iam.send(new CreateUserCommand({ UserName: name }))
  const { Policy } = await iam.send(new CreatePolicyCommand({
    PolicyName: name,
    PolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{
        Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::acme-datasets/*'], Condition: { DateLessThan: { 'aws:CurrentTime': second(ends) } }
      }]
    })
  }))
  await iam.send(new AttachUserPolicyCommand({ UserName: name, PolicyArn: Policy?.Arn }))
  await iam.send(new CreateAccessKeyCommand({ UserName: name }))
}

t.test('reconcile removes strays that are over, and nothing else', async t => {
  const over = Date.now() - 60_000
  const running = Date.now() + 600_000
  const ids = ['01k0000000000000000000000a', '01k0000000000000000000000b', '01k0000000000000000000000c'] as const
  const stray = principalName('ja', 'lost', over, ids[0])
  const extended = principalName('ja', 'extended', over, ids[1])
  const young = principalName('ja', 'young', running, ids[2])
  await leave(stray, over)
  await leave(extended, running)
  await leave(young, running)
  for (const name of ['somebody', 'ja-somebody', 'jane-20250716t040000z-01k0000000000000000000000d']) {
    await iam.send(new CreateUserCommand({ UserName: name }))
  }
  const { grant } = await service.issue({ ...request, job: { id: 'alive', team: 'nlp' }, window: { durationSeconds: 600 } })

  const dry = await service.reconcile('--dry-run')
  t.match(dry.findings, [{ kind: 'stray', name: stray, done: false }], 'nobody else is reported')
  t.ok((await users()).includes(stray), 'a dry run removes nothing')

  const { findings, summary } = await service.reconcile()
  t.match(findings, [{ kind: 'stray', name: stray, done: true }])
  t.match(summary, /, 1 found, 0 failed$/)
  const left = await users()
  t.notOk(left.includes(stray))
  t.notOk((await policies()).includes(stray), 'nor its policy')
  for (const name of [extended, young, grant.user.name, 'somebody', 'ja-somebody', 'jane-20250716t040000z-01k0000000000000000000000d']) {
    t.ok(left.includes(name), `${name} is left alone`)
  }
  t.strictSame((await service.reconcile()).findings, [], 'nothing is left to find')
  t.match(await service.call('GET', `/v1/grants/${grant.id}`), { body: { state: 'active' } })
})

t.test('keys that a job made for itself die with a rotation, and with the grant', async t => {
  const { grant, credentials } = await service.issue({ ...request, job: { id: 'thief', team: 'nlp' }, window: { durationSeconds: 600 } })
  const multiply = async (keys: typeof credentials) => {
    const { AccessKey } = await client(keys).send(new CreateAccessKeyCommand({}))
    return { accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: AccessKey?.SecretAccessKey ?? '' }
  }
  const stolen = await multiply(credentials)
  t.equal(await eventually(() => jobWith(stolen).read(buckets.data, 'wiki/1.parquet'), 'allowed'), 'allowed', 'SeaweedFS lets a key do so')

  const rotated = await service.call<{ credentials: typeof credentials }>('POST', `/v1/grants/${grant.id}/rotate`, {})
  t.equal(await eventually(() => jobWith(stolen).read(buckets.data, 'wiki/1.parquet'), 'unknown-key'), 'unknown-key', 'the rotation found it')
  const { AccessKeyMetadata: keys } = await iam.send(new ListAccessKeysCommand({ UserName: grant.user.name }))
  t.strictSame(keys?.map(key => key.AccessKeyId), [rotated.body.credentials.accessKeyId], 'one key is left')

  const again = await multiply(rotated.body.credentials)
  t.match(await service.call('POST', `/v1/grants/${grant.id}/complete`), { status: 200 })
  t.equal(await eventually(() => jobWith(again).read(buckets.data, 'wiki/1.parquet'), 'unknown-key'), 'unknown-key', 'it died with the user')
})
