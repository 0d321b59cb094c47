import * as iamSdk from '@aws-sdk/client-iam'
import * as stsSdk from '@aws-sdk/client-sts'
import t from 'tap'
import type { Test } from 'tap'
import { servedActions } from '../../src/embedded-iam/dispatch.ts'
import { connect, documentOf, trustOf } from './connect.ts'

/*
 * Every action's answer against the SDK's own model: the members that the model requires are there and of their type,
 * and the XML has no element that the model does not know, which the SDK would silently ignore.
 */

type Schema = unknown
interface Sender { send: (command: never) => Promise<object> }
/** Kinds of shape in the SDK's schemas, as @smithy/core numbers them. */
const [list, map, struct, operation, listOf, mapOf] = [1, 2, 3, 9, 64, 128]
const checks: Record<number, (value: unknown) => boolean> = {
  0: (value) => typeof value === 'string' && value !== '',
  1: (value) => Number.isFinite(value),
  2: (value) => typeof value === 'boolean',
  4: (value) => value instanceof Date && !Number.isNaN(value.getTime())
}

const account = '000000000000'
const UserName = 'job'
const [RoleName, PolicyName] = ['role', 'p']
const RoleArn = `arn:aws:iam::${account}:role/role`
const PolicyArn = `arn:aws:iam::${account}:policy/m`
const PolicyDocument = documentOf(150)
const Tags = [{ Key: 'k', Value: 'v' }]
const PermissionsBoundary = 'arn:aws:iam::aws:policy/AmazonS3FullAccess'
const AssumeRolePolicyDocument = trustOf({ AWS: account }, ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'])

/** One life of everything; AccessKeyId stands for the key that was made. */
const script: Array<[string, Record<string, unknown>]> = [
  ['CreateUser', { UserName, Tags, PermissionsBoundary }],
  ['GetUser', { UserName }],
  ['UpdateUser', { UserName, NewPath: '/ml/' }],
  ['ListUsers', { MaxItems: 1 }],
  ['TagUser', { UserName, Tags }],
  ['ListUserTags', { UserName }],
  ['UntagUser', { UserName, TagKeys: ['k'] }],
  ['PutUserPermissionsBoundary', { UserName, PermissionsBoundary }],
  ['DeleteUserPermissionsBoundary', { UserName }],
  ['ListGroupsForUser', { UserName }],
  ['CreateAccessKey', { UserName }],
  ['ListAccessKeys', { UserName }],
  ['GetAccessKeyLastUsed', { AccessKeyId: true }],
  ['UpdateAccessKey', { UserName, AccessKeyId: true, Status: 'Inactive' }],
  ['PutUserPolicy', { UserName, PolicyName, PolicyDocument }],
  ['GetUserPolicy', { UserName, PolicyName }],
  ['ListUserPolicies', { UserName }],
  ['CreatePolicy', { PolicyName: 'm', PolicyDocument, Description: 'd', Tags }],
  ['GetPolicy', { PolicyArn }],
  ['ListPolicies', { MaxItems: 2 }],
  ['CreatePolicyVersion', { PolicyArn, PolicyDocument }],
  ['GetPolicyVersion', { PolicyArn, VersionId: 'v2' }],
  ['ListPolicyVersions', { PolicyArn }],
  ['SetDefaultPolicyVersion', { PolicyArn, VersionId: 'v2' }],
  ['AttachUserPolicy', { UserName, PolicyArn }],
  ['ListAttachedUserPolicies', { UserName }],
  ['ListEntitiesForPolicy', { PolicyArn }],
  ['CreateRole', { RoleName, AssumeRolePolicyDocument, Description: 'd', Tags, PermissionsBoundary }],
  ['GetRole', { RoleName }],
  ['PutRolePolicy', { RoleName, PolicyName, PolicyDocument }],
  ['GetRolePolicy', { RoleName, PolicyName }],
  ['ListRolePolicies', { RoleName }],
  ['GetAccountSummary', {}],
  ['GetCallerIdentity', {}],
  ['AssumeRole', { RoleArn, RoleSessionName: 's1', Policy: PolicyDocument, Tags, SourceIdentity: 's1' }],
  ['DeleteRolePolicy', { RoleName, PolicyName }],
  ['DeleteRole', { RoleName }],
  ['DetachUserPolicy', { UserName, PolicyArn }],
  ['DeletePolicyVersion', { PolicyArn, VersionId: 'v1' }],
  ['DeletePolicy', { PolicyArn }],
  ['DeleteUserPolicy', { UserName, PolicyName }],
  ['DeleteAccessKey', { UserName, AccessKeyId: true }],
  ['DeleteUser', { UserName }]
]

t.test('the script has every action that is served', (t) => {
  const played = script.map(([action]) => action)
  t.same([...played].sort(), [...servedActions.iam, ...servedActions.sts].sort())
  t.end()
})

t.test('answers have the shape of the SDK’s model', async (t) => {
  const { iam, sts } = await connect(t)
  let AccessKeyId = ''
  let xml = ''
  for (const client of [iam, sts]) {
    // Between the network and the deserializer: the body as the server wrote it.
    const stack = client.middlewareStack as { add: (middleware: unknown, options: object) => void }
    stack.add((next: (args: unknown) => Promise<{ response: { body: unknown } }>) => async (args: unknown) => {
      const result = await next(args)
      const chunks: Buffer[] = []
      for await (const chunk of result.response.body as AsyncIterable<Buffer>) chunks.push(chunk)
      const body = Buffer.concat(chunks)
      xml = body.toString()
      result.response.body = body
      return result
    }, { step: 'deserialize', priority: 'low', name: 'body' })
  }
  for (const [action, input] of script) {
    const [sdk, client] = servedActions.iam.includes(action) ? [iamSdk, iam as Sender] : [stsSdk, sts as Sender]
    const exported = sdk as unknown as Record<string, new (input: object) => object>
    const Command = exported[`${action}Command`]
    const schema = (sdk as unknown as Record<string, Schema[]>)[`${action}$`]
    if (!Command || schema?.[0] !== operation) { t.fail(`The SDK has no ${action}.`); continue }
    const command = new Command('AccessKeyId' in input ? { ...input, AccessKeyId } : input)
    const { $metadata, ...output } = await client.send(command as never) as Record<string, object>
    if (action === 'CreateAccessKey') AccessKeyId = (output.AccessKey as { AccessKeyId: string }).AccessKeyId
    t.match($metadata, { httpStatusCode: 200, requestId: /^[0-9a-f-]{36}$/ })

    const shape = schema[5]
    const known = new Set(['member', 'entry', 'key', 'value', `${action}Response`, 'ResponseMetadata', 'RequestId'])
    if (resolve(shape) !== 'unit') known.add(`${action}Result`)
    collect(shape, known)
    const unknown = Array.from(xml.matchAll(/<([A-Za-z]+)/g), ([, name]) => name as string).filter((name) => !known.has(name))
    t.same(unknown, [], `${action} has no element that the model does not know`)
    const namespace = sdk === iamSdk ? 'iam.amazonaws.com/doc/2010-05-08' : 'sts.amazonaws.com/doc/2011-06-15'
    t.ok(xml.startsWith(`<${action}Response xmlns="https://${namespace}/">`))
    check(t, action, output, shape)
  }
})

function check (t: Test, at: string, value: unknown, unresolved: Schema): void {
  const schema = resolve(unresolved)
  if (schema === 'unit') return
  if (typeof schema === 'number') {
    if (schema & listOf) for (const each of value as unknown[]) check(t, `${at}[]`, each, schema & ~listOf)
    else if (schema & mapOf) for (const each of Object.values(value as object)) check(t, `${at}{}`, each, schema & ~mapOf)
    else t.ok(checks[schema]?.(value), `${at} is of its type: ${String(value)}`)
    return
  }
  const [kind, , , , members, shapes, required = 0] = schema as [number, string, string, unknown, string[], Schema[], number?]
  if (kind === list) {
    if (!Array.isArray(value)) t.fail(`${at} is no list`)
    else for (const each of value) check(t, `${at}[]`, each, members)
  } else if (kind === map) {
    t.type(value, Object)
  } else if (kind === struct) {
    members.forEach((name, i) => {
      const member = (value as Record<string, unknown>)[name]
      if (member !== undefined) check(t, `${at}.${name}`, member, shapes[i])
      else if (i < required) t.fail(`${at}.${name} is required`)
    })
  } else {
    check(t, at, value, members)
  }
}

/** Adds the names of all members below a shape. */
function collect (unresolved: Schema, names: Set<string>): void {
  const schema = resolve(unresolved)
  if (!Array.isArray(schema)) return
  const [kind, , , , members, shapes] = schema as [number, string, string, unknown, string[], Schema[]]
  if (kind === list) collect(members, names)
  if (kind !== struct) return
  members.forEach((name, i) => {
    names.add(name)
    collect(shapes[i], names)
  })
}

/** Schemas are lazy, and members may come with traits of their own. */
function resolve (schema: Schema): number | 'unit' | Schema[] {
  if (typeof schema === 'function') return resolve(schema())
  if (typeof schema === 'string') return 'unit'
  if (Array.isArray(schema) && typeof schema[0] !== 'number') return resolve(schema[0])
  return schema as number | Schema[]
}
