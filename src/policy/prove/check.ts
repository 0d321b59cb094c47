import { many, type PolicyDocument } from '../../domain/policy-document.ts'
import { readBlock } from './conditions/ip.ts'
import { asking, compile, decide, type AccessRequest, type CompiledStatement, type CompiledTest, type Decision } from './evaluate.ts'
import { kindOfAction } from './known-actions.ts'
import { UnknownElementError } from './unknown-element.ts'

/** Would this request be allowed? One of a job, in the words of S3. */
export interface Question {
  /** `s3:PutObject` */
  action: string
  bucket: string
  /** Object key, for actions on objects. */
  key?: string
  /** The prefix parameter of a listing; absent: the whole bucket is listed. */
  prefix?: string
  /** Public address that S3 sees. */
  sourceIp?: string
  vpcId?: string
  vpcEndpointId?: string
  /** Private address behind a VPC endpoint. */
  vpcSourceIp?: string
  at: Date
}

export interface Verdict {
  allowed: boolean
  decision: Decision['kind']
  /** The statements that decided; `#2` is the second of a policy without Sids. */
  statements: { sid: string, effect: 'Allow' | 'Deny' }[]
  because: string
}

// Service Authorization Reference, Amazon S3: what S3 checks for operations that are not named like their action.
const actionOfOperation = new Map(Object.entries({
  headobject: 's3:GetObject',
  headbucket: 's3:ListBucket',
  listobjects: 's3:ListBucket',
  listobjectsv2: 's3:ListBucket',
  createmultipartupload: 's3:PutObject',
  uploadpart: 's3:PutObject',
  completemultipartupload: 's3:PutObject',
  copyobject: 's3:GetObject on the source and s3:PutObject on the target',
  deleteobjects: 's3:DeleteObject',
  listparts: 's3:ListMultipartUploadParts',
  listmultipartuploads: 's3:ListBucketMultipartUploads',
  listbuckets: 's3:ListAllMyBuckets'
}))

const listings = new Set(['s3:listbucket', 's3:listbucketversions', 's3:listbucketmultipartuploads'])

/** The partition that the policy speaks of. */
const partitionOf = (policy: PolicyDocument): string =>
  policy.Statement.flatMap(statement => many(statement.Resource)).map(arn => /^arn:([^:*]+):/.exec(arn)?.[1]).find(Boolean) ?? 'aws'

/** @throws UnknownElementError with its field, when the question does not make a request to S3 */
const resourceOf = ({ action, bucket, key, prefix }: Question, partition: string): string => {
  const kind = kindOfAction(action)
  if (kind === undefined) {
    const instead = actionOfOperation.get(action.replace(/^s3:/i, '').toLowerCase())
    throw new UnknownElementError(`${action} is not an IAM action${instead === undefined ? '' : `: for that operation S3 checks ${instead}`}`, 'action')
  }
  if (kind === 'key') throw new UnknownElementError(`${action} is checked against a KMS key, not a bucket`, 'action')
  if (kind === 'object' && key === undefined) throw new UnknownElementError(`${action} is checked against an object: it needs a key`, 'key')
  if (kind !== 'object' && key !== undefined) throw new UnknownElementError(`${action} is not checked against an object: it takes no key`, 'key')
  if (prefix !== undefined && !listings.has(action.toLowerCase())) throw new UnknownElementError(`${action} takes no prefix`, 'prefix')
  if (kind === 'other') return '*'
  return `arn:${partition}:s3:::${bucket}${kind === 'object' ? `/${key}` : ''}`
}

const readAddress = (field: string, text: string): string => {
  try {
    const { low, high } = readBlock(text)
    if (low === high && !text.includes('/')) return text
  } catch (error) {
    if (!(error instanceof UnknownElementError)) throw error
  }
  throw new UnknownElementError('not an IP address', field)
}

const requestOf = (question: Question, partition: string): AccessRequest => {
  const { prefix, sourceIp, vpcId, vpcEndpointId, vpcSourceIp, at } = question
  return {
    action: question.action,
    resource: resourceOf(question, partition),
    context: {
      'aws:CurrentTime': at.toISOString(),
      ...(prefix !== undefined && { 's3:prefix': prefix }),
      ...(sourceIp !== undefined && { 'aws:SourceIp': readAddress('sourceIp', sourceIp) }),
      ...(vpcId !== undefined && { 'aws:SourceVpc': vpcId }),
      ...(vpcEndpointId !== undefined && { 'aws:SourceVpce': vpcEndpointId }),
      ...(vpcSourceIp !== undefined && { 'aws:VpcSourceIp': readAddress('vpcSourceIp', vpcSourceIp) })
    }
  }
}

const sidOf = ({ sid, index }: { sid: string | undefined, index: number }): string => sid ?? `#${index + 1}`

const listed = (texts: string[]): string => texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`

const inWords = ({ operator, name, key, values }: CompiledTest, { context }: AccessRequest): string => {
  const [, actual] = Object.entries(context).find(([other]) => other.toLowerCase() === key) ?? []
  return `${operator} ${name} ${values.join(', ')} (the request has ${actual === undefined ? 'none' : actual})`
}

/** The nearest a request came to being allowed. */
const nearMiss = (statements: CompiledStatement[], request: AccessRequest): string => {
  const { action, resource, lookup, holds } = asking(request)
  const allows = statements.filter(statement => statement.effect === 'Allow' && statement.action(action))
  if (allows.length === 0) return `No statement allows ${request.action}.`
  const there = allows.filter(statement => statement.resource(resource, lookup))
  if (there.length === 0) return `${listed(allows.map(sidOf))} allow${allows.length === 1 ? 's' : ''} ${request.action}, but not on ${request.resource}.`
  return there.map(statement => {
    const failed = statement.tests.filter(test => !holds(test)).map(test => inWords(test, request))
    return `${sidOf(statement)} would allow it, but for ${listed(failed)}.`
  }).join(' ')
}

const verdictOf = (statements: CompiledStatement[], { allowed, statements: decisive }: Decision, request: AccessRequest): string => {
  const said = `${listed(decisive.map(sidOf))} ${allowed ? 'allow' : 'forbid'}${decisive.length === 1 ? 's' : ''} ${request.action} on ${request.resource}`
  if (allowed) return `${said}.`
  const tests = decisive.flatMap(({ index }) => statements[index]?.tests ?? []).map(test => inWords(test, request))
  return `${said}, whatever else allows it${tests.length === 0 ? '' : `: ${listed(tests)}`}.`
}

/**
 * Whether a policy allows a request of the job, which statements decide, and why in plain words. It asks the policy alone:
 * a bucket policy, a permissions boundary or the state of the grant may decide otherwise.
 * @throws UnknownElementError with `field` when the question is not one about S3; without, when the policy is one this evaluator does not know
 */
export const check = (policy: PolicyDocument, question: Question): Verdict => {
  const statements = compile(policy)
  const request = requestOf(question, partitionOf(policy))
  const decision = decide(statements, request)
  const sids = decision.statements.map(sidOf)
  const because = decision.kind === 'implicit-deny' ? nearMiss(statements, request) : verdictOf(statements, decision, request)
  return {
    allowed: decision.allowed,
    decision: decision.kind,
    statements: sids.map(sid => ({ sid, effect: decision.allowed ? 'Allow' : 'Deny' })),
    because
  }
}
