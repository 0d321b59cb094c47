import { CreateRoleCommand, IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import { join } from 'node:path'
import t from 'tap'
import { here } from '../../servers/daemon.ts'
import { startRgw } from '../../servers/rgw.ts'
import { s3 } from '../job.ts'
import { proveStore } from '../prove-store.ts'
import { buckets, fill } from '../store.ts'

// Sessions where the store enforces them: by what the doctor found of it, and a profile.

const rgw = await startRgw()
t.teardown(() => rgw.stop())
const owner = s3(rgw.endpoint, rgw.admin)
const iam = new IAMClient({ endpoint: rgw.endpoint, region: 'us-east-1', credentials: rgw.admin })
t.teardown(() => { owner.destroy(); iam.destroy() })
await fill(owner)
const policy = (more: object) => JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', ...more }] })
const { Role } = await iam.send(new CreateRoleCommand({
  RoleName: 'jobs', AssumeRolePolicyDocument: policy({ Principal: { AWS: ['arn:aws:iam:::user/admin'] }, Action: ['sts:AssumeRole'] })
}))
await iam.send(new PutRolePolicyCommand({ RoleName: 'jobs', PolicyName: 'all', PolicyDocument: policy({ Action: ['s3:*'], Resource: ['*'] }) }))

t.test('a whole grant by sessions: everything is so, and what sessions cannot do is said', async t => {
  const profile = { name: 'default', roleArn: Role?.Arn, maxSessionSeconds: 3600, chained: false, revocable: false }
  const { status, stderr, proof } = await proveStore({
    provider: 'custom',
    iamEndpoint: rgw.endpoint,
    endpoint: rgw.endpoint,
    admin: rgw.admin,
    env: {
      JOB_ACCESS_DIALECT_FILE: join(here, '..', '..', 'docs', 'stores', 'ceph.json'),
      JOB_ACCESS_PROFILES: join(t.testdir({ 'profiles.json': JSON.stringify([profile]) }), 'profiles.json')
    },
    args: ['--bucket', buckets.data, '--patience', '3', '--attach', 'session']
  })
  t.equal(stderr, '')
  t.equal(status, 0)
  t.match(proof, { ok: true, failure: null, untried: [/rotation ends the session before/, /completion ends the sessions/], left: [] })
  t.strictSame(proof.checks.filter(({ ok }) => !ok), [])
  t.equal(proof.checks.length, 19)
  const { Contents = [] } = await owner.send(new ListObjectsV2Command({ Bucket: buckets.data, Prefix: 'job-access-proof/' }))
  t.strictSame(Contents, [])
})
