import {
  AttachUserPolicyCommand, CreateAccessKeyCommand, CreateUserCommand, DeleteAccessKeyCommand, DeleteUserCommand,
  DeleteUserPermissionsBoundaryCommand, DeleteUserPolicyCommand, DetachUserPolicyCommand, GetUserCommand, ListGroupsForUserCommand,
  ListUserTagsCommand, ListUsersCommand, PutUserPermissionsBoundaryCommand, PutUserPolicyCommand, TagUserCommand,
  UntagUserCommand, UpdateUserCommand
} from '@aws-sdk/client-iam'
import type { IAMClient } from '@aws-sdk/client-iam'
import t from 'tap'
import { connect, documentOf, refused } from './connect.ts'

const boundary = 'arn:aws:iam::aws:policy/AmazonS3FullAccess'
const manyTags = (count: number, from = 0): Array<{ Key: string, Value: string }> =>
  Array.from({ length: count }, (_, i) => ({ Key: `k${from + i}`, Value: '' }))

t.test('a user is made with path, tags and boundary, found, changed and deleted', async (t) => {
  const at = new Date('2025-07-16T01:00:00.500Z')
  const { server, iam } = await connect(t, { now: () => at, accountId: '123456789012' })
  const tags = [{ Key: 'job', Value: 'a b + /=@ é' }, { Key: 'empty', Value: '' }]

  const made = await iam.send(new CreateUserCommand({ UserName: 'job-1', Path: '/ml/1/', Tags: tags, PermissionsBoundary: boundary }))
  t.match(made.User, {
    UserName: 'job-1',
    Path: '/ml/1/',
    Arn: 'arn:aws:iam::123456789012:user/ml/1/job-1',
    UserId: /^AIDA[A-Z2-7]{17}$/,
    CreateDate: new Date('2025-07-16T01:00:00Z'),
    Tags: tags,
    PermissionsBoundary: { PermissionsBoundaryType: 'Policy', PermissionsBoundaryArn: boundary }
  })
  const { User } = await iam.send(new GetUserCommand({ UserName: 'job-1' }))
  t.same(User, made.User)
  t.match(server.state.user('job-1'),
    { path: '/ml/1/', tags: { job: 'a b + /=@ é', empty: '' }, boundary, inline: {}, attached: [], keys: [] })

  await iam.send(new TagUserCommand({ UserName: 'job-1', Tags: [{ Key: 'JOB', Value: '2' }] }))
  await iam.send(new UntagUserCommand({ UserName: 'job-1', TagKeys: ['EMPTY', 'absent'] }))
  t.same((await iam.send(new ListUserTagsCommand({ UserName: 'job-1' }))).Tags, [{ Key: 'JOB', Value: '2' }], 'tag keys ignore case')

  await iam.send(new UpdateUserCommand({ UserName: 'job-1', NewUserName: 'JOB-2', NewPath: '/ml/2/' }))
  t.match((await iam.send(new GetUserCommand({ UserName: 'JOB-2' }))).User,
    { UserId: made.User?.UserId, Arn: 'arn:aws:iam::123456789012:user/ml/2/JOB-2' })
  t.same((await iam.send(new ListUsersCommand({ PathPrefix: '/ml/1/' }))).Users, [], 'nothing is left under the old path')

  t.same((await iam.send(new ListGroupsForUserCommand({ UserName: 'JOB-2' }))).Groups, [])
  await iam.send(new DeleteUserCommand({ UserName: 'JOB-2' }))
  t.equal(server.state.userCount, 0)
  await t.rejects(iam.send(new GetUserCommand({ UserName: 'JOB-2' })),
    { name: 'NoSuchEntityException', message: 'The user with name JOB-2 cannot be found.', $metadata: { httpStatusCode: 404 } })
})

t.test('a boundary can be put, replaced and taken away', async (t) => {
  const { server, iam } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'job' }))
  await iam.send(new PutUserPermissionsBoundaryCommand({ UserName: 'job', PermissionsBoundary: boundary }))
  t.equal(server.state.user('job')?.boundary, boundary)
  await iam.send(new DeleteUserPermissionsBoundaryCommand({ UserName: 'job' }))
  t.equal(server.state.user('job')?.boundary, null)
})

