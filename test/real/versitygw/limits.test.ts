import { CreateUserCommand, GetUserCommand, GetUserPolicyCommand, ListAccessKeysCommand, ListUsersCommand, PutUserPolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { principalName, principalPath } from '../../../src/iam/names.ts'
import { buckets, trainingJob } from '../store.ts'
import { here, openTo, startGateway } from './gateway.ts'

// What VersityGW 1.8.0 has not: why there is a provider `versitygw`, and what `aws` would do there.

const { iam, jobFrom, serve } = await startGateway(t)
const users = async () => ((await iam.send(new ListUsersCommand({}))).Users ?? []).map(user => user.UserName)
const job = () => ({ ...trainingJob('everywhere'), ...openTo(here) })

t.test('provider versitygw', async t => {
  const service = await serve({ provider: 'versitygw' })

  await t.test('what cannot be expressed is refused, and nothing is made', async t => {
    const { sourceIps: _, ...anywhere } = job()
    const kmsKeyArns = ['arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab']
    const cases: Array<[string, object, string]> = [
      ['managed policies', { ...job(), attach: 'managed' }, '/attach'],
      ['sessions', { ...job(), attach: 'session' }, '/attach'],
      ['VPCs', { ...anywhere, vpc: { vpcIds: ['vpc-01234567'] } }, '/vpc'],
      ['KMS', { ...job(), datasets: [{ bucket: buckets.data, kmsKeyArns }] }, '/datasets/0/kmsKeyArns']
    ]
    for (const [what, request, pointer] of cases) {
      t.match(await service.call('POST', '/v1/grants', request), { status: 422, body: { code: 'dialect-unfit', pointer } }, what)
    }
    t.strictSame(await users(), [])
  })

  const padded = (id: string, padding: string) => ({
    ...job(), job: { id, team: 'nlp' }, access: [{ bucket: buckets.models, prefix: `llama/${padding}`, level: 'read', list: false }]
  })
  const length = (policy: unknown) => JSON.stringify(policy).length

  await t.test('the longest policy has 2,048 bytes: all inline policies of a user together, white space included', async t => {
    const short = await service.issue(padded('short', 'x'))
    const room = 2048 - length(short.grant.policy) + 1
    const longest = await service.issue(padded('longest', 'x'.repeat(room)))
    t.equal(length(longest.grant.policy), 2048)
    t.equal(longest.grant.attach, 'inline')
    t.equal(await jobFrom(here, longest.credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed')
    t.match(await service.call('POST', '/v1/grants', padded('too-long', 'x'.repeat(room + 1))),
      { status: 422, body: { code: 'policy-too-large', detail: /2049 characters.*at most 2048/ } })

    const UserName = longest.grant.user.name
    const { PolicyDocument = '' } = await iam.send(new GetUserPolicyCommand({ UserName, PolicyName: 'job-access' }))
    const limit = { name: 'LimitExceededException' }
    await t.rejects(iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'job-access', PolicyDocument: `${decodeURIComponent(PolicyDocument)} ` })), limit)
    const another = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Deny', Action: '*', Resource: '*' }] })
    await t.rejects(iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'another', PolicyDocument: another })), limit)

    t.strictSame((await users()).sort(), [short, longest].map(({ grant }) => grant.user.name).sort())
    for (const { grant } of [short, longest]) await service.call('DELETE', `/v1/grants/${grant.id}`)
  })
})

t.test('provider aws there', async t => {
  const service = await serve({ env: { JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::000000000000:policy/job-access-boundary' } })

  await t.test('a permissions boundary is dropped without an error', async t => {
    const { grant } = await service.issue(job())
    const { User } = await iam.send(new GetUserCommand({ UserName: grant.user.name }))
    t.equal(User?.UserName, grant.user.name)
    t.equal(User?.PermissionsBoundary, undefined)
    await service.call('DELETE', `/v1/grants/${grant.id}`)
  })

  await t.test('a managed policy fails, and its user stays, without a key', async t => {
    const request = { ...job(), job: { id: 'managed', team: 'nlp' }, attach: 'managed' }
    t.match(await service.call('POST', '/v1/grants', request), { status: 502, body: { code: 'iam-refused', detail: 'CreatePolicy was refused (InvalidAction).' } })
    const [left] = await users()
    t.match(left, /^ja-managed-/)
    t.strictSame((await iam.send(new ListAccessKeysCommand({ UserName: left }))).AccessKeyMetadata ?? [], [])
  })

  await t.test('reconcile cannot look at a stray', async t => {
    const ends = Date.now() - 60_000
    const UserName = principalName('ja', 'lost', ends, `01k${'a'.repeat(23)}`)
    await iam.send(new CreateUserCommand({ UserName, Path: principalPath('/job-access/', ends) }))
    const failed = await service.reconcile().catch((error: unknown) => error)
    t.match(failed, { stdout: /, 0 found, 1 failed$/m, stderr: /ListAttachedUserPolicies: unsupported \(InvalidAction\)/ })
    t.ok((await users()).includes(UserName))
  })
})
