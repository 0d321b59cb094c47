import { IAMClient, ListUsersCommand } from '@aws-sdk/client-iam'
import { CreateBucketCommand, ListObjectsV2Command } from '@aws-sdk/client-s3'
import t from 'tap'
import { startLocalstack } from '../../servers/localstack.ts'
import { s3 } from '../job.ts'
import { proveStore } from '../prove-store.ts'

const { endpoint, stop } = await startLocalstack()
t.teardown(stop)
const admin = { accessKeyId: 'test', secretAccessKey: 'test' }
const owner = s3(endpoint, admin)
const iam = new IAMClient({ endpoint, region: 'us-east-1', credentials: admin })
t.teardown(() => { owner.destroy(); iam.destroy() })

t.test('a store that takes every call and enforces nothing is found out', async t => {
  await owner.send(new CreateBucketCommand({ Bucket: 'proof' }))
  const { status, proof } = await proveStore({
    provider: 'localstack', iamEndpoint: endpoint, endpoint, admin, args: ['--bucket', 'proof', '--patience', '1']
  })
  t.equal(status, 1)
  t.match(proof, { ok: false, failure: null, left: [] })
  const open = proof.checks.filter(({ wanted }) => wanted !== 'allowed')
  t.ok(open.length >= 10)
  for (const { what, ok, seen } of open) t.match({ ok, seen }, { ok: false, seen: 'allowed' }, what)
  t.ok(proof.checks.filter(({ wanted }) => wanted === 'allowed').every(({ ok }) => ok), 'what is granted works')
  t.strictSame((await iam.send(new ListUsersCommand({}))).Users ?? [], [], 'no user is left')
  t.notOk((await owner.send(new ListObjectsV2Command({ Bucket: 'proof' }))).Contents, 'and no object')
})
