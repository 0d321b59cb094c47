import type { PolicyDocument } from '../../domain/policy-document.ts'
import { readBlock } from './conditions.ts'
import {
  compile, compileRequest, decide, type CompiledStatement, type CompiledTest, type IamRequest, type PolicyDecision
} from './evaluate.ts'
import { kindOfAction } from './validate.ts'
import { UnknownElementError } from './wildcard.ts'

/** Would the job be allowed to do this? A request to S3, in S3's words. */
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
  vpcArn?: string
  vpcEndpointId?: string
  /** Private address behind a VPC endpoint. */
  vpcSourceIp?: string
  at: Date
}

/** A question that is not one about S3; `field` is the field of the Question that is wrong. */
export class QuestionError extends Error {
  override name = 'QuestionError'
  readonly field: keyof Question

  constructor (message: string, field: keyof Question) {
    super(message)
    this.field = field
  }
}

interface Verdict {
  allowed: boolean
  decision: PolicyDecision['kind']
  /** The statements that decided. The second statement is `#2` when it has no Sid. */
  statements: { sid: string, effect: 'Allow' | 'Deny' }[]
  because: string
}

// Source: Service Authorization Reference, Amazon S3. What S3 checks for operations that have another name than their action.
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

/** The partition of the policy's resources. */
const partitionOf = (policy: PolicyDocument): string =>
  policy.Statement.flatMap(statement => statement.Resource ?? []).map(arn => /^arn:([^:*]+):/.exec(arn)?.[1]).find(Boolean) ?? 'aws'

/** @throws QuestionError when the question does not make a request to S3 */
const resourceOf = ({ action, bucket, key, prefix }: Question, partition: string): string => {
  const kind = kindOfAction(action)
  if (kind === undefined) {
    const instead = actionOfOperation.get(action.replace(/^s3:/i, '').toLowerCase())
    throw new QuestionError(
      `${action} is not an IAM action${instead === undefined ? '' : `: for that operation S3 checks ${instead}`}`, 'action'
    )
  }
  if (kind === 'key') throw new QuestionError(`${action} is checked against a KMS key, not a bucket`, 'action')
  if (kind === 'object' && key === undefined) throw new QuestionError(`${action} is checked against an object: it needs a key`, 'key')
  if (kind !== 'object' && key !== undefined) throw new QuestionError(`${action} is not checked against an object: it takes no key`, 'key')
  if (prefix !== undefined && !listings.has(action.toLowerCase())) throw new QuestionError(`${action} takes no prefix`, 'prefix')
  if (kind === 'other') return '*'
  return `arn:${partition}:s3:::${bucket}${kind === 'object' ? `/${key}` : ''}`
}

const readAddress = (field: keyof Question, text: string): string => {
  try {
    const { low, high } = readBlock(text)
    if (low === high && !text.includes('/')) return text
  } catch (error) {
    if (!(error instanceof UnknownElementError)) throw error
  }
  throw new QuestionError('not an IP address', field)
}

const requestOf = (question: Question, partition: string): IamRequest => {
  const { prefix, sourceIp, vpcId, vpcArn, vpcEndpointId, vpcSourceIp, at } = question
  return {
    action: question.action,
    resource: resourceOf(question, partition),
    context: {
      'aws:CurrentTime': at.toISOString(),
      ...(prefix !== undefined && { 's3:prefix': prefix }),
      ...(sourceIp !== undefined && { 'aws:SourceIp': readAddress('sourceIp', sourceIp) }),
      ...(vpcId !== undefined && { 'aws:SourceVpc': vpcId }),
      ...(vpcArn !== undefined && { 'aws:SourceVpcArn': vpcArn }),
      ...(vpcEndpointId !== undefined && { 'aws:SourceVpce': vpcEndpointId }),
      ...(vpcSourceIp !== undefined && { 'aws:VpcSourceIp': readAddress('vpcSourceIp', vpcSourceIp) })
    }
  }
}

const sidOf = ({ sid, index }: { sid: string | undefined, index: number }): string => sid ?? `#${index + 1}`

const listed = (texts: string[]): string => texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`

const inWords = ({ operator, name, key, values }: CompiledTest, { context }: IamRequest): string => {
  const [, actual] = Object.entries(context).find(([other]) => other.toLowerCase() === key) ?? []
  return `${operator} ${name} ${values.join(', ')} (the request has ${actual === undefined ? 'none' : actual})`
}

/** Why no statement allows a request: what is missing in the Allows that come nearest. */
const reasonOfImplicitDeny = (statements: CompiledStatement[], request: IamRequest): string => {
  const { action, resource, lookup, holds } = compileRequest(request)
  const allows = statements.filter(statement => statement.effect === 'Allow' && statement.action(action))
  if (allows.length === 0) return `No statement allows ${request.action}.`
  const there = allows.filter(statement => statement.resource(resource, lookup))
  if (there.length === 0) {
    return `${listed(allows.map(sidOf))} allow${allows.length === 1 ? 's' : ''} ${request.action}, but not on ${request.resource}.`
  }
  return there.map(statement => {
    const failed = statement.tests.filter(test => !holds(test)).map(test => inWords(test, request))
    return `${sidOf(statement)} would allow it, but for ${listed(failed)}.`
  }).join(' ')
}

const reasonOf = (statements: CompiledStatement[], { allowed, statements: decisive }: PolicyDecision, request: IamRequest): string => {
  const said = `${listed(decisive.map(sidOf))} ${allowed ? 'allow' : 'forbid'}${decisive.length === 1 ? 's' : ''} ${request.action} ` +
    `on ${request.resource}`
  if (allowed) return `${said}.`
  const tests = decisive.flatMap(({ index }) => statements[index]?.tests ?? []).map(test => inWords(test, request))
  return `${said}, whatever else allows it${tests.length === 0 ? '' : `: ${listed(tests)}`}.`
}

/**
 * Whether a policy allows a request of the job, which statements decide, and why in plain words. It looks at the policy alone:
 * a bucket policy, a permissions boundary or the state of the grant may decide otherwise.
 * @throws QuestionError when the question is not one about S3
 * @throws UnknownElementError when the policy has something that the evaluator does not know
 */
export const check = (policy: PolicyDocument, question: Question): Verdict => {
  const statements = compile(policy)
  const request = requestOf(question, partitionOf(policy))
  const decision = decide(statements, request)
  const sids = decision.statements.map(sidOf)
  const because = decision.kind === 'implicit-deny' ? reasonOfImplicitDeny(statements, request) : reasonOf(statements, decision, request)
  return {
    allowed: decision.allowed,
    decision: decision.kind,
    statements: sids.map(sid => ({ sid, effect: decision.allowed ? 'Allow' : 'Deny' })),
    because
  }
}
