import {
  CreateRoleCommand, CreateUserCommand, DeleteRoleCommand, DeleteRolePolicyCommand, DeleteUserPolicyCommand, GetRolePolicyCommand,
  GetUserPolicyCommand, ListRolePoliciesCommand, ListUserPoliciesCommand, PutRolePolicyCommand, PutUserPolicyCommand
} from '@aws-sdk/client-iam'
import t from 'tap'
import { connect, documentOf, refused, trustOf } from './connect.ts'

t.test('a user’s inline policy is put, read back letter by letter, replaced and deleted', async (t) => {
  const { iam, server } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  const PolicyDocument = JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::b/!\'()*~ %2F+&<é>"$' + '{aws:username}'] }]
  }, null, '\t').replaceAll('\n', '\r\n')
  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'p', PolicyDocument }))
  const read = await iam.send(new GetUserPolicyCommand({ UserName, PolicyName: 'p' }))
  t.equal(decodeURIComponent(read.PolicyDocument ?? ''), PolicyDocument)
  t.match(read.PolicyDocument, /^[\w.~%-]+$/, 'encoded by RFC 3986')
  t.match(read, { UserName, PolicyName: 'p' })
  t.same(server.state.user(UserName)?.inline, { p: PolicyDocument })

  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'P', PolicyDocument: documentOf(300) }))
  t.same((await iam.send(new ListUserPoliciesCommand({ UserName }))).PolicyNames, ['p'], 'replaced, whatever the case')
  await iam.send(new DeleteUserPolicyCommand({ UserName, PolicyName: 'p' }))
  const missing = refused('NoSuchEntityException', 404, 'The user policy with name p cannot be found.')
  await t.rejects(iam.send(new GetUserPolicyCommand({ UserName, PolicyName: 'p' })), missing)
  await t.rejects(iam.send(new DeleteUserPolicyCommand({ UserName, PolicyName: 'p' })), missing)
})

t.test('all inline policies of a user together have 2,048 characters without white space', async (t) => {
  const { iam, server } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  const put = (PolicyName: string, PolicyDocument: string): Promise<unknown> =>
    iam.send(new PutUserPolicyCommand({ UserName, PolicyName, PolicyDocument }))
  const tooLarge = {
    name: 'LimitExceededException',
    message: 'Maximum policy size of 2048 bytes exceeded for user job',
    $metadata: { httpStatusCode: 409 }
  }
  const indented = (size: number): string => JSON.stringify(JSON.parse(documentOf(size)), null, 8)

  await put('a', indented(2048))
  await t.rejects(put('a', documentOf(2049)), tooLarge)
  await t.rejects(put('b', documentOf(150)), tooLarge)
  t.same(Object.keys(server.state.user(UserName)?.inline ?? {}), ['a'])
  await put('a', documentOf(1000))
  await put('b', indented(1048))
  await t.rejects(put('c', documentOf(150)), tooLarge)
  await t.rejects(put('a', documentOf(1001)), tooLarge)
  await put('a', documentOf(999))
})

t.test('policies put at once do not get past the limit together', async (t) => {
  const { iam, server } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, (_, i) =>
    iam.send(new PutUserPolicyCommand({ UserName, PolicyName: `p${i}`, PolicyDocument: documentOf(700) }))))
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 2)
  t.equal(Object.keys(server.state.user(UserName)?.inline ?? {}).length, 2)
})

t.test('names are listed in order and in pages', async (t) => {
  const { iam } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  const PolicyDocument = documentOf(150)
  for (const PolicyName of ['c', 'a', 'b']) await iam.send(new PutUserPolicyCommand({ UserName, PolicyName, PolicyDocument }))
  const first = await iam.send(new ListUserPoliciesCommand({ UserName, MaxItems: 2 }))
  t.match(first, { PolicyNames: ['a', 'b'], IsTruncated: true })
  t.match(await iam.send(new ListUserPoliciesCommand({ UserName, Marker: first.Marker })), { PolicyNames: ['c'], IsTruncated: false })
})

t.test('refused names and texts', async (t) => {
  const { iam, server } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  const cases: Array<[string, { PolicyName?: string, PolicyDocument?: string }, RegExp]> = [
    ['no name', {}, /'policyName'/],
    ['name of 129', { PolicyName: 'p'.repeat(129) }, /'policyName'.*128/],
    ['name with /', { PolicyName: 'a/b' }, /policyName is invalid/],
    ['no document', { PolicyName: 'p' }, /'policyDocument'/],
    ['empty document', { PolicyName: 'p', PolicyDocument: '' }, /'policyDocument'/],
    ['text beyond U+00FF', { PolicyName: 'p', PolicyDocument: documentOf(200).replace('xx', '\u0100') }, /policyDocument is invalid/],
    ['131,073 characters', { PolicyName: 'p', PolicyDocument: ' '.repeat(131_073) }, /131072/]
  ]
  for (const [name, { PolicyName, PolicyDocument }, message] of cases) {
    const put = iam.send(new PutUserPolicyCommand({ UserName, PolicyName, PolicyDocument }))
    await t.rejects(put, refused('ValidationError', 400, message), name)
  }
  await t.rejects(iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'p', PolicyDocument: '{' })),
    { name: 'MalformedPolicyDocumentException', $metadata: { httpStatusCode: 400 } })
  t.same(server.state.user(UserName)?.inline, {})
})

t.test('a role’s inline policies, up to 10,240 characters', async (t) => {
  const { iam, server } = await connect(t)
  const RoleName = 'jobs'
  await iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument: trustOf({ AWS: '*' }) }))
  await iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: 'p', PolicyDocument: documentOf(10_240) }))
  await t.rejects(iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: 'q', PolicyDocument: documentOf(150) })),
    { name: 'LimitExceededException', message: 'Maximum policy size of 10240 bytes exceeded for role jobs' })
  t.same((await iam.send(new ListRolePoliciesCommand({ RoleName }))).PolicyNames, ['p'])
  t.match(await iam.send(new GetRolePolicyCommand({ RoleName, PolicyName: 'p' })),
    { RoleName, PolicyName: 'p', PolicyDocument: encodeURIComponent(documentOf(10_240)) })
  t.same(Object.keys(server.state.roles[0]?.inline ?? {}), ['p'])
  await t.rejects(iam.send(new DeleteRoleCommand({ RoleName })), { name: 'DeleteConflictException' })
  await iam.send(new DeleteRolePolicyCommand({ RoleName, PolicyName: 'p' }))
  await t.rejects(iam.send(new GetRolePolicyCommand({ RoleName, PolicyName: 'p' })), { name: 'NoSuchEntityException' })
  await iam.send(new DeleteRoleCommand({ RoleName }))
  await t.rejects(iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: 'p', PolicyDocument: documentOf(150) })),
    { name: 'NoSuchEntityException', message: 'The role with name jobs cannot be found.' })
})
