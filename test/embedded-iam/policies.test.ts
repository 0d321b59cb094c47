import {
  AttachUserPolicyCommand, CreatePolicyCommand, CreatePolicyVersionCommand, CreateUserCommand, DeletePolicyCommand,
  DeletePolicyVersionCommand, DeleteUserCommand, DetachUserPolicyCommand, GetAccountSummaryCommand, GetPolicyCommand,
  GetPolicyVersionCommand, ListAttachedUserPoliciesCommand, ListEntitiesForPolicyCommand, ListPoliciesCommand,
  ListPolicyVersionsCommand, SetDefaultPolicyVersionCommand
} from '@aws-sdk/client-iam'
import t from 'tap'
import type { Refused } from './connect.ts'
import { connect, documentOf, refused } from './connect.ts'

const arnOf = (name: string, path = '/'): string => `arn:aws:iam::000000000000:policy${path}${name}`
const admin = 'arn:aws:iam::aws:policy/AdministratorAccess'

t.test('a managed policy from creation to deletion', async (t) => {
  const at = new Date('2025-07-16T01:00:00Z')
  const { iam, server } = await connect(t, { now: () => at })
  const PolicyDocument = documentOf(6144)
  const Tags = [{ Key: 'job', Value: '1' }]
  const { Policy } = await iam.send(new CreatePolicyCommand({ PolicyName: 'p', Path: '/ml/', PolicyDocument, Description: 'a < b', Tags }))
  const PolicyArn = arnOf('p', '/ml/')
  const common = {
    PolicyName: 'p',
    PolicyId: /^ANPA[A-Z2-7]{17}$/,
    Arn: PolicyArn,
    Path: '/ml/',
    DefaultVersionId: 'v1',
    AttachmentCount: 0,
    PermissionsBoundaryUsageCount: 0,
    IsAttachable: true,
    CreateDate: at,
    UpdateDate: at,
    Tags
  }
  t.match(Policy, common)
  t.match((await iam.send(new GetPolicyCommand({ PolicyArn }))).Policy, { ...common, Description: 'a < b' })
  const { PolicyVersion } = await iam.send(new GetPolicyVersionCommand({ PolicyArn, VersionId: 'v1' }))
  t.match(PolicyVersion, { VersionId: 'v1', IsDefaultVersion: true, CreateDate: at })
  t.equal(decodeURIComponent(PolicyVersion?.Document ?? ''), PolicyDocument)
  t.match(server.state.policies, [{ arn: PolicyArn, versions: { v1: PolicyDocument }, attachedTo: [] }])
  await iam.send(new DeletePolicyCommand({ PolicyArn }))
  await t.rejects(iam.send(new GetPolicyCommand({ PolicyArn })),
    refused('NoSuchEntityException', 404, `Policy ${PolicyArn} was not found.`))
  t.same(server.state.policies, [])
})

t.test('names are unique in the account, in any path and case', async (t) => {
  const { iam } = await connect(t, { maxPolicies: 2 })
  await iam.send(new CreatePolicyCommand({ PolicyName: 'p', PolicyDocument: documentOf(150) }))
  await t.rejects(iam.send(new CreatePolicyCommand({ PolicyName: 'P', Path: '/x/', PolicyDocument: documentOf(150) })),
    { name: 'EntityAlreadyExistsException', $metadata: { httpStatusCode: 409 } })
  await iam.send(new CreatePolicyCommand({ PolicyName: 'AdministratorAccess', PolicyDocument: documentOf(150) }))
  await t.rejects(iam.send(new CreatePolicyCommand({ PolicyName: 'q', PolicyDocument: documentOf(150) })),
    { name: 'LimitExceededException', message: 'Cannot exceed quota for PoliciesPerAccount: 2' })
  await iam.send(new DeletePolicyCommand({ PolicyArn: arnOf('p') }))
  await iam.send(new CreatePolicyCommand({ PolicyName: 'P', PolicyDocument: documentOf(150) }))
})

t.test('6,144 characters without white space, and no more', async (t) => {
  const { iam } = await connect(t)
  const tooLarge = refused('LimitExceededException', 409, 'Cannot exceed quota for PolicySize: 6144')
  await t.rejects(iam.send(new CreatePolicyCommand({ PolicyName: 'p', PolicyDocument: documentOf(6145) })), tooLarge)
  await iam.send(new CreatePolicyCommand({ PolicyName: 'p', PolicyDocument: JSON.stringify(JSON.parse(documentOf(6144)), null, 2) }))
  await t.rejects(iam.send(new CreatePolicyVersionCommand({ PolicyArn: arnOf('p'), PolicyDocument: documentOf(6145) })), tooLarge)
})