t.test('names are unique without regard to case, and found by their own', async (t) => {
  const { iam } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'Job' }))
  const exists = { name: 'EntityAlreadyExistsException', $metadata: { httpStatusCode: 409 } }
  await t.rejects(iam.send(new CreateUserCommand({ UserName: 'jOB', Path: '/elsewhere/' })), exists)
  await iam.send(new CreateUserCommand({ UserName: 'other' }))
  await t.rejects(iam.send(new UpdateUserCommand({ UserName: 'other', NewUserName: 'JOB' })), exists)
  await t.rejects(iam.send(new GetUserCommand({ UserName: 'job' })), { name: 'NoSuchEntityException' })
  await iam.send(new UpdateUserCommand({ UserName: 'Job', NewUserName: 'JOB' }))
  t.equal((await iam.send(new GetUserCommand({ UserName: 'JOB' }))).User?.UserName, 'JOB', 'a user may change its own case')
})

t.test('of many creations under one name at once, one wins', async (t) => {
  const { server, iam } = await connect(t)
  const outcomes = await Promise.allSettled(Array.from({ length: 24 }, (_, i) =>
    iam.send(new CreateUserCommand({ UserName: i % 2 === 0 ? 'job-a' : 'JOB-A' }))))
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  t.ok(outcomes.every((outcome) => outcome.status === 'fulfilled' || outcome.reason.name === 'EntityAlreadyExistsException'))
  t.equal(server.state.userCount, 1)
})

t.test('refused input', async (t) => {
  const { iam, server } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'full', Tags: manyTags(50) }))
  const before = server.state.users
  const cases: Array<[string, ConstructorParameters<typeof CreateUserCommand>[0], string, RegExp]> = [
    ['no name', { UserName: undefined }, 'ValidationError', /'userName'.*must not be null/],
    ['empty name', { UserName: '' }, 'ValidationError', /'userName'.*greater than or equal to 1/],
    ['65 characters', { UserName: 'x'.repeat(65) }, 'ValidationError', /'userName'.*less than or equal to 64/],
    ['a slash', { UserName: 'a/b' }, 'ValidationError', /userName is invalid/],
    ['a space', { UserName: 'a b' }, 'ValidationError', /userName is invalid/],
    ['not ASCII', { UserName: 'jöb' }, 'ValidationError', /userName is invalid/],
    ['a line end', { UserName: 'job\n' }, 'ValidationError', /userName is invalid/],
    ['path without start', { UserName: 'u', Path: 'a/' }, 'ValidationError', /path is invalid/],
    ['path without end', { UserName: 'u', Path: '/a' }, 'ValidationError', /path is invalid/],
    ['path with a space', { UserName: 'u', Path: '/a b/' }, 'ValidationError', /path is invalid/],
    ['path of 513', { UserName: 'u', Path: `/${'a'.repeat(511)}/` }, 'ValidationError', /'path'.*512/],
    ['51 tags', { UserName: 'u', Tags: manyTags(51) }, 'ValidationError', /'tags'.*50/],
    ['tag key twice', { UserName: 'u', Tags: [...manyTags(1), { Key: 'K0', Value: '' }] }, 'InvalidInputException', /case insensitive/],
    ['tag without key', { UserName: 'u', Tags: [{ Key: undefined, Value: 'v' }] }, 'ValidationError', /tags.1.member.key/],
    ['tag without value', { UserName: 'u', Tags: [{ Key: 'k', Value: undefined }] }, 'ValidationError', /tags.1.member.value/],
    ['tag key empty', { UserName: 'u', Tags: [{ Key: '', Value: 'v' }] }, 'ValidationError', /tags.1.member.key/],
    ['tag key of 129', { UserName: 'u', Tags: [{ Key: 'k'.repeat(129), Value: '' }] }, 'ValidationError', /128/],
    ['tag value of 257', { UserName: 'u', Tags: [{ Key: 'k', Value: 'v'.repeat(257) }] }, 'ValidationError', /256/],
    ['tag key with <', { UserName: 'u', Tags: [{ Key: '<', Value: '' }] }, 'ValidationError', /regular expression/],
    ['tag value with ,', { UserName: 'u', Tags: [{ Key: 'k', Value: 'a,b' }] }, 'ValidationError', /regular expression/],
    ['reserved tag key', { UserName: 'u', Tags: [{ Key: 'aws:x', Value: '' }] }, 'InvalidInputException', /reserved/],
    ['boundary too short', { UserName: 'u', PermissionsBoundary: 'arn' }, 'ValidationError', /permissionsBoundary/],
    ['boundary that is not there', { UserName: 'u', PermissionsBoundary: `${boundary}x` }, 'NoSuchEntityException', /Scope ARN/]
  ]
  for (const [name, input, error, message] of cases) {
    await t.rejects(iam.send(new CreateUserCommand(input)), { name: error, message }, name)
  }
  await t.rejects(iam.send(new TagUserCommand({ UserName: 'full', Tags: manyTags(1, 50) })), { name: 'LimitExceededException' })
  await iam.send(new TagUserCommand({ UserName: 'full', Tags: [{ Key: 'K7', Value: 'new' }] }))
  t.equal((await iam.send(new ListUserTagsCommand({ UserName: 'full', MaxItems: 1000 }))).Tags?.length, 50)
  t.same(server.state.users.map(({ name }) => name), before.map(({ name }) => name), 'no refused call left a user')
})

