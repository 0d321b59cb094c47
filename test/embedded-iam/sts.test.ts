import {
  CreateAccessKeyCommand, CreatePolicyCommand, CreateRoleCommand, CreateUserCommand, DeleteRoleCommand, GetRoleCommand, ListUsersCommand
} from '@aws-sdk/client-iam'
import type { CreateRoleCommandInput } from '@aws-sdk/client-iam'
import { AssumeRoleCommand, GetCallerIdentityCommand } from '@aws-sdk/client-sts'
import type { AssumeRoleCommandInput, AssumeRoleCommandOutput } from '@aws-sdk/client-sts'
import t from 'tap'
import type { Connected, Credentials, Refused } from './connect.ts'
import { connect, documentOf, refused, trustOf } from './connect.ts'

const RoleArn = 'arn:aws:iam::000000000000:role/ml/jobs'
const root = { AWS: 'arn:aws:iam::000000000000:root' }
const denied = (action: string): Refused =>
  refused('AccessDenied', 403, new RegExp(`not authorized to perform: ${action} on resource: ${RoleArn}`))

const createRole = ({ iam }: Pick<Connected, 'iam'>, input: Partial<CreateRoleCommandInput> = {}): Promise<unknown> =>
  iam.send(new CreateRoleCommand({
    RoleName: 'jobs',
    Path: '/ml/',
    MaxSessionDuration: 43_200,
    AssumeRolePolicyDocument: trustOf(root, ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity']),
    ...input
  }))

const assume = ({ sts }: Pick<Connected, 'sts'>, input: Partial<AssumeRoleCommandInput> = {}): Promise<AssumeRoleCommandOutput> =>
  sts.send(new AssumeRoleCommand({ RoleArn, RoleSessionName: 'job-1', ...input }))

const credentialsOf = ({ Credentials }: AssumeRoleCommandOutput): Required<Credentials> => ({
  accessKeyId: Credentials?.AccessKeyId ?? '',
  secretAccessKey: Credentials?.SecretAccessKey ?? '',
  sessionToken: Credentials?.SessionToken ?? ''
})

t.test('the admin knows itself', async (t) => {
  const { sts } = await connect(t, { accountId: '123456789012' })
  t.match(await sts.send(new GetCallerIdentityCommand({})),
    { Account: '123456789012', Arn: 'arn:aws:iam::123456789012:user/embedded-admin' })
})

t.test('a role session, from AssumeRole to its end', async (t) => {
  let at = Date.parse('2025-07-16T01:00:00Z')
  const connected = await connect(t, { now: () => new Date(at) })
  await createRole(connected)
  const session = await assume(connected, {
    DurationSeconds: 7200,
    Policy: documentOf(1000),
    SourceIdentity: 'job-1',
    Tags: [{ Key: 'team', Value: 'nlp' }],
    TransitiveTagKeys: ['team']
  })
  t.match(session, {
    Credentials: {
      AccessKeyId: /^ASIAEMBEDDED[A-Z2-7]{8}$/,
      SecretAccessKey: /^[A-Za-z0-9+/]{40}$/,
      SessionToken: /^[A-Za-z0-9+/]{200,}$/,
      Expiration: new Date('2025-07-16T03:00:00Z')
    },
    AssumedRoleUser: { AssumedRoleId: /^AROA[A-Z2-7]{17}:job-1$/, Arn: 'arn:aws:sts::000000000000:assumed-role/jobs/job-1' },
    SourceIdentity: 'job-1',
    PackedPolicySize: 50
  })
  const credentials = credentialsOf(session)
  const { sts, iam } = connected.as(credentials)
  t.match(await sts.send(new GetCallerIdentityCommand({})),
    { Arn: session.AssumedRoleUser?.Arn, UserId: session.AssumedRoleUser?.AssumedRoleId })
  await t.rejects(iam.send(new ListUsersCommand({})), { name: 'AccessDenied' })

  const unknown = { name: 'InvalidClientTokenId', $metadata: { httpStatusCode: 403 } }
  const { accessKeyId, secretAccessKey, sessionToken } = credentials
  const identify = (other: Credentials): Promise<unknown> => connected.as(other).sts.send(new GetCallerIdentityCommand({}))
  await t.rejects(identify({ accessKeyId, secretAccessKey }), unknown, 'not without the token')
  await t.rejects(identify({ accessKeyId, secretAccessKey, sessionToken: `${sessionToken}x` }), unknown, 'not with another token')
  await t.rejects(identify({ ...connected.server.admin, sessionToken }), unknown, 'no token with a lasting key')

  at += 7_199_000
  await identify(credentials)
  at += 1000
  await t.rejects(identify(credentials), { name: /^ExpiredToken/, $metadata: { httpStatusCode: 403 } })
})

t.test('an hour without DurationSeconds, and no packed size without a policy', async (t) => {
  const at = new Date('2025-07-16T01:00:00Z')
  const connected = await connect(t, { now: () => at })
  await createRole(connected, { MaxSessionDuration: undefined })
  const session = await assume(connected)
  t.strictSame(session.Credentials?.Expiration, new Date('2025-07-16T02:00:00Z'))
  t.equal(session.PackedPolicySize, undefined)
  t.equal(session.SourceIdentity, undefined)
})

t.test('refused input', async (t) => {
  const connected = await connect(t)
  await createRole(connected, { MaxSessionDuration: 7200 })
  const { Policy } = await connected.iam.send(new CreatePolicyCommand({ PolicyName: 'p', PolicyDocument: documentOf(150) }))
  const tags = (count: number, length: number): Array<{ Key: string, Value: string }> =>
    Array.from({ length: count }, (_, i) => ({ Key: `k${i}`, Value: 'v'.repeat(length) }))
  const cases: Array<[string, Partial<AssumeRoleCommandInput>, string, RegExp]> = [
    ['no role', { RoleArn: undefined }, 'ValidationError', /'roleArn'/],
    ['a short role', { RoleArn: 'jobs' }, 'ValidationError', /'roleArn'.*20/],
    ['no session name', { RoleSessionName: undefined }, 'ValidationError', /'roleSessionName'/],
    ['one character', { RoleSessionName: 'x' }, 'ValidationError', /'roleSessionName'.*2/],
    ['65 characters', { RoleSessionName: 'x'.repeat(65) }, 'ValidationError', /'roleSessionName'.*64/],
    ['a slash', { RoleSessionName: 'a/b' }, 'ValidationError', /roleSessionName/],
    ['899 seconds', { DurationSeconds: 899 }, 'ValidationError', /'durationSeconds'.*900/],
    ['43,201 seconds', { DurationSeconds: 43_201 }, 'ValidationError', /'durationSeconds'.*43200/],
    ['longer than the role allows', { DurationSeconds: 7201 }, 'ValidationError', /exceeds the MaxSessionDuration set for this role/],
    ['2,049 characters', { Policy: `${documentOf(2048)} ` }, 'ValidationError', /'policy'.*2048/],
    ['no policy', { Policy: '{}' }, 'MalformedPolicyDocumentException', /Syntax/],
    ['policy with ARNs too long', { Policy: documentOf(2030), PolicyArns: [{ arn: Policy?.Arn }] }, 'ValidationError', /2048/],
    ['an ARN that is not there', { PolicyArns: [{ arn: `${Policy?.Arn}x` }] }, 'NoSuchEntity', /was not found/],
    ['eleven ARNs', { PolicyArns: Array.from({ length: 11 }, () => ({ arn: Policy?.Arn })) }, 'ValidationError', /10/],
    ['packed too large', { Policy: documentOf(1500), Tags: tags(3, 200) }, 'PackedPolicyTooLargeException', /consumes \d{3}% of/],
    ['51 tags', { Tags: tags(51, 1) }, 'ValidationError', /50/],
    ['transitive tag that is none', { TransitiveTagKeys: ['team'] }, 'ValidationError', /transitive/],
    ['source identity of AWS', { SourceIdentity: 'aws:x' }, 'ValidationError', /sourceIdentity/i],
    ['source identity of one character', { SourceIdentity: 'x' }, 'ValidationError', /'sourceIdentity'/]
  ]
  for (const [name, input, error, message] of cases) {
    await t.rejects(assume(connected, input), { name: error, message }, name)
  }
  await assume(connected, { DurationSeconds: 7200, Policy: documentOf(2000), PolicyArns: [{ arn: Policy?.Arn }] })
})

t.test('the role’s trust policy decides, action by action', async (t) => {
  const connected = await connect(t)
  await t.rejects(assume(connected), denied('sts:AssumeRole'), 'a missing role is not told from a forbidden one')
  const cases: Array<[string, string, Partial<AssumeRoleCommandInput>, string | null]> = [
    ['the account', trustOf({ AWS: '000000000000' }), {}, null],
    ['the admin’s own ARN', trustOf({ AWS: ['x', 'arn:aws:iam::000000000000:user/embedded-admin'] }), {}, null],
    ['everyone', trustOf('*'), {}, null],
    ['another account', trustOf({ AWS: '111122223333' }), {}, 'sts:AssumeRole'],
    ['a service', trustOf({ Service: 'ec2.amazonaws.com' }), {}, 'sts:AssumeRole'],
    ['another action', trustOf(root, 'sts:AssumeRoleWithWebIdentity'), {}, 'sts:AssumeRole'],
    ['no tags', trustOf(root), { Tags: [{ Key: 'k', Value: 'v' }] }, 'sts:TagSession'],
    ['no source identity', trustOf(root), { SourceIdentity: 'job' }, 'sts:SetSourceIdentity'],
    ['all of STS', trustOf(root, 'sts:*'), { SourceIdentity: 'job', Tags: [{ Key: 'k', Value: 'v' }] }, null],
    ['a denial', JSON.stringify({
      Statement: [
        { Effect: 'Allow', Principal: '*', Action: 'sts:AssumeRole' },
        { Effect: 'Deny', Principal: root, Action: 'sts:AssumeRole' }
      ]
    }), {}, 'sts:AssumeRole']
  ]
  for (const [name, AssumeRolePolicyDocument, input, refusedAction] of cases) {
    await createRole(connected, { AssumeRolePolicyDocument })
    if (refusedAction === null) await t.resolves(assume(connected, input), name)
    else await t.rejects(assume(connected, input), denied(refusedAction), name)
    await connected.iam.send(new DeleteRoleCommand({ RoleName: 'jobs' }))
  }
})

t.test('a job’s own key may not assume what trusts the account, a chained session has an hour', async (t) => {
  const connected = await connect(t)
  await createRole(connected)
  await connected.iam.send(new CreateUserCommand({ UserName: 'job' }))
  const { AccessKey } = await connected.iam.send(new CreateAccessKeyCommand({ UserName: 'job' }))
  const job = connected.as({ accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: AccessKey?.SecretAccessKey ?? '' })
  await t.rejects(assume(job), denied('sts:AssumeRole'))
  const jobArn = 'arn:aws:iam::000000000000:user/job'
  await createRole(connected, { RoleName: 'own', AssumeRolePolicyDocument: trustOf({ AWS: jobArn }) })
  await t.resolves(assume(job, { RoleArn: 'arn:aws:iam::000000000000:role/ml/own' }), 'what names it lets it in')

  const session = connected.as(credentialsOf(await assume(connected)))
  await t.rejects(assume(session), denied('sts:AssumeRole'))
  await createRole(connected, { RoleName: 'next', AssumeRolePolicyDocument: trustOf({ AWS: RoleArn }) })
  const next = { RoleArn: 'arn:aws:iam::000000000000:role/ml/next' }
  await t.rejects(assume(session, { ...next, DurationSeconds: 3601 }), { name: 'ValidationError', message: /role chaining/ })
  t.match(await assume(session, { ...next, DurationSeconds: 3600 }), { AssumedRoleUser: { Arn: /assumed-role\/next\/job-1$/ } })
})

t.test('roles: shape, uniqueness and refusals', async (t) => {
  const at = new Date('2025-07-16T01:00:00Z')
  const { iam, server } = await connect(t, { now: () => at })
  const trust = trustOf(root)
  const PermissionsBoundary = 'arn:aws:iam::aws:policy/AmazonS3FullAccess'
  const Tags = [{ Key: 'k', Value: 'v' }]
  await createRole({ iam }, { AssumeRolePolicyDocument: trust, Description: 'a & b', Tags, PermissionsBoundary })
  t.match((await iam.send(new GetRoleCommand({ RoleName: 'jobs' }))).Role, {
    RoleName: 'jobs',
    Path: '/ml/',
    Arn: RoleArn,
    RoleId: /^AROA[A-Z2-7]{17}$/,
    CreateDate: at,
    AssumeRolePolicyDocument: encodeURIComponent(trust),
    Description: 'a & b',
    MaxSessionDuration: 43_200,
    PermissionsBoundary: { PermissionsBoundaryArn: PermissionsBoundary },
    Tags
  })
  const cases: Array<[string, Partial<CreateRoleCommandInput>, string]> = [
    ['the name in another case', { RoleName: 'JOBS' }, 'EntityAlreadyExistsException'],
    ['a session of 59 minutes', { RoleName: 'r', MaxSessionDuration: 3540 }, 'ValidationError'],
    ['a session of 13 hours', { RoleName: 'r', MaxSessionDuration: 46_800 }, 'ValidationError'],
    ['a trust policy that is none', { RoleName: 'r', AssumeRolePolicyDocument: documentOf(150) }, 'MalformedPolicyDocumentException'],
    ['a trust policy too long', { RoleName: 'r', AssumeRolePolicyDocument: trustOf({ AWS: 'x'.repeat(2048) }) }, 'LimitExceededException'],
    ['no name', { RoleName: undefined }, 'ValidationError']
  ]
  for (const [name, input, error] of cases) await t.rejects(createRole({ iam }, input), { name: error }, name)
  t.equal(server.state.roles.length, 1)
  await iam.send(new DeleteRoleCommand({ RoleName: 'jobs' }))
  await t.rejects(iam.send(new GetRoleCommand({ RoleName: 'jobs' })), { name: 'NoSuchEntityException' })
})
