import type { PolicyAttachment } from '../../domain/access-spec.ts'
import { many, type PolicyDocument, type Statement } from '../../domain/policy-document.ts'
import type { Sizes } from '../../policy/measure.ts'
import type { Finding } from '../../problems.ts'

/** How one provider differs from AWS. A request that it cannot express is refused, never weakened. */
export interface Dialect {
  name: DialectName
  /** `users`: CreateUser and all that; `keys`: no users, a policy attaches to an access key. */
  principals: 'users' | 'keys'
  /** Whether users and policies keep their path, and lists can be narrowed by it. Without, the name tells whose they are. */
  paths: boolean
  /** Whether CreateUser takes Tags and PermissionsBoundary. */
  tagged: boolean
  /** The ways to attach a policy that it has, and the characters without white space that each takes. */
  sizes: Sizes
  /** Whether CreatePolicyVersion takes what CreatePolicy takes; without, a second policy takes over. */
  policyVersions: boolean
  /** Actions that a policy may name; others are refused by the provider when the policy is made, or mean nothing there. */
  actions: 'any' | ReadonlySet<string>
  /** Condition operators that it evaluates. */
  operators: 'any' | ReadonlySet<string>
  /** Condition keys that it evaluates. */
  conditionKeys: 'any' | ReadonlySet<string>
  /** Source blocks that mean something else to it. */
  misreads?: (cidr: string) => boolean
  denies: boolean
  notResource: boolean
  /** What a fresh key can ask to learn whose it is, for `waitUntilReady`: GetCallerIdentity, or GetUser of itself. */
  identityProbe: 'sts' | 'iam' | null
  /** Whether policies hold with an STS beside the IAM; without, see without-sts.ts. */
  holdsWithSts: boolean
  /** A key may make its user further keys, whatever its policy says: a rotation must look for them. */
  selfService: boolean
}

export type DialectName = 'aws' | 'localstack' | 'ceph' | 'seaweedfs' | 'tigris'

/** Every action that an entry without KMS keys can render, but those that only some options or layouts name. */
export const usualActions = [
  's3:GetObject', 's3:ListBucket', 's3:GetBucketLocation', 's3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts',
  's3:PutObjectAcl', 's3:DeleteObject'
]

/** The conditions of window, source and prefix; what is left out are those of VPCs and of KMS. */
export const usualOperators = [
  'DateGreaterThan', 'DateGreaterThanEquals', 'DateLessThan', 'IpAddress', 'NotIpAddress', 'StringLike'
]
export const usualConditionKeys = ['aws:CurrentTime', 'aws:SourceIp', 's3:prefix']

export const attachmentsOf = ({ sizes }: Dialect): PolicyAttachment[] =>
  (['inline', 'managed', 'session'] as const).filter(mode => sizes[mode] !== undefined)

export const hasAction = ({ actions }: Dialect, action: string): boolean => actions === 'any' || actions.has(action)

/**
 * What of a rendered policy the provider cannot express, once per request field.
 * @param entryOf the pointer of the request's entry that a statement comes from, by its Sid
 */
export const unfit = (policy: PolicyDocument, dialect: Dialect, entryOf: (sid: string) => string = () => ''): Finding[] => {
  const found = policy.Statement.flatMap(statement => unfitIn(statement, dialect).map(what => refusal(dialect, statement, what, entryOf)))
  return [...new Map(found.reverse().map(finding => [`${finding.pointer} ${finding.hint}`, finding])).values()].reverse()
}

/** What of a statement is unfit: `name` is what the table of remedies knows it by. */
interface Unfit { what: string, name: string }

const unfitIn = (statement: Statement, dialect: Dialect): Unfit[] => {
  const { operators, conditionKeys } = dialect
  return [
    ...(dialect.denies || statement.Effect === 'Allow' ? [] : [{ what: 'is a Deny', name: 'Deny' }]),
    ...(dialect.notResource || !statement.NotResource ? [] : [{ what: 'has NotResource', name: 'NotResource' }]),
    ...many(statement.Action)
      .filter(action => action !== 's3:*' && !hasAction(dialect, action))
      .map(action => ({ what: `names ${action}`, name: action })),
    ...Object.entries(statement.Condition ?? {}).flatMap(([operator, keys]) => Object.keys(keys)
      .filter(key => !(operators === 'any' || operators.has(operator)) || !(conditionKeys === 'any' || conditionKeys.has(key)))
      .map(key => ({ what: `has the condition ${operator} ${key}`, name: key }))),
    ...Object.entries(statement.Condition ?? {}).filter(([operator]) => operator.includes('IpAddress')).flatMap(([, keys]) => Object.values(keys)
      .flatMap(many)
      .filter(cidr => dialect.misreads?.(cidr))
      .map(cidr => ({ what: `has the source ${cidr}`, name: 'source' })))
  ]
}

const refusal = (dialect: Dialect, statement: Statement, { what, name }: Unfit, entryOf: (sid: string) => string): Finding => {
  const { pointer, hint } = remedies[name] ?? { pointer: '', hint: 'Ask for less, or use another provider.' }
  return {
    code: 'dialect-unfit',
    pointer: pointer.startsWith('/') ? pointer : entryOf(statement.Sid ?? '') + pointer.slice(1),
    detail: `Statement ${statement.Sid ?? ''} ${what}, which ${dialect.name} does not take.`,
    hint
  }
}

const kms = { pointer: './kmsKeyArns', hint: 'Leave kmsKeyArns out: the provider has no AWS KMS.' }
const vpc = { pointer: '/vpc', hint: 'Give sourceIps instead: the provider knows no VPC.' }

/** By what is unfit: the field to change, below the entry where it begins with a dot. */
const remedies: Record<string, { pointer: string, hint: string }> = {
  Deny: { pointer: '/layout', hint: 'Use layout everywhere.' },
  NotResource: { pointer: '/window/outputGraceSeconds', hint: 'Leave the grace out, or use layout everywhere.' },
  source: { pointer: '/sourceIps', hint: 'Leave that block out: the provider takes addresses of the other family for its own.' },
  's3:CompleteMultipartUpload': {
    pointer: '/layout', hint: 'Layout guide names it, though it is no action anywhere: use layout everywhere or guarded.'
  },
  's3:prefix': { pointer: './prefix', hint: 'Listing cannot be bound to a prefix here: set "list": false on the entry, or ask for the whole bucket.' },
  'kms:Decrypt': kms,
  'kms:GenerateDataKey': kms,
  'kms:ViaService': kms,
  'aws:SourceVpc': vpc,
  'aws:SourceVpce': vpc,
  'aws:VpcSourceIp': vpc
}
