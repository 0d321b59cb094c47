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
  /** What a copy reads: `bucket/key`. */
  copySource?: string
  /** The KMS key that encrypts the object: its actions are needed, too. */
  kmsKeyArn?: string
  /** The canned ACL that the request sends. */
  acl?: string
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
  readonly hint: string

  constructor (message: string, field: keyof Question, hint = 'Leave it out.') {
    super(message)
    this.field = field
    this.hint = hint
  }
}

interface Verdict {
  allowed: boolean
  decision: PolicyDecision['kind']
  /** The statements that decided. The second statement is `#2` when it has no Sid. */
  statements: { sid: string, effect: 'Allow' | 'Deny' }[]
  because: string
  /** Each action of an operation that needs several. */
  needs?: { action: string, resource: string, allowed: boolean }[]
}

/** What an operation needs: an action on the object or bucket of the question, or on the object that a copy reads. */
interface Need { action: string, from?: 'copySource' }

const read: Need = { action: 's3:GetObject' }
const write: Need = { action: 's3:PutObject' }
const list: Need = { action: 's3:ListBucket' }
const copy: Need[] = [{ action: 's3:GetObject', from: 'copySource' }, write]

/**
 * What S3 checks for operations that have another name than their action.
 * Source: S3 User Guide, "Required permissions for Amazon S3 API operations".
 */
const operations = new Map<string, Need[]>(Object.entries({
  headobject: [read],
  headbucket: [list],
  listobjects: [list],
  listobjectsv2: [list],
  listobjectversions: [{ action: 's3:ListBucketVersions' }],
  createmultipartupload: [write],
  uploadpart: [write],
  completemultipartupload: [write],
  copyobject: copy,
  uploadpartcopy: copy,
  deleteobjects: [{ action: 's3:DeleteObject' }],
  listparts: [{ action: 's3:ListMultipartUploadParts' }],
  listmultipartuploads: [{ action: 's3:ListBucketMultipartUploads' }],
  listbuckets: [{ action: 's3:ListAllMyBuckets' }]
}))

/** KMS Developer Guide, "How Amazon S3 uses AWS KMS"; parts of an upload are decrypted when it is completed. */
const keyActionsOf = (action: string, multipart: boolean): string[] => {
  const name = action.toLowerCase()
  if (name === 's3:getobject' || name === 's3:getobjectversion') return ['kms:Decrypt']
  return name === 's3:putobject' ? ['kms:GenerateDataKey', ...(multipart ? ['kms:Decrypt'] : [])] : []
}

/** @returns every action that the question needs, each as a question of its own. @throws QuestionError */
const questionsIn = (question: Question): Question[] => {
  const name = question.action.replace(/^s3:/i, '').toLowerCase()
  const operation = kindOfAction(question.action) === undefined ? operations.get(name) : undefined
  const { copySource, kmsKeyArn, acl, ...rest } = question
  const needs = operation ?? [{ action: question.action.includes(':') ? question.action : `s3:${question.action}` }]
  if (copySource !== undefined && !needs.some(({ from }) => from)) {
    throw new QuestionError(`${question.action} copies nothing.`, 'copySource')
  }
  if (name === 'headbucket' && question.prefix !== undefined) throw new QuestionError('HeadBucket takes no prefix.', 'prefix')
  const asked = needs.map(({ action, from }): Question => {
    if (from === undefined) return { ...rest, action }
    const [, bucket, key] = /^([^/]+)\/(.+)$/s.exec(copySource ?? '') ?? []
    if (bucket === undefined || key === undefined) {
      throw new QuestionError(`${question.action} reads another object.`, 'copySource', 'Give that object as bucket/key.')
    }
    return { ...rest, action, bucket, key }
  })
  const writes = asked.some(({ action }) => action.toLowerCase() === 's3:putobject')
  if (acl !== undefined && !writes && question.action.toLowerCase() !== 's3:putobjectacl') {
    throw new QuestionError(`${question.action} sets no ACL.`, 'acl')
  }
  if (kindOfAction(question.action) === 'key') {
    if (kmsKeyArn === undefined) throw new QuestionError(`${question.action} is checked against a KMS key.`, 'kmsKeyArn', 'Give its ARN.')
    return [question]
  }
  const actions = new Set(asked.flatMap(({ action }) => keyActionsOf(action, /multipart|uploadpart/.test(name))))
  if (kmsKeyArn !== undefined && actions.size === 0) throw new QuestionError(`${question.action} uses no KMS key.`, 'kmsKeyArn')
  return [
    ...asked.map(one => acl !== undefined && one.action.toLowerCase() === 's3:putobjectacl' ? { ...one, acl } : one),
    ...(acl !== undefined && writes ? [{ ...rest, action: 's3:PutObjectAcl', acl }] : []),
    ...(kmsKeyArn === undefined ? [] : [...actions].map(action => ({ ...question, action })))
  ]
}

