import {
  GetPolicyCommand, GetPolicyVersionCommand, GetUserPolicyCommand, IAMClient, ListAttachedUserPoliciesCommand, ListPoliciesCommand,
  ListUsersCommand
} from '@aws-sdk/client-iam'
import t from 'tap'
import { startLocalstack } from '../../servers/localstack.ts'
import { startService } from '../service.ts'
import { trainingJob } from '../store.ts'

// Workers that share one managed policy, as the provider sees it.

const localstack = await startLocalstack()
t.teardown(() => localstack.stop())
const admin = { accessKeyId: 'test', secretAccessKey: 'test' }
const iam = new IAMClient({ region: 'us-east-1', endpoint: localstack.endpoint, credentials: admin })
t.teardown(() => iam.destroy())
const service = await startService(t, { provider: 'localstack', endpoint: localstack.endpoint, admin })

interface View { grant: { id: string, user: { name: string, policyArn: string | null }, policy: { Statement: object[] } } }

const read = (text = '') => (JSON.parse(text.startsWith('{') ? text : decodeURIComponent(text)) as { Statement: object[] }).Statement
const policies = async () => (await iam.send(new ListPoliciesCommand({ Scope: 'Local', PathPrefix: '/job-access/' }))).Policies ?? []
const shared = async (PolicyArn: string) => {
  const { Policy } = await iam.send(new GetPolicyCommand({ PolicyArn }))
  return read((await iam.send(new GetPolicyVersionCommand({ PolicyArn, VersionId: Policy?.DefaultVersionId }))).PolicyVersion?.Document)
}
/** Every statement that holds for a user. */
const inForce = async (UserName: string) => {
  const { AttachedPolicies = [] } = await iam.send(new ListAttachedUserPoliciesCommand({ UserName }))
  const { PolicyDocument } = await iam.send(new GetUserPolicyCommand({ UserName, PolicyName: 'job-access' }))
  return [...(await Promise.all(AttachedPolicies.map(({ PolicyArn = '' }) => shared(PolicyArn)))).flat(), ...read(PolicyDocument)]
}

t.test('join, change more often than a policy has versions, end', async t => {
  const job = trainingJob('everywhere')
  const { body: { grant } } = await service.call<View>('POST', '/v1/grants', {
    ...job, job: { id: 'shared', team: 'nlp' }, window: { durationSeconds: 600 }, attach: 'managed', workers: { max: 8 }
  })
  const workers = `/v1/grants/${grant.id}/workers`
  for (const n of [1, 2, 3]) {
    t.match(await service.call('POST', workers, { name: `rank-${n}`, sourceIps: [`203.0.113.${n}`] }), { status: 201 })
  }
  t.strictSame((await policies()).map(({ Arn, AttachmentCount }) => [Arn, AttachmentCount]), [[grant.user.policyArn, 3]], 'one, attached three times')
  for (let hours = 1; hours <= 7; hours++) {
    t.equal((await service.call('PATCH', `/v1/grants/${grant.id}`, { window: { durationSeconds: hours * 3600 } })).status, 200, `change ${hours}`)
    for (const n of [1, 2, 3]) {
      const { body } = await service.call<View['grant']>('GET', `${workers}/rank-${n}`)
      t.strictSame(await inForce(body.user.name), body.policy.Statement, `rank-${n} has what the service says, in the new window`)
    }
  }
  t.match(await service.call('DELETE', `${workers}/rank-1`), { status: 200 })
  t.match(await service.reconcile(), { findings: [] }, 'nothing of a living job is a stray')
  t.match(await service.call('POST', `/v1/grants/${grant.id}/complete`), { status: 200 })
  t.strictSame(await policies(), [])
  t.strictSame((await iam.send(new ListUsersCommand({ PathPrefix: '/job-access/' }))).Users, [])
})
