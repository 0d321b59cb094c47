import { IAMClient, GetUserCommand, GetUserPolicyCommand, ListAccessKeysCommand, ListAttachedUserPoliciesCommand, ListUsersCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { guideRequest } from '../../../src/request.ts'
import { startLocalstack } from '../../servers/localstack.ts'
import { startService } from '../service.ts'

/** The whole life of grants over the wire of an AWS that we did not write; its state is read with a client of the test's own. */

const localstack = await startLocalstack()
t.teardown(() => localstack.stop())
const admin = { accessKeyId: 'test', secretAccessKey: 'test' }
const iam = new IAMClient({ region: 'us-east-1', endpoint: localstack.endpoint, credentials: admin })
t.teardown(() => iam.destroy())
const job = (id: string, change: object = {}) => ({ ...guideRequest, job: { id, team: 'nlp' }, ...change })
const users = async () => ((await iam.send(new ListUsersCommand({ PathPrefix: '/job-access/' }))).Users ?? []).map(user => user.UserName)

t.test('issue inline, extend, rotate, complete', async t => {
  const service = await startService(t, { provider: 'localstack', endpoint: localstack.endpoint, admin })
  const { grant, credentials } = await service.issue(job('inline'))
  const UserName = grant.user.name
  const { User } = await iam.send(new GetUserCommand({ UserName }))
  t.equal(User?.Path, grant.user.path)
  t.match(User?.Tags, [{ Key: 'job-access:grant', Value: grant.id }])
  const put = async () => JSON.parse(decodeURIComponent((await iam.send(new GetUserPolicyCommand({ UserName, PolicyName: 'job-access' }))).PolicyDocument ?? ''))
  t.strictSame(await put(), grant.policy)
  const keys = async () => ((await iam.send(new ListAccessKeysCommand({ UserName }))).AccessKeyMetadata ?? []).map(key => key.AccessKeyId)
  t.strictSame(await keys(), [credentials.accessKeyId])

  const changed = await service.call('PATCH', `/v1/grants/${grant.id}`, { sourceIps: ['198.51.100.7'] })
  t.equal(changed.status, 200)
  t.match(JSON.stringify(await put()), /198\.51\.100\.7\/32/)
  t.strictSame(await keys(), [credentials.accessKeyId], 'the key stays')

  const rotated = await service.call<{ credentials: { accessKeyId: string } }>('POST', `/v1/grants/${grant.id}/rotate`, { overlapSeconds: 0 })
  t.equal(rotated.status, 200)
  t.strictSame(await keys(), [rotated.body.credentials.accessKeyId])

  const done = await service.call('POST', `/v1/grants/${grant.id}/complete`)
  t.equal(done.status, 200)
  t.equal(done.body.state, 'revoked')
  await t.rejects(iam.send(new GetUserCommand({ UserName })), { name: 'NoSuchEntityException' })
})

t.test('a large policy is managed, and goes with its grant', async t => {
  const service = await startService(t, { provider: 'localstack', endpoint: localstack.endpoint, admin })
  const datasets = Array.from({ length: 5 }, (_, index) => ({ bucket: `acmeco-training-datasets-with-a-long-name-${index}`, prefix: 'shards/' }))
  const { grant } = await service.issue(job('managed', { datasets }))
  t.equal(grant.attach, 'managed')
  const attached = await iam.send(new ListAttachedUserPoliciesCommand({ UserName: grant.user.name }))
  t.match(attached.AttachedPolicies, [{ PolicyName: grant.user.name }])
  t.equal((await service.call('DELETE', `/v1/grants/${grant.id}`)).body.state, 'revoked')
  t.notOk((await users()).includes(grant.user.name))
})

t.test('more than a hundred users; what expires is swept; what the ledger does not know is reconciled', async t => {
  const service = await startService(t, { provider: 'localstack', endpoint: localstack.endpoint, admin, env: { JOB_ACCESS_SWEEP_SECONDS: '1', JOB_ACCESS_SWEEP_PER_SECOND: '100', JOB_ACCESS_RATE_PER_MINUTE: '100000' } })
  const soon = new Date(Date.now() + 45_000).toISOString().replace(/\.\d+/, '')
  const grants = await Promise.all(Array.from({ length: 105 }, (_, index) => service.issue(job(`many-${index}`, { window: { notAfter: soon } }))))
  const names = grants.map(({ grant }) => grant.user.name)
  const before = await users()
  t.ok(names.every(name => before.includes(name)))
  const deadline = Date.now() + 120_000
  while (Date.now() < deadline && (await users()).some(name => names.includes(name ?? ''))) await new Promise(resolve => setTimeout(resolve, 1000))
  t.notOk((await users()).some(name => names.includes(name ?? '')), 'all are swept')

  // Another service with an empty ledger: it knows nobody here.
  const left = await service.issue(job('left', { window: { notAfter: new Date(Date.now() + 120_000).toISOString().replace(/\.\d+/, '') } }))
  const stranger = await startService(t, { provider: 'localstack', endpoint: localstack.endpoint, admin })
  const early = await stranger.reconcile()
  t.notOk(early.findings.some(finding => finding.name === left.grant.user.name), 'not while its window is open')
})
