import {
  AttachUserPolicyCommand, CreateAccessKeyCommand, CreatePolicyCommand, CreateUserCommand, GetPolicyCommand, GetPolicyVersionCommand,
  IAMClient, ListAccessKeysCommand, ListPoliciesCommand, ListUsersCommand, PutUserPolicyCommand
} from '@aws-sdk/client-iam'
import t from 'tap'
import { principalName, principalPath } from '../../../src/iam/names.ts'
import { startLocalstack } from '../../servers/localstack.ts'
import { second } from '../job.ts'
import { startService } from '../service.ts'
import { trainingJob } from '../store.ts'

// Managed policies, retries and strays, as the provider sees them.

const localstack = await startLocalstack()
t.teardown(() => localstack.stop())
const admin = { accessKeyId: 'test', secretAccessKey: 'test' }
const iam = new IAMClient({ region: 'us-east-1', endpoint: localstack.endpoint, credentials: admin })
t.teardown(() => iam.destroy())
const service = await startService(t, {
  provider: 'localstack', endpoint: localstack.endpoint, admin, env: { JOB_ACCESS_SWEEP_PER_SECOND: '100' }
})

const users = async () => ((await iam.send(new ListUsersCommand({ PathPrefix: '/job-access/' }))).Users ?? []).map(user => user.UserName ?? '')
const policies = async () => (await iam.send(new ListPoliciesCommand({ Scope: 'Local', PathPrefix: '/job-access/' }))).Policies ?? []
const keys = async (UserName: string) =>
  ((await iam.send(new ListAccessKeysCommand({ UserName }))).AccessKeyMetadata ?? []).map(key => key.AccessKeyId)
const request = (id: string) => ({
  ...trainingJob('everywhere'), job: { id, team: 'nlp' }, window: { durationSeconds: 600 }, sourceIps: ['203.0.113.42']
})

t.test('more changes of a managed policy than it keeps versions', async t => {
  const { grant } = await service.issue({ ...request('versions'), attach: 'managed' })
  for (let hours = 1; hours <= 7; hours++) {
    const changed = await service.call('PATCH', `/v1/grants/${grant.id}`, { window: { durationSeconds: hours * 3600 } })
    t.equal(changed.status, 200, `change ${hours}`)
    const [policy] = await policies()
    const { Policy } = await iam.send(new GetPolicyCommand({ PolicyArn: policy?.Arn }))
    const { PolicyVersion } = await iam.send(new GetPolicyVersionCommand({ PolicyArn: policy?.Arn, VersionId: Policy?.DefaultVersionId }))
    const text = PolicyVersion?.Document ?? ''
    t.strictSame(JSON.parse(text.startsWith('{') ? text : decodeURIComponent(text)), changed.body.policy, 'the one in force is the last')
  }
  t.match(await service.call('POST', `/v1/grants/${grant.id}/complete`), { status: 200 })
  t.strictSame(await policies(), [], 'no version is left')
  t.strictSame(await users(), [])
})

t.test('a retry gets the same grant, and one live key', async t => {
  const retry = { ...request('retry'), attempt: '1' }
  const first = await service.issue(retry)
  t.match(await service.call('POST', '/v1/grants', request('retry')), { status: 409, body: { code: 'key-delivered' } })
  t.strictSame(await keys(first.grant.user.name), [first.credentials.accessKeyId], 'who does not say that it is one ends no key')
  const again = await service.call<typeof first>('POST', '/v1/grants', retry)
  t.equal(again.status, 200)
  t.equal(again.body.grant.id, first.grant.id)
  t.strictSame(await keys(first.grant.user.name), [again.body.credentials.accessKeyId], 'the lost key is dead')
  t.match(await service.call('POST', '/v1/grants', { ...retry, layout: 'guarded' }), { status: 409, body: { code: 'idempotency-conflict' } })
  await service.call('DELETE', `/v1/grants/${first.grant.id}`)
})

t.test('a scheduled grant has no key before its time', async t => {
  const issueAt = second(Date.now() + 3_600_000)
  const { status, body } = await service.call<{ grant: { id: string }, credentials: null }>('POST', '/v1/grants', {
    ...request('later'), window: { notBefore: issueAt, durationSeconds: 600 }, issueAt
  })
  t.match({ status, body }, { status: 201, body: { credentials: null, grant: { state: 'pending' } } })
  t.strictSame(await users(), [], 'nobody was made')
  t.match(await service.call('POST', `/v1/grants/${body.grant.id}/credentials`, {}), { status: 409, body: { code: 'grant-state' } })
  t.match(await service.call('DELETE', `/v1/grants/${body.grant.id}`), { status: 200 })
})

t.test('ready: the key is known, and whose it is', async t => {
  const { ready, grant } = await service.issue({ ...request('ready'), waitUntilReady: true })
  t.equal(ready, true)
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})

t.test('reconcile removes more than a hundred strays with all that hangs on them, and leaves the rest', async t => {
  const over = Date.now() - 60_000
  const names = Array.from({ length: 110 }, (_, index) => principalName('ja', `stray-${index}`, over, `01k${String(index).padStart(23, '0')}`))
  const document = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::a/*'] }] })
  for (const [index, UserName] of names.entries()) {
    await iam.send(new CreateUserCommand({ UserName, Path: principalPath('/job-access/', over) }))
    await iam.send(new CreateAccessKeyCommand({ UserName }))
    if (index % 2 === 0) {
      await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'job-access', PolicyDocument: document }))
    } else {
      const { Policy } = await iam.send(new CreatePolicyCommand({ PolicyName: UserName, Path: principalPath('/job-access/', over), PolicyDocument: document }))
      await iam.send(new AttachUserPolicyCommand({ UserName, PolicyArn: Policy?.Arn }))
    }
  }
  await iam.send(new CreateUserCommand({ UserName: 'somebody', Path: '/job-access/by-hand/' }))
  await iam.send(new CreateUserCommand({ UserName: 'elsewhere' }))
  const { grant } = await service.issue(request('alive'))

  const dry = await service.reconcile('--dry-run')
  t.equal(dry.findings.filter(finding => finding.kind === 'stray').length, 110)
  t.match(dry.findings.find(finding => finding.kind === 'foreign'), { name: 'somebody' }, 'not named like ours: told, and left')
  t.equal((await users()).length, 112, 'a dry run removes nothing')

  const { findings, summary } = await service.reconcile()
  t.strictSame(findings.filter(finding => finding.kind === 'stray').map(finding => finding.name).sort(), [...names].sort())
  t.match(summary, /, 111 found, 0 failed$/)
  t.strictSame((await users()).sort(), [grant.user.name, 'somebody'].sort())
  t.strictSame(await policies(), [], 'nor their policies')
  t.match(await service.call('GET', `/v1/grants/${grant.id}`), { body: { state: 'active' } })
})
