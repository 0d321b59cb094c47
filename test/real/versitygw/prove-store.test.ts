import { CreateUserCommand, DeleteUserCommand, ListUsersCommand } from '@aws-sdk/client-iam'
import { DeleteObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3'
import { join } from 'node:path'
import t from 'tap'
import { principalName, principalPath } from '../../../src/iam/names.ts'
import { here } from '../../servers/daemon.ts'
import { s3 } from '../job.ts'
import { proveStore } from '../prove-store.ts'
import { buckets } from '../store.ts'
import { startGateway } from './gateway.ts'

const { iam, admin, iamEndpoint, endpoint } = await startGateway(t)
const owner = s3(endpoint, admin)
t.teardown(() => owner.destroy())
const prove = (args: string[], provider = 'versitygw', env = {}) =>
  proveStore({ provider, iamEndpoint, endpoint, admin, env, args: ['--patience', '3', ...args] })
const nothingIsLeft = async () => {
  t.strictSame((await iam.send(new ListUsersCommand({}))).Users ?? [], [], 'no user')
  const { Contents = [] } = await owner.send(new ListObjectsV2Command({ Bucket: buckets.data, Prefix: 'job-access-proof/' }))
  t.strictSame(Contents, [], 'and no object')
}

t.test('a store that enforces: everything is so, in both layouts, as AWS, and by what the doctor found', async t => {
  const runs = await Promise.all([
    prove(['--bucket', buckets.data]),
    prove(['--bucket', buckets.data, '--layout', 'guarded']),
    prove(['--bucket', buckets.data, '--attach', 'inline'], 'aws', { JOB_ACCESS_ALLOW: 'no-boundary' }),
    prove(['--bucket', buckets.data], 'custom', { JOB_ACCESS_DIALECT_FILE: join(here, '..', '..', 'docs', 'stores', 'versitygw.json') })
  ])
  for (const { status, stderr, proof } of runs) {
    t.equal(stderr, '')
    t.equal(status, 0)
    t.match(proof, { ok: true, failure: null, untried: [], left: [] })
    t.strictSame(proof.checks.filter(({ ok }) => !ok), [])
    t.equal(proof.checks.length, 21)
  }
  await nothingIsLeft()
})

t.test('what stops it half-way is told, and all is removed', async t => {
  const managed = await prove(['--bucket', buckets.data, '--attach', 'managed'])
  t.match(managed, { status: 1, proof: { ok: false, failure: /versitygw/, checks: [], left: [] } })
  const absent = await prove(['--bucket', 'no-such-bucket'])
  t.match(absent, { status: 1, proof: { ok: false, failure: /cannot write to no-such-bucket.*NoSuchBucket/ } })
  await nothingIsLeft()
  // As `aws` it gets as far as a user, which cannot be removed there (limits.test.ts): that is said.
  const refused = await prove(['--bucket', buckets.data, '--attach', 'managed'], 'aws', { JOB_ACCESS_ALLOW: 'no-boundary' })
  const [user] = (await iam.send(new ListUsersCommand({}))).Users ?? []
  t.match(refused, { status: 1, proof: { ok: false, failure: /CreatePolicy/, checks: [], left: [/^grant .*: revoking/, user?.UserName] } })
  await iam.send(new DeleteUserCommand({ UserName: user?.UserName }))
})

t.test('SIGTERM in the middle: all is removed', async t => {
  const stopped = await proveStore({
    provider: 'versitygw', iamEndpoint, endpoint, admin, stopAt: 'ok: reads below the prefix', args: ['--bucket', buckets.data, '--patience', '3']
  })
  t.match(stopped, { status: 1, stderr: /Not finished: Stopped by SIGTERM/ })
  t.notMatch(stopped.stderr, /Not removed/)
  await nothingIsLeft()
})

t.test('SIGKILL in the middle: --clean removes what was left, and nothing else', async t => {
  const killed = await proveStore({
    provider: 'versitygw', iamEndpoint, endpoint, admin, stopAt: 'ok: lists the prefix', signal: 'SIGKILL', args: ['--bucket', buckets.data, '--patience', '3']
  })
  t.equal(killed.status, -1)
  const names = async () => ((await iam.send(new ListUsersCommand({}))).Users ?? []).map(({ UserName }) => UserName ?? '')
  const left = await names()
  t.equal(left.length, 3)
  const job = principalName('ja', 'proof-job-0badcafe', Date.now(), '01k'.padEnd(26, '0'))
  await iam.send(new CreateUserCommand({ UserName: job, Path: principalPath('/job-access/', Date.now()) }))
  await owner.send(new PutObjectCommand({ Bucket: buckets.data, Key: 'job-access-proof.txt', Body: 'of a job' }))

  const cleaned = await prove(['--bucket', buckets.data, '--clean'])
  t.match(cleaned, { status: 0, stderr: '' })
  t.strictSame(cleaned.stdout.match(/ja-proof.*/g)?.sort(), left.sort())
  t.match(cleaned.stdout, /removed object job-access-proof\/[0-9a-f]{8}\/job\/dataset\n/)
  t.strictSame(await names(), [job], 'a job of nearly the same name goes on')
  await iam.send(new DeleteUserCommand({ UserName: job }))
  await nothingIsLeft()
  await owner.send(new DeleteObjectCommand({ Bucket: buckets.data, Key: 'job-access-proof.txt' }))
  t.match(await prove(['--bucket', buckets.data, '--clean']), { status: 0, stdout: '', stderr: '' })
})