t.test('up to five versions, one of them the default', async (t) => {
  const { iam } = await connect(t)
  const PolicyArn = arnOf('p')
  await iam.send(new CreatePolicyCommand({ PolicyName: 'p', PolicyDocument: documentOf(150) }))
  for (let i = 2; i <= 5; i++) {
    const version = { PolicyArn, PolicyDocument: documentOf(150 + i), SetAsDefault: i === 3 }
    const { PolicyVersion } = await iam.send(new CreatePolicyVersionCommand(version))
    t.match(PolicyVersion, { VersionId: `v${i}`, IsDefaultVersion: i === 3 })
  }
  const sixth = iam.send(new CreatePolicyVersionCommand({ PolicyArn, PolicyDocument: documentOf(160) }))
  await t.rejects(sixth, refused('LimitExceededException', 409, /up to 5 versions/))
  t.equal((await iam.send(new GetPolicyCommand({ PolicyArn }))).Policy?.DefaultVersionId, 'v3')
  await t.rejects(iam.send(new DeletePolicyVersionCommand({ PolicyArn, VersionId: 'v3' })), { name: 'DeleteConflictException' })
  await t.rejects(iam.send(new DeletePolicyCommand({ PolicyArn })), { name: 'DeleteConflictException', message: /more than one version/ })
  await iam.send(new SetDefaultPolicyVersionCommand({ PolicyArn, VersionId: 'v1' }))
  for (const VersionId of ['v2', 'v3', 'v5']) await iam.send(new DeletePolicyVersionCommand({ PolicyArn, VersionId }))
  const { PolicyVersion } = await iam.send(new CreatePolicyVersionCommand({ PolicyArn, PolicyDocument: documentOf(170) }))
  t.equal(PolicyVersion?.VersionId, 'v6', 'ids are not used twice')
  const { Versions } = await iam.send(new ListPolicyVersionsCommand({ PolicyArn }))
  t.same(Versions?.map(({ VersionId, IsDefaultVersion }) => [VersionId, IsDefaultVersion]), [['v1', true], ['v4', false], ['v6', false]])
  await t.rejects(iam.send(new GetPolicyVersionCommand({ PolicyArn, VersionId: 'v2' })), { name: 'NoSuchEntityException' })
})

t.test('attaching and detaching', async (t) => {
  const { iam, server } = await connect(t)
  const PolicyArn = arnOf('p', '/ml/')
  await iam.send(new CreatePolicyCommand({ PolicyName: 'p', Path: '/ml/', PolicyDocument: documentOf(150) }))
  for (const UserName of ['b', 'a']) {
    await iam.send(new CreateUserCommand({ UserName, Path: `/${UserName}/` }))
    await iam.send(new AttachUserPolicyCommand({ UserName, PolicyArn }))
  }
  await iam.send(new AttachUserPolicyCommand({ UserName: 'a', PolicyArn }))
  await iam.send(new CreateUserCommand({ UserName: 'c', PermissionsBoundary: PolicyArn }))
  await iam.send(new AttachUserPolicyCommand({ UserName: 'a', PolicyArn: admin }))

  const attached = async (input: object): Promise<unknown> =>
    (await iam.send(new ListAttachedUserPoliciesCommand({ UserName: 'a', ...input }))).AttachedPolicies
  t.same(await attached({}), [{ PolicyName: 'AdministratorAccess', PolicyArn: admin }, { PolicyName: 'p', PolicyArn }])
  t.same(await attached({ PathPrefix: '/ml/' }), [{ PolicyName: 'p', PolicyArn }])
  t.match((await iam.send(new GetPolicyCommand({ PolicyArn }))).Policy, { AttachmentCount: 2, PermissionsBoundaryUsageCount: 1 })
  t.same(server.state.user('a')?.attached, [PolicyArn, admin])

  const entities = async (input: object): Promise<unknown> =>
    (await iam.send(new ListEntitiesForPolicyCommand({ PolicyArn, ...input }))).PolicyUsers?.map(({ UserName }) => UserName)
  t.same(await entities({}), ['a', 'b', 'c'])
  t.same(await entities({ PolicyUsageFilter: 'PermissionsPolicy' }), ['a', 'b'])
  t.same(await entities({ PolicyUsageFilter: 'PermissionsBoundary' }), ['c'])
  t.same(await entities({ PathPrefix: '/b/' }), ['b'])
  t.same(await entities({ EntityFilter: 'Role' }), [])

  const conflict = refused('DeleteConflictException', 409, 'Cannot delete a policy attached to entities.')
  await t.rejects(iam.send(new DeletePolicyCommand({ PolicyArn })), conflict)
  for (const UserName of ['a', 'b']) await iam.send(new DetachUserPolicyCommand({ UserName, PolicyArn }))
  await t.rejects(iam.send(new DetachUserPolicyCommand({ UserName: 'a', PolicyArn })), { name: 'NoSuchEntityException' })
  await t.rejects(iam.send(new DeletePolicyCommand({ PolicyArn })), conflict, 'a boundary holds it too')
  await iam.send(new DeleteUserCommand({ UserName: 'c' }))
  await iam.send(new DeletePolicyCommand({ PolicyArn }))
})