t.test('the widest input is taken', async (t) => {
  const { iam, server } = await connect(t)
  const UserName = 'aZ09_+=,.@-'.padEnd(64, 'x')
  const Path = `/${'!~'.repeat(255)}/`
  await iam.send(new CreateUserCommand({ UserName, Path, Tags: [{ Key: 'k'.repeat(128), Value: 'v'.repeat(256) }] }))
  t.match(server.state.users, [{ name: UserName, path: Path }])
})

t.test('the account has room for so many users and no more', async (t) => {
  const { iam } = await connect(t, { maxUsers: 2 })
  await iam.send(new CreateUserCommand({ UserName: 'a' }))
  await iam.send(new CreateUserCommand({ UserName: 'b' }))
  await t.rejects(iam.send(new CreateUserCommand({ UserName: 'c' })),
    { name: 'LimitExceededException', message: 'Cannot exceed quota for UsersPerAccount: 2', $metadata: { httpStatusCode: 409 } })
  await iam.send(new DeleteUserCommand({ UserName: 'a' }))
  await iam.send(new CreateUserCommand({ UserName: 'c' }))
})

t.test('a user with anything on it cannot be deleted', async (t) => {
  const { iam, server } = await connect(t)
  const UserName = 'job'
  await iam.send(new CreateUserCommand({ UserName, PermissionsBoundary: boundary }))
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName }))
  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'p', PolicyDocument: documentOf(200) }))
  await iam.send(new AttachUserPolicyCommand({ UserName, PolicyArn: boundary }))

  const steps: Array<[RegExp, () => Promise<unknown>]> = [
    [/must detach all policies first/, () => iam.send(new DetachUserPolicyCommand({ UserName, PolicyArn: boundary }))],
    [/must delete policies first/, () => iam.send(new DeleteUserPolicyCommand({ UserName, PolicyName: 'p' }))],
    [/must delete access keys first/, () => iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId: AccessKey?.AccessKeyId }))]
  ]
  for (const [message, remove] of steps) {
    await t.rejects(iam.send(new DeleteUserCommand({ UserName })), refused('DeleteConflictException', 409, message))
    await remove()
  }
  await iam.send(new DeleteUserCommand({ UserName }))
  t.same(server.state.users, [])
})

t.test('everything asked of a missing user is NoSuchEntity, or AccessDenied for a path-bound service', async (t) => {
  const AccessKeyId = 'AKIAEMBEDDEDAAAAAAAA'
  const calls: Array<(iam: IAMClient) => Promise<unknown>> = [
    (iam) => iam.send(new GetUserCommand({ UserName: 'gone' })),
    (iam) => iam.send(new DeleteUserCommand({ UserName: 'gone' })),
    (iam) => iam.send(new UpdateUserCommand({ UserName: 'gone', NewPath: '/' })),
    (iam) => iam.send(new TagUserCommand({ UserName: 'gone', Tags: manyTags(1) })),
    (iam) => iam.send(new UntagUserCommand({ UserName: 'gone', TagKeys: ['k'] })),
    (iam) => iam.send(new ListUserTagsCommand({ UserName: 'gone' })),
    (iam) => iam.send(new ListGroupsForUserCommand({ UserName: 'gone' })),
    (iam) => iam.send(new PutUserPermissionsBoundaryCommand({ UserName: 'gone', PermissionsBoundary: boundary })),
    (iam) => iam.send(new CreateAccessKeyCommand({ UserName: 'gone' })),
    (iam) => iam.send(new DeleteAccessKeyCommand({ UserName: 'gone', AccessKeyId })),
    (iam) => iam.send(new PutUserPolicyCommand({ UserName: 'gone', PolicyName: 'p', PolicyDocument: documentOf(200) })),
    (iam) => iam.send(new DeleteUserPolicyCommand({ UserName: 'gone', PolicyName: 'p' })),
    (iam) => iam.send(new AttachUserPolicyCommand({ UserName: 'gone', PolicyArn: boundary }))
  ]
  const plain = await connect(t)
  const bound = await connect(t, { missingUser: 'AccessDenied' })
  for (const call of calls) {
    await t.rejects(call(plain.iam), { name: 'NoSuchEntityException', $metadata: { httpStatusCode: 404 } })
    await t.rejects(call(bound.iam), { name: 'AccessDenied', $metadata: { httpStatusCode: 403 } })
  }
  await bound.iam.send(new CreateUserCommand({ UserName: 'here' }))
  await t.rejects(bound.iam.send(new DeleteUserPolicyCommand({ UserName: 'here', PolicyName: 'p' })),
    { name: 'NoSuchEntityException' }, 'a missing policy of a user within the path stays NoSuchEntity')
})

