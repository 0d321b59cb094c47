import type { PolicyDocument, Statement } from '../domain/policy-document.ts'
import { quoted } from './entries.ts'

/** One statement in plain English, for a reader who does not know IAM. */
interface StatementExplanation { sid: string, effect: 'Allow' | 'Deny', text: string }

/** Explains a policy from its text alone, so that the words say what is issued, not what was intended. */
export const explainPolicy = (policy: PolicyDocument): StatementExplanation[] => {
  const unbound = policy.Statement.some(statement => statement.Effect === 'Deny')
    ? 'except where a Deny of this policy forbids it'
    : 'at any time and from anywhere'
  return policy.Statement.map((statement, index) => ({
    sid: statement.Sid ?? `#${index + 1}`,
    effect: statement.Effect,
    text: statement.Effect === 'Allow' ? allowed(statement, unbound) : denied(statement)
  }))
}

const allowed = (statement: Statement, unbound: string): string => {
  const actions = [statement.Action].flat()
  const when = conditions(statement, allowPhrases)
  return `The job may ${listed(deeds(actions))} ${where(statement)}${when === '' ? `, ${unbound}` : when}.${remark(actions)}`
}

const denied = (statement: Statement): string =>
  `Whatever else allows it, the job may not ${listed(deeds([statement.Action].flat()), 'or')} ${where(statement)}` +
  `${conditions(statement, denyPhrases, unlessPhrases)}.`

// --- what ---

const deedOf: Record<string, string> = {
  's3:GetObject': 'read objects',
  's3:ListBucket': 'list the names of objects',
  's3:GetBucketLocation': 'ask for the region',
  's3:PutObject': 'write objects',
  's3:PutObjectAcl': 'change who else may access objects',
  's3:DeleteObject': 'delete objects',
  's3:AbortMultipartUpload': 'abort uploads in parts',
  's3:ListMultipartUploadParts': 'list the parts of uploads',
  's3:GetObjectVersion': 'read earlier versions of objects',
  's3:GetBucketVersioning': 'ask whether the bucket keeps versions',
  's3:ListBucketVersions': 'list the versions of objects',
  's3:GetObjectTagging': 'read the tags of objects',
  's3:GetObjectVersionTagging': 'read the tags of earlier versions',
  's3:PutObjectTagging': 'tag objects',
  's3:GetObjectAttributes': 'read the attributes of objects',
  's3:GetObjectVersionAttributes': 'read the attributes of earlier versions',
  's3:RestoreObject': 'restore archived objects',
  's3:ListBucketMultipartUploads': 'list uploads in progress',
  's3:*': 'do anything in S3',
  'kms:Decrypt': 'decrypt',
  'kms:GenerateDataKey': 'encrypt'
}

const noAction = 's3:CompleteMultipartUpload'

const deeds = (actions: readonly string[]): string[] => {
  const said: string[] = []
  for (const action of actions) if (action !== noAction) said.push(deedOf[action] ?? `use ${action}`)
  return said
}

const remark = (actions: readonly string[]): string =>
  actions.includes(noAction) ? ` ${noAction} is no IAM action and allows nothing; writing objects covers it.` : ''

// --- where ---

const where = (statement: Statement): string => {
  if (statement.NotResource !== undefined) return `outside of ${listed(places([statement.NotResource].flat()))}`
  const resources = [statement.Resource ?? []].flat()
  if (resources.includes('*')) return 'anywhere'
  if (resources.every(resource => resource.split(':', 3)[2] === 'kms')) {
    return `with the encryption ${resources.length === 1 ? 'key' : 'keys'} ${listed(resources)}`
  }
  return `in ${listed(places(resources))}`
}

/** A bucket’s ARN next to one of its objects is there for the actions on the bucket: the objects’ ARN says which part is meant. */
const places = (arns: readonly string[]): string[] => {
  const names = arns.map(arn => arn.slice(arn.indexOf(':::') + 3))
  return names.flatMap(name => {
    const slash = name.indexOf('/')
    if (slash === -1) return names.some(other => other.startsWith(`${name}/`)) ? [] : [`the bucket ${name}`]
    const keys = name.slice(slash + 1)
    const bucket = `the bucket ${name.slice(0, slash)}`
    if (keys === '*') return [bucket]
    if (!keys.endsWith('*')) return [`${bucket} at the key ${quoted(keys)}`]
    return [`${bucket} under ${keys.endsWith('/*') ? '' : 'the keys that begin with '}${quoted(withoutStar(keys))}`]
  })
}

