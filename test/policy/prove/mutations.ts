import type { PolicyDocument, Statement } from '../../../src/domain/policy-document.ts'
import { readBlock, writeAddress } from '../../../src/policy/prove/conditions.ts'

/** A policy with one thing changed. */
export interface Mutant { what: string, policy: PolicyDocument }

const dangerous = [
  's3:DeleteObject', 's3:DeleteObjectVersion', 's3:PutObjectAcl', 's3:GetObjectVersion', 's3:PutObject', 's3:GetObject', 's3:ListBucket',
  's3:PutBucketPolicy', 's3:DeleteBucket', 's3:ListBucketVersions', 's3:PutObjectRetention', 's3:BypassGovernanceRetention',
  's3:ListBucketMultipartUploads', 's3:RestoreObject', 's3:PutObjectTagging', 's3:PutLifecycleConfiguration', 's3:PutReplicationConfiguration',
  's3:ListAllMyBuckets', 'iam:PutUserPolicy', 'iam:CreateAccessKey', 'sts:AssumeRole', 'kms:Decrypt', 'kms:GenerateDataKey', 'kms:CreateGrant',
  's3:*', 's3:Get*', 's3:GetObject*', 's3:?etObject', '*'
]

const operatorSwaps: Record<string, string[]> = {
  DateLessThan: ['DateLessThanEquals', 'DateGreaterThan', 'DateLessThanIfExists', 'DateNotEquals'],
  DateGreaterThan: ['DateGreaterThanEquals', 'DateLessThan'],
  DateGreaterThanEquals: ['DateGreaterThan', 'DateLessThanEquals', 'DateNotEquals'],
  IpAddress: ['NotIpAddress', 'IpAddressIfExists'],
  NotIpAddress: ['IpAddress'],
  StringEquals: ['StringNotEquals', 'StringEqualsIfExists', 'StringEqualsIgnoreCase', 'StringLikeIfExists', 'ForAllValues:StringEquals'],
  StringNotEquals: ['StringEquals', 'ForAnyValue:StringNotEquals'],
  ArnEquals: ['ArnNotEquals', 'ArnEqualsIfExists', 'StringEqualsIfExists', 'ForAllValues:ArnEquals'],
  ArnNotEquals: ['ArnEquals', 'ForAnyValue:ArnNotEquals', 'StringNotEquals'],
  StringLike: ['StringNotLike', 'StringLikeIfExists', 'StringEquals']
}

const without = <T>(list: readonly T[], index: number): T[] => list.filter((_, i) => i !== index)

function * valueMutants (key: string, value: string): Generator<string> {
  if (/currenttime/i.test(key)) {
    for (const seconds of [-3600, -1, 1, 86_400]) yield new Date(Date.parse(value) + seconds * 1000).toISOString().replace('.000', '')
    yield value.slice(0, 10)
  } else if (/sourceip/i.test(key)) {
    const block = readBlock(value)
    const bits = Number(value.split('/')[1])
    const [low, high] = [BigInt(`0x${block.low}`), BigInt(`0x${block.high}`)]
    const size = high - low + 1n
    const written = (number: bigint) => writeAddress(number.toString(16).padStart(block.low.length, '0'))
    // One bit wider or narrower, the block beside it, its IPv4-mapped twin.
    if (bits > 0) yield `${written((low / (size * 2n)) * size * 2n)}/${bits - 1}`
    if (size > 1n) yield `${written(low)}/${bits + 1}`
    yield `${written(low ^ size)}/${bits}`
    if (block.low.length === 8) yield `::ffff:${written(low)}/${96 + bits}`
  } else {
    yield `${value}*`
    yield `${value}x`
    yield value.replace(/\*$/, '')
    yield value.replace(/.\*?$/, '')
    yield value.replace(/.\*$/, '*')
    yield value.replace(/[a-z]/, '?')
    yield value.toUpperCase()
    yield '*'
  }
}

function * resourceMutants (resource: string): Generator<string> {
  yield '*'
  yield `${resource}*`
  yield `${resource}x`
  yield resource.replace(/\*$/, '')
  yield resource.replace(/\/\*$/, '*')
  yield resource.replace(/[^/]+\/\*$/, '*')
  yield resource.replace(/\/.*$/, '/*')
  yield resource.replace(/.$/, '')
  yield resource.replace(/:::(.)/, ':::?')
  yield resource.replace(/^arn:[^:]+/, match => match === 'arn:aws' ? 'arn:aws-cn' : 'arn:aws')
  yield resource.replace(/:::[^/]+/, ':::another-bucket')
  yield resource.replace(/:::/, ':::*')
  yield resource.replace(/:::.*$/, ':::*')
  yield resource.replace(/\*$/, '$' + '{aws:username}/*')
}