t.test('users are listed by path and in pages, without tags and boundary', async (t) => {
  const { iam } = await connect(t)
  const paths = ['/', '/a/', '/a/b/', '/ab/', '/b/']
  const wanted = Array.from({ length: 250 }, (_, i) => ({ UserName: `u${i}`, Path: paths[i % 5] as string }))
  await Promise.all(wanted.map((user) => iam.send(new CreateUserCommand({ ...user, Tags: manyTags(1), PermissionsBoundary: boundary }))))
  const pagesOf = async (PathPrefix: string | undefined, MaxItems: number | undefined): Promise<{ arns: string[], sizes: number[] }> => {
    const [arns, sizes]: [string[], number[]] = [[], []]
    let Marker: string | undefined
    do {
      const page = await iam.send(new ListUsersCommand({ PathPrefix, MaxItems, Marker }))
      const bare = page.Users?.every((user) => user.Tags === undefined && user.PermissionsBoundary === undefined)
      if (!bare || page.IsTruncated !== (page.Marker !== undefined)) t.fail('a page with tags, or truncated without a marker', page)
      arns.push(...page.Users?.map(({ Arn }) => Arn ?? '') ?? [])
      sizes.push(page.Users?.length ?? 0)
      Marker = page.Marker
    } while (Marker !== undefined)
    return { arns, sizes }
  }
  for (const prefix of [undefined, '/', '/a', '/a/', '/a/b/', '/u', '/none/']) {
    const expected = wanted.filter(({ Path }) => Path.startsWith(prefix ?? '/'))
      .map(({ UserName, Path }) => `arn:aws:iam::000000000000:user${Path}${UserName}`).sort()
    for (const size of [1000, 7, expected.length]) {
      if (size === 0) continue
      const { arns, sizes } = await pagesOf(prefix, size)
      t.same(arns, expected, `${prefix} by ${size}`)
      t.ok(sizes.slice(0, -1).every((each) => each === size), 'only the last page is short')
    }
  }
  t.same((await pagesOf(undefined, undefined)).sizes, [100, 100, 50], 'a page is a hundred without MaxItems')

  for (const [input, message] of [
    [{ MaxItems: 0 }, /greater than or equal to 1/], [{ MaxItems: 1001 }, /less than or equal to 1000/],
    [{ MaxItems: 1.5 }, /integer/], [{ Marker: 'no marker' }, /Invalid Marker/], [{ PathPrefix: 'a/' }, /pathPrefix/]
  ] as const) {
    await t.rejects(iam.send(new ListUsersCommand(input)), { name: 'ValidationError', message })
  }
})

t.test('a listing goes on rightly when users go and come between its pages', async (t) => {
  const { iam } = await connect(t)
  for (const name of ['a', 'b', 'c', 'd']) await iam.send(new CreateUserCommand({ UserName: name }))
  const first = await iam.send(new ListUsersCommand({ MaxItems: 2 }))
  await iam.send(new DeleteUserCommand({ UserName: 'b' }))
  await iam.send(new CreateUserCommand({ UserName: 'aa' }))
  await iam.send(new CreateUserCommand({ UserName: 'bb' }))
  const second = await iam.send(new ListUsersCommand({ Marker: first.Marker }))
  t.same(second.Users?.map(({ UserName }) => UserName), ['bb', 'c', 'd'])
})