const listings = new Set(['s3:listbucket', 's3:listbucketversions', 's3:listbucketmultipartuploads'])

/** The partition of the policy's resources. */
const partitionOf = (policy: PolicyDocument): string =>
  policy.Statement.flatMap(statement => statement.Resource ?? []).map(arn => /^arn:([^:*]+):/.exec(arn)?.[1]).find(Boolean) ?? 'aws'

/** @throws QuestionError when the question does not make a request to S3 */
const resourceOf = ({ action, bucket, key, prefix, kmsKeyArn }: Question, partition: string): string => {
  const kind = kindOfAction(action)
  if (kind === undefined) {
    throw new QuestionError(`${action} is neither an IAM action nor an operation of S3 that is known here.`, 'action',
      'Give an action such as s3:GetObject, or an operation of S3 such as CopyObject.')
  }
  if (kind === 'key') return kmsKeyArn ?? ''
  if (kind === 'object' && key === undefined) throw new QuestionError(`${action} is checked against an object.`, 'key', 'Give its `key`.')
  if (kind !== 'object' && key !== undefined) throw new QuestionError(`${action} is not checked against an object.`, 'key')
  if (prefix !== undefined && !listings.has(action.toLowerCase())) throw new QuestionError(`${action} takes no prefix.`, 'prefix')
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
  throw new QuestionError('This is not an IP address.', field, 'Give one address, such as 203.0.113.42.')
}

/** S3 asks KMS in the region of the key. */
const serviceOf = (keyArn: string): string => {
  const [, partition, , region] = keyArn.split(':')
  return `s3.${region}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}`
}

const requestOf = (question: Question, partition: string): IamRequest => {
  const { prefix, kmsKeyArn, acl, sourceIp, vpcId, vpcArn, vpcEndpointId, vpcSourceIp, at } = question
  return {
    action: question.action,
    resource: resourceOf(question, partition),
    context: {
      'aws:CurrentTime': at.toISOString(),
      ...(prefix !== undefined && { 's3:prefix': prefix }),
      ...(acl !== undefined && { 's3:x-amz-acl': acl }),
      ...(kindOfAction(question.action) === 'key' && kmsKeyArn !== undefined && { 'kms:ViaService': serviceOf(kmsKeyArn) }),
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
 * Whether a policy allows a request of the job, which statements decide, and why in plain words. An operation is allowed when every
 * action that it needs is. It looks at the policy alone: a bucket policy, a permissions boundary or the state of the grant may decide
 * otherwise.
 * @throws QuestionError when the question is not one about S3
 * @throws UnknownElementError when the policy has something that the evaluator does not know
 */
export const check = (policy: PolicyDocument, question: Question): Verdict => {
  const statements = compile(policy)
  const requests = questionsIn(question).map(one => requestOf(one, partitionOf(policy)))
  const verdicts = requests.map(request => ({ request, verdict: verdictOn(statements, request) }))
  const decisive = verdicts.filter(({ verdict }) => !verdict.allowed)
  const shown = (decisive.length > 0 ? decisive : verdicts).map(({ verdict }) => verdict)
  const sids = new Map(shown.flatMap(verdict => verdict.statements.map(statement => [statement.sid, statement])))
  return {
    allowed: decisive.length === 0,
    decision: shown[0]?.decision ?? 'implicit-deny',
    statements: [...sids.values()],
    because: shown.map(verdict => verdict.because).join(' '),
    ...(verdicts.length > 1 && {
      needs: verdicts.map(({ request: { action, resource }, verdict: { allowed } }) => ({ action, resource, allowed }))
    })
  }
}

const verdictOn = (statements: CompiledStatement[], request: IamRequest): Verdict => {
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
