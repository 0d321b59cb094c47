import {
  CreateAccessKeyCommand, CreateUserCommand, DeleteAccessKeyCommand, GetAccessKeyLastUsedCommand, ListAccessKeysCommand,
  UpdateAccessKeyCommand
} from '@aws-sdk/client-iam'
import { GetCallerIdentityCommand } from '@aws-sdk/client-sts'
import t from 'tap'
import type { Connected } from './connect.ts'
import { connect, refused } from './connect.ts'

const unknown = { name: 'InvalidClientTokenId', $metadata: { httpStatusCode: 403 } }

async function createKey ({ iam }: Pick<Connected, 'iam'>, UserName: string): Promise<{ accessKeyId: string, secretAccessKey: string }> {
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName }))
  return { accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: AccessKey?.SecretAccessKey ?? '' }
}

t.test('a key is made, used, switched off and on, and deleted', async (t) => {
  const at = new Date('2025-07-16T01:00:00Z')
  const connected = await connect(t, { now: () => at })
  const { iam, server, as } = connected
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName, Path: '/ml/' }))
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName }))
  t.match(AccessKey, {
    UserName,
    Status: 'Active',
    AccessKeyId: /^AKIAEMBEDDED[A-Z2-7]{8}$/,
    SecretAccessKey: /^[A-Za-z0-9+/]{40}$/,
    CreateDate: at
  })
  const AccessKeyId = AccessKey?.AccessKeyId ?? ''
  const { sts } = as({ accessKeyId: AccessKeyId, secretAccessKey: AccessKey?.SecretAccessKey ?? '' })

  const { AccessKeyLastUsed } = await iam.send(new GetAccessKeyLastUsedCommand({ AccessKeyId }))
  t.same(AccessKeyLastUsed, { ServiceName: 'N/A', Region: 'N/A' })
  t.match(await sts.send(new GetCallerIdentityCommand({})),
    { Account: '000000000000', Arn: 'arn:aws:iam::000000000000:user/ml/job', UserId: /^AIDA/ })
  t.match(await iam.send(new GetAccessKeyLastUsedCommand({ AccessKeyId })),
    { UserName, AccessKeyLastUsed: { LastUsedDate: at, ServiceName: 'sts', Region: 'us-east-1' } })

  await iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId, Status: 'Inactive' }))
  await t.rejects(sts.send(new GetCallerIdentityCommand({})), unknown, 'an inactive key is no key')
  const { AccessKeyMetadata } = await iam.send(new ListAccessKeysCommand({ UserName }))
  t.same(AccessKeyMetadata, [{ UserName, AccessKeyId, Status: 'Inactive', CreateDate: at }])
  await iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId, Status: 'Active' }))
  await sts.send(new GetCallerIdentityCommand({}))

  await iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId }))
  await t.rejects(sts.send(new GetCallerIdentityCommand({})), unknown, 'a deleted key is dead at once')
  const gone = { name: 'NoSuchEntityException', message: `The Access Key with id ${AccessKeyId} cannot be found.` }
  await t.rejects(iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId })), gone)
  await t.rejects(iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId, Status: 'Active' })), gone)
  await t.rejects(iam.send(new GetAccessKeyLastUsedCommand({ AccessKeyId })), gone)
  t.equal(server.state.keyCount, 0)
})

t.test('a user has two keys at most, inactive ones counted, even when asked for at once', async (t) => {
  const connected = await connect(t)
  const { iam, server } = connected
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => createKey(connected, UserName)))
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 2)
  const keys = server.state.keys
  t.equal(keys.length, 2)
  await iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId: keys[0]?.id, Status: 'Inactive' }))
  await t.rejects(createKey(connected, UserName),
    { name: 'LimitExceededException', message: 'Cannot exceed quota for AccessKeysPerUser: 2', $metadata: { httpStatusCode: 409 } })
  await iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId: keys[0]?.id }))
  await createKey(connected, UserName)
  const ids = server.state.keys.map(({ id }) => id)
  await iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId: ids[0] }))
  t.same(server.state.keys.map(({ id }) => id), ids.slice(1), 'the named one goes, the other stays')
})

t.test('a key is its user’s: another user cannot be named with it', async (t) => {
  const connected = await connect(t)
  const { iam, server } = connected
  for (const UserName of ['a', 'b']) await iam.send(new CreateUserCommand({ UserName }))
  const { accessKeyId: AccessKeyId } = await createKey(connected, 'a')
  const missing = refused('NoSuchEntityException', 404)
  await t.rejects(iam.send(new DeleteAccessKeyCommand({ UserName: 'b', AccessKeyId })), missing)
  await t.rejects(iam.send(new UpdateAccessKeyCommand({ UserName: 'b', AccessKeyId, Status: 'Inactive' })), missing)
  t.match(server.state.keys, [{ id: AccessKeyId, user: 'a', status: 'Active' }])
  t.equal((await iam.send(new ListAccessKeysCommand({ UserName: 'b' }))).AccessKeyMetadata?.length, 0)
})

t.test('refused input', async (t) => {
  const { iam } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'job' }))
  const AccessKeyId = 'AKIAEMBEDDEDAAAAAAAA'
  const cases: Array<[string, () => Promise<unknown>, RegExp]> = [
    ['no user to make a key for', () => iam.send(new CreateAccessKeyCommand({})), /Must specify userName/],
    ['no user to list', () => iam.send(new ListAccessKeysCommand({})), /Must specify userName/],
    ['no key', () => iam.send(new DeleteAccessKeyCommand({ UserName: 'job', AccessKeyId: undefined })), /'accessKeyId'/],
    ['a short key', () => iam.send(new DeleteAccessKeyCommand({ UserName: 'job', AccessKeyId: 'AKIA' })), /'accessKeyId'.*16/],
    ['not a key', () => iam.send(new DeleteAccessKeyCommand({ UserName: 'job', AccessKeyId: 'AKIA/////////////' })), /'accessKeyId'/],
    ['no status', () => iam.send(new UpdateAccessKeyCommand({ UserName: 'job', AccessKeyId, Status: undefined })), /'status'/],
    ['odd status', () => iam.send(new UpdateAccessKeyCommand({ UserName: 'job', AccessKeyId, Status: 'Expired' })), /'status'.*enum/]
  ]
  for (const [name, call, message] of cases) await t.rejects(call(), refused('ValidationError', 400, message), name)
})

t.test('a new key stays unknown for keyDelayMs', async (t) => {
  let at = Date.parse('2025-07-16T01:00:00Z')
  const connected = await connect(t, { now: () => new Date(at), keyDelayMs: 4000 })
  await connected.iam.send(new CreateUserCommand({ UserName: 'job' }))
  const { sts } = connected.as(await createKey(connected, 'job'))
  await t.rejects(sts.send(new GetCallerIdentityCommand({})), unknown)
  at += 3999
  await t.rejects(sts.send(new GetCallerIdentityCommand({})), unknown)
  at += 1
  t.match(await sts.send(new GetCallerIdentityCommand({})), { Arn: /user\/job$/ })
})

t.test('ids and secrets do not repeat', async (t) => {
  const connected = await connect(t)
  const users = Array.from({ length: 100 }, (_, i) => `u${i}`)
  const keys = await Promise.all(users.map(async (UserName) => {
    await connected.iam.send(new CreateUserCommand({ UserName }))
    return createKey(connected, UserName)
  }))
  t.equal(new Set(keys.map(({ accessKeyId }) => accessKeyId)).size, 100)
  t.equal(new Set(keys.map(({ secretAccessKey }) => secretAccessKey)).size, 100)
})
