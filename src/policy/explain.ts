import type { ConditionBlock, PolicyDocument, Statement } from './document.ts'
import { many } from './document.ts'

/** One statement in plain English, for someone who does not read IAM. */
export interface Explanation { sid: string, effect: 'Allow' | 'Deny', text: string }

/** Explains a policy from its text alone, so that the explanation is of what is issued and not of what was meant. */
export const explain = (policy: PolicyDocument): Explanation[] => policy.Statement.map((statement, index) => ({
  sid: statement.Sid ?? `#${index + 1}`,
  effect: statement.Effect,
  text: `${statement.Effect === 'Allow' ? allowed(statement) : denied(statement)}.${remarks(statement)}`
}))

const allowed = (statement: Statement): string =>
  ['The job may', listed(deeds(many(statement.Action))), where(statement), ...conditions(statement.Condition)].join(' ')

const denied = (statement: Statement): string => [
  'Whatever else allows it, the job may not',
  listed(deeds(many(statement.Action)), 'or'),
  where(statement),
  ...denyConditions(statement.Condition)
].join(' ')

// --- what ---

const phrases: Record<string, string> = {
  's3:GetObject': 'read objects',
  's3:ListBucket': 'list object names',
  's3:GetBucketLocation': 'ask for the bucket’s region',
  's3:PutObject': 'write objects',
  's3:PutObjectAcl': 'change who else may access objects',
  's3:DeleteObject': 'delete objects',
  's3:AbortMultipartUpload': 'abort multipart uploads',
  's3:ListMultipartUploadParts': 'list the parts of multipart uploads',
  's3:*': 'do anything in S3',
  'kms:Decrypt': 'decrypt data',
  'kms:GenerateDataKey': 'make data keys to encrypt with'
}

const unknownActions: Record<string, string> = {
  's3:CompleteMultipartUpload': 's3:CompleteMultipartUpload is no IAM action and allows nothing: writing objects covers it'
}

const deeds = (actions: string[]): string[] => actions
  .filter(action => !(action in unknownActions))
  .map(action => phrases[action] ?? `use ${action}`)

const remarks = (statement: Statement): string => many(statement.Action)
  .flatMap(action => unknownActions[action] ?? [])
  .map(remark => ` (${remark}.)`)
  .join('')

// --- where ---

const where = (statement: Statement): string => {
  if (statement.NotResource !== undefined) return `anywhere but ${listed(places(many(statement.NotResource)), 'and')}`
  const resources = many(statement.Resource)
  if (resources.includes('*')) return 'anywhere'
  if (resources.every(resource => /^arn:[^:]*:kms:/.test(resource))) {
    return `with the encryption ${resources.length === 1 ? 'key' : 'keys'} ${listed(resources)}`
  }
  return `in ${listed(places(resources))}`
}

/** A bucket ARN beside ARNs of its objects only carries the bucket's own actions: the objects say which part of it is meant. */
const places = (arns: string[]): string[] => {
  const names = arns.map(arn => arn.replace(/^arn:[^:]*:s3:::/, ''))
  const parts = names.filter(name => name.includes('/'))
  const wholes = names.filter(name => !name.includes('/') && !parts.some(part => part.startsWith(`${name}/`)))
  return [...wholes.map(name => `bucket ${name}`), ...parts.map(place)]
}

const place = (name: string): string => {
  const slash = name.indexOf('/')
  const bucket = name.slice(0, slash)
  const key = name.slice(slash + 1)
  if (key === '*') return `bucket ${bucket}`
  return `bucket ${bucket} under ${key.replace(/\*$/, '')}`
}

// --- when and from where ---

const conditions = (condition: ConditionBlock | undefined): string[] => {
  const said = Object.entries(condition ?? {}).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, values]) => allowCondition(operator, key, many(values))))
  return said.length > 0 ? [listed(said, 'and')] : ['at any time and from anywhere that no other statement denies']
}

const allowCondition = (operator: string, key: string, values: string[]): string => {
  const either = listed(values, 'or')
  switch (`${operator} ${key}`) {
    case 'DateGreaterThan aws:CurrentTime': return `after ${either}`
    case 'DateGreaterThanEquals aws:CurrentTime': return `from ${either} on`
    case 'DateLessThan aws:CurrentTime': return `before ${either}`
    case 'IpAddress aws:SourceIp': return `from ${addresses(values)}`
    case 'IpAddress aws:VpcSourceIp': return `from ${addresses(values, 'private ')}`
    case 'StringEquals aws:SourceVpc': return `through the VPC ${either}`
    case 'StringEquals aws:SourceVpce': return `through the VPC endpoint ${either}`
    case 'StringEquals kms:ViaService': return `through S3 (${either}) alone`
    case 'StringLike s3:prefix': return `for names that begin with ${listed(values.map(value => value.replace(/\*$/, '')), 'or')}`
    default: return `if ${operator} ${key} ${either}`
  }
}

const denyConditions = (condition: ConditionBlock | undefined): string[] => {
  const said = Object.entries(condition ?? {}).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, values]) => denyCondition(operator, key, many(values))))
  return said.length > 0 ? [listed(said, 'and')] : ['at any time']
}

const denyCondition = (operator: string, key: string, values: string[]): string => {
  const either = listed(values, 'or')
  switch (`${operator} ${key}`) {
    case 'DateLessThan aws:CurrentTime': return `before ${either}`
    case 'DateGreaterThanEquals aws:CurrentTime': return `from ${either} on`
    case 'NotIpAddress aws:SourceIp': return `unless it comes from ${addresses(values)}`
    case 'NotIpAddress aws:VpcSourceIp': return `unless it comes from ${addresses(values, 'private ')}`
    case 'StringNotEquals aws:SourceVpc': return `unless it comes through the VPC ${either}`
    case 'StringNotEquals aws:SourceVpce': return `unless it comes through the VPC endpoint ${either}`
    default: return `if ${operator} ${key} ${either}`
  }
}

const addresses = (cidrs: string[], kind = ''): string => {
  const alone = (cidr: string): boolean => cidr.endsWith(cidr.includes(':') ? '/128' : '/32')
  const names = cidrs.map(cidr => alone(cidr) ? cidr.slice(0, cidr.indexOf('/')) : cidr)
  return `the ${kind}${cidrs.length === 1 && cidrs.every(alone) ? 'address' : 'addresses'} ${listed(names, 'or')}`
}

const listed = (items: string[], last = 'and'): string => {
  const tail = items.at(-1) ?? 'nothing'
  return items.length < 2 ? tail : `${items.slice(0, -1).join(', ')} ${last} ${tail}`
}
