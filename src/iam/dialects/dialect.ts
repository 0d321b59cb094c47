import { many, type PolicyDocument, type Statement } from '../../policy/document.ts'
import type { Finding } from '../../problems.ts'

/** How one provider differs from AWS. A request that it cannot express is refused, never weakened. */
export interface Dialect {
  name: DialectName
  /** `users`: CreateUser and all that; `keys`: no users, a policy attaches to an access key. */
  principals: 'users' | 'keys'
  /** Whether CreateUser takes Tags and PermissionsBoundary. */
  tagged: boolean
  carriers: readonly Carrier[]
  /** Policy sizes in characters without whitespace. */
  limits: { inline: number, managed: number }
  /** Actions that a policy may name; others are refused by the provider when the policy is made. */
  actions: 'any' | ReadonlySet<string>
  /** Condition operators that it evaluates. */
  operators: 'any' | ReadonlySet<string>
  /** Condition keys that it evaluates. */
  conditionKeys: 'any' | ReadonlySet<string>
  denies: boolean
  notResource: boolean
  /** Whether GetCallerIdentity exists, for `waitUntilReady`. */
  identityProbe: boolean
}

export type DialectName = 'aws' | 'localstack' | 'ceph' | 'seaweedfs' | 'tigris'
export type Carrier = 'inline' | 'managed' | 'session'

/** What of a rendered policy the provider cannot express. */
export const unfit = (policy: PolicyDocument, dialect: Dialect): Finding[] => policy.Statement.flatMap(statement => [
  ...(dialect.denies || statement.Effect === 'Allow' ? [] : [refusal(dialect, statement, 'has Deny statements', 'Use layout everywhere.')]),
  ...(dialect.notResource || !statement.NotResource ? [] : [refusal(dialect, statement, 'has NotResource', 'Use layout everywhere.')]),
  ...many(statement.Action)
    .filter(action => dialect.actions !== 'any' && action !== 's3:*' && !dialect.actions.has(action))
    .map(action => refusal(dialect, statement, `names ${action}`, hints[action] ?? 'Ask for less, or use another provider.')),
  ...Object.entries(statement.Condition ?? {}).flatMap(([operator, keys]) => [
    ...(dialect.operators === 'any' || dialect.operators.has(operator)
      ? []
      : [refusal(dialect, statement, `has the condition operator ${operator}`, hints[operator] ?? 'Ask without it.')]),
    ...Object.keys(keys)
      .filter(key => dialect.conditionKeys !== 'any' && !dialect.conditionKeys.has(key))
      .map(key => refusal(dialect, statement, `has the condition key ${key}`, hints[key] ?? 'Ask without it.'))
  ])
])

const refusal = (dialect: Dialect, statement: Statement, what: string, hint: string): Finding => ({
  code: 'dialect-unfit',
  pointer: '',
  detail: `Statement ${statement.Sid ?? ''} ${what}, which ${dialect.name} does not take.`,
  hint
})

const hints: Record<string, string> = {
  'kms:Decrypt': 'Leave kmsKeyArns out: the provider has no AWS KMS.',
  'kms:GenerateDataKey': 'Leave kmsKeyArns out: the provider has no AWS KMS.',
  's3:CompleteMultipartUpload': 'Layout guide names it, though it is no action anywhere; use everywhere or guarded.',
  's3:GetBucketLocation': 'The provider has no such action.',
  StringLike: 'Listing cannot be bound to a prefix here: set "list": false on the entry, or ask for the whole bucket.',
  StringEquals: 'Leave vpc and kmsKeyArns out.',
  'aws:VpcSourceIp': 'The provider knows no VPC: use sourceIps.'
}