const withoutStar = (pattern: string): string => pattern.endsWith('*') ? pattern.slice(0, -1) : pattern

// --- when and from where ---

type Phrase = (values: readonly string[]) => string

const either = (values: readonly string[]): string => listed(values, 'or')

const allowPhrases: Record<string, Phrase> = {
  'DateGreaterThan aws:CurrentTime': values => `after ${either(values)}`,
  'DateGreaterThanEquals aws:CurrentTime': values => `from ${either(values)} on`,
  'DateLessThan aws:CurrentTime': values => `until ${either(values)}`,
  'IpAddress aws:SourceIp': values => `only from ${addresses(values)}`,
  'IpAddress aws:VpcSourceIp': values => `only from ${addresses(values, 'private ')}`,
  'StringEquals aws:SourceVpc': values => `only through the VPC ${either(values)}`,
  'ArnEquals aws:SourceVpcArn': values => `only through the VPC ${either(values)}`,
  'StringEquals aws:SourceVpce': values => `only through the VPC endpoint ${either(values)}`,
  'StringEquals kms:ViaService': values => `only through S3 (${either(values)})`,
  'StringLike s3:x-amz-acl': values => `only to the canned ACL ${either(values)}`,
  'StringLike s3:prefix': values => {
    const begin = values.filter(value => value.endsWith('*')).map(withoutStar).map(quoted)
    const exact = values.filter(value => !value.endsWith('*')).map(quoted)
    return 'only ' + [
      ...(begin.length > 0 ? [`names that begin with ${either(begin)}`] : []),
      ...(exact.length > 0 ? [`by the prefix ${either(exact)} itself`] : [])
    ].join(', or ')
  }
}

const denyPhrases: Record<string, Phrase> = {
  'DateLessThan aws:CurrentTime': values => `before ${either(values)}`,
  'DateGreaterThanEquals aws:CurrentTime': values => `from ${either(values)} on`
}

/** Of the negated conditions of a Deny, which all must hold: where a request comes from that the Deny does not touch. */
const unlessPhrases: Record<string, Phrase> = {
  'NotIpAddress aws:SourceIp': values => `from ${addresses(values)}`,
  'NotIpAddress aws:VpcSourceIp': values => `from ${addresses(values, 'private ')}`,
  'StringNotEquals aws:SourceVpc': values => `through the VPC ${either(values)}`,
  'ArnNotEquals aws:SourceVpcArn': values => `through the VPC ${either(values)}`,
  'StringNotEquals aws:SourceVpce': values => `through the VPC endpoint ${either(values)}`
}

/** Every condition, each after a comma, as all of them must hold. A condition without a phrase has the name that IAM gives it. */
const conditions = (statement: Statement, phrases: Record<string, Phrase>, unless: Record<string, Phrase> = {}): string => {
  let said = ''
  const exceptions: string[] = []
  for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
    for (const [key, value] of Object.entries(keys)) {
      const name = `${operator} ${key}`
      const values = [value].flat()
      const exception = unless[name]?.(values)
      if (exception === undefined) said += `, ${phrases[name]?.(values) ?? `if ${name} ${either(values)}`}`
      else exceptions.push(exception)
    }
  }
  return exceptions.length === 0 ? said : `${said}, unless the request comes ${exceptions.join(', or ')}`
}

const addresses = (cidrs: readonly string[], kind = ''): string => {
  const names = cidrs.map(cidr => isOneAddress(cidr) ? cidr.slice(0, cidr.indexOf('/')) : cidr)
  const one = cidrs.length === 1 && names[0] !== cidrs[0]
  return `the ${kind}${one ? 'address' : 'addresses'} ${either(names)}`
}

const isOneAddress = (cidr: string): boolean => cidr.endsWith(cidr.includes(':') ? '/128' : '/32')

const listed = (items: readonly string[], last = 'and'): string => {
  const tail = items.at(-1) ?? 'nothing'
  return items.length < 2 ? tail : `${items.slice(0, -1).join(', ')} ${last} ${tail}`
}