function * conditionMutants (statement: Statement): Generator<[string, Statement]> {
  const { Condition = {} } = statement
  const { Condition: _, ...unbound } = statement
  if (statement.Condition !== undefined) yield ['all conditions dropped', unbound]
  for (const [operator, keys] of Object.entries(Condition)) {
    const { [operator]: __, ...others } = Condition
    yield [`${operator} dropped`, { ...unbound, ...(Object.keys(others).length > 0 && { Condition: others }) }]
    for (const swap of operatorSwaps[operator] ?? []) {
      if (!(swap in others)) yield [`${operator} to ${swap}`, { ...statement, Condition: { ...others, [swap]: keys } }]
    }
    for (const [key, value] of Object.entries(keys)) {
      const { [key]: ___, ...otherKeys } = keys
      const withKeys = (changed: typeof keys): Statement => ({ ...statement, Condition: { ...Condition, [operator]: changed } })
      if (Object.keys(otherKeys).length > 0) yield [`${operator} ${key} dropped`, withKeys(otherKeys)]
      const renamed = /source/i.test(key) ? ['aws:SourceIp', 'aws:VpcSourceIp', 'aws:SourceVpc', 'aws:SourceVpcArn', 'aws:SourceAccount'] : ['aws:EpochTime', 'aws:PrincipalTag/x']
      for (const name of renamed) if (name !== key) yield [`${key} to ${name}`, withKeys({ ...otherKeys, [name]: value })]
      const values = [value].flat()
      for (const [i, one] of values.entries()) {
        if (values.length > 1) yield [`${key} ${one} dropped`, withKeys({ ...keys, [key]: without(values, i) })]
        for (const changed of valueMutants(key, one)) {
          if (changed !== one) yield [`${key} ${one} to ${changed}`, withKeys({ ...keys, [key]: [...without(values, i), changed] })]
        }
      }
      for (const more of /sourceip/i.test(key) ? ['192.0.2.7/32', '2001:db8:ffff::/48', '::/0', '0.0.0.0/0'] : []) {
        yield [`${key} also ${more}`, withKeys({ ...keys, [key]: [...values, more] })]
      }
    }
  }
  if (statement.Condition === undefined || statement.Effect === 'Deny') {
    yield ['a condition added', { ...statement, Condition: { ...Condition, StringEquals: { 'aws:SourceVpc': 'vpc-00000000' } } }]
  }
}

function * statementMutants (statement: Statement): Generator<[string, Statement]> {
  yield [`${statement.Effect} turned`, { ...statement, Effect: statement.Effect === 'Allow' ? 'Deny' : 'Allow' }]
  const actions = [statement.Action].flat()
  for (const [i, action] of actions.entries()) {
    if (actions.length > 1) yield [`${action} dropped`, { ...statement, Action: without(actions, i) }]
    for (const other of [`${action}x`, action.replace(/.$/, ''), action.replace(/.$/, '*')]) {
      if (other !== action) yield [`${action} to ${other}`, { ...statement, Action: [...without(actions, i), other] }]
    }
  }
  for (const more of dangerous) if (!actions.includes(more)) yield [`${more} added`, { ...statement, Action: [...actions, more] }]
  const { Action, ...rest } = statement
  yield ['NotAction', { ...rest, NotAction: Action } as unknown as Statement]
  const { Resource, NotResource, ...bare } = statement
  const element = Resource === undefined ? 'NotResource' : 'Resource'
  const resources = [Resource ?? NotResource ?? []].flat()
  for (const [i, resource] of resources.entries()) {
    if (resources.length > 1) yield [`${resource} dropped`, { ...bare, [element]: without(resources, i) }]
    for (const other of resourceMutants(resource)) {
      if (other !== resource) yield [`${resource} to ${other}`, { ...bare, [element]: [...without(resources, i), other] }]
    }
  }
  for (const more of ['arn:aws:s3:::another-bucket', 'arn:aws:s3:::another-bucket/*']) {
    yield [`${more} added`, { ...bare, [element]: [...resources, more] }]
  }
  yield [`${element} inverted`, { ...bare, [element === 'Resource' ? 'NotResource' : 'Resource']: resources }]
  yield ['Principal added', { ...statement, Principal: '*' } as Statement]
  yield * conditionMutants(statement)
}

/** What a wrong merge of two statements would give: the first one with more than its own, or under the conditions of the second. */
function * mergeMutants (one: Statement, other: Statement): Generator<[string, Statement]> {
  const both = (element: 'Action' | 'Resource') => ({ [element]: [...new Set([one[element] ?? [], other[element] ?? []].flat(2))] })
  const { Condition, ...unbound } = one
  yield ['resources', { ...one, ...both('Resource') }]
  yield ['actions', { ...one, ...both('Action') }]
  yield ['actions and resources', { ...one, ...both('Action'), ...both('Resource') }]
  yield ['conditions', { ...unbound, ...(other.Condition && { Condition: other.Condition }) }]
}

/** Every policy that differs from this one in a single place. */
export function * mutants ({ Version, Statement: statements }: PolicyDocument): Generator<Mutant> {
  for (const [i, statement] of statements.entries()) {
    const put = (...changed: Statement[]): PolicyDocument =>
      ({ Version, Statement: [...statements.slice(0, i), ...changed, ...statements.slice(i + 1)] })
    const name = statement.Sid ?? i
    if (statements.length > 1) yield { what: `${name}: dropped`, policy: put() }
    yield { what: `${name}: twice`, policy: put(statement, statement) }
    for (const [what, changed] of statementMutants(statement)) yield { what: `${name}: ${what}`, policy: put(changed) }
    if (statement.Effect === 'Deny') continue
    for (const other of statements.filter(each => each !== statement && each.Effect === 'Allow')) {
      for (const [what, changed] of mergeMutants(statement, other)) {
        if (JSON.stringify(changed) !== JSON.stringify(statement)) yield { what: `${name}: ${what} of ${other.Sid}`, policy: put(changed) }
      }
    }
  }
  const everything: Statement = { Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['*'] }
  yield { what: 'an Allow of everything added', policy: { Version, Statement: [...statements, everything] } }
  yield { what: 'a Deny of everything added', policy: { Version, Statement: [...statements, { Effect: 'Deny', Action: '*', Resource: '*' }] } }
  yield { what: 'old version', policy: { Version: '2008-10-17' as '2012-10-17', Statement: statements } }
}