t.test('ten policies on a user', async (t) => {
  const { iam } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName }))
  for (let i = 0; i <= 10; i++) {
    await iam.send(new CreatePolicyCommand({ PolicyName: `p${i}`, PolicyDocument: documentOf(150) }))
    const attach = iam.send(new AttachUserPolicyCommand({ UserName, PolicyArn: arnOf(`p${i}`) }))
    if (i < 10) await attach
    else await t.rejects(attach, { name: 'LimitExceededException', message: 'Cannot exceed quota for PoliciesPerUser: 10' })
  }
  await iam.send(new AttachUserPolicyCommand({ UserName, PolicyArn: arnOf('p0') }))
})

t.test('listings', async (t) => {
  const { iam } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'job', PermissionsBoundary: arnOf('c', '/x/') })).catch(() => {})
  for (const [PolicyName, Path] of [['b', '/'], ['a', '/'], ['c', '/x/'], ['AdministratorAccess', '/']]) {
    await iam.send(new CreatePolicyCommand({ PolicyName, Path, PolicyDocument: documentOf(150) }))
  }
  await iam.send(new CreateUserCommand({ UserName: 'job', PermissionsBoundary: arnOf('c', '/x/') }))
  await iam.send(new AttachUserPolicyCommand({ UserName: 'job', PolicyArn: arnOf('a') }))
  const names = async (input: object): Promise<unknown> =>
    (await iam.send(new ListPoliciesCommand(input))).Policies?.map(({ Arn }) => Arn?.replace(/^arn:aws:iam::/, ''))
  const own = ['000000000000:policy/AdministratorAccess', '000000000000:policy/a', '000000000000:policy/b', '000000000000:policy/x/c']
  t.same(await names({ Scope: 'Local' }), own)
  t.same(await names({ Scope: 'AWS' }),
    ['aws:policy/AdministratorAccess', 'aws:policy/AmazonS3FullAccess', 'aws:policy/AmazonS3ReadOnlyAccess'])
  t.equal((await names({}) as string[]).length, 7)
  t.same(await names({ Scope: 'Local', PathPrefix: '/x/' }), own.slice(3))
  t.same(await names({ OnlyAttached: true }), [own[1], own[3]])
  t.same(await names({ PolicyUsageFilter: 'PermissionsPolicy' }), [own[1]])
  t.same(await names({ PolicyUsageFilter: 'PermissionsBoundary' }), [own[3]])
  const first = await iam.send(new ListPoliciesCommand({ Scope: 'Local', MaxItems: 3 }))
  t.equal(first.IsTruncated, true)
  t.same(await names({ Scope: 'Local', MaxItems: 3, Marker: first.Marker }), own.slice(3))
  await t.rejects(iam.send(new ListPoliciesCommand({ Scope: 'Mine' as 'All' })), { name: 'ValidationError', message: /enum/ })
  t.match((await iam.send(new GetAccountSummaryCommand({}))).SummaryMap,
    { Users: 1, UsersQuota: 5000, Policies: 4, PoliciesQuota: 1500, AccessKeysPerUserQuota: 2, PolicySizeQuota: 6144 })
})

t.test('refused', async (t) => {
  const { iam } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'job' }))
  const PolicyDocument = documentOf(150)
  const cases: Array<[string, () => Promise<unknown>, Refused]> = [
    ['no such policy', () => iam.send(new AttachUserPolicyCommand({ UserName: 'job', PolicyArn: arnOf('none') })),
      { name: 'NoSuchEntityException', message: /not attachable/ }],
    ['not a policy’s ARN', () => iam.send(new AttachUserPolicyCommand({ UserName: 'job', PolicyArn: 'arn:aws:iam::1:user/job' })),
      { name: 'InvalidInputException', message: /is not valid/ }],
    ['short ARN', () => iam.send(new GetPolicyCommand({ PolicyArn: 'arn' })), { name: 'ValidationError' }],
    ['no version', () => iam.send(new GetPolicyVersionCommand({ PolicyArn: admin, VersionId: undefined })), { name: 'ValidationError' }],
    ['description of 1,001', () => iam.send(new CreatePolicyCommand({ PolicyName: 'p', PolicyDocument, Description: 'd'.repeat(1001) })),
      { name: 'ValidationError' }],
    ['AWS’s own policy', () => iam.send(new DeletePolicyCommand({ PolicyArn: admin })), { name: 'AccessDenied' }],
    ['a principal', () => iam.send(new CreatePolicyCommand({
      PolicyName: 'p', PolicyDocument: '{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}'
    })), { name: 'MalformedPolicyDocumentException' }]
  ]
  for (const [name, call, error] of cases) await t.rejects(call(), error, name)
})
