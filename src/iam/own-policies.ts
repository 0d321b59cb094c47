import type { Partition } from '../domain/access-spec.ts'
import { actionTable } from '../policy/actions.ts'
import type { PolicyDocument, Statement } from '../domain/policy-document.ts'

/**
 * The two policies that an operator installs at AWS before the service runs: what the service's own role may do, and the
 * permissions boundary of every user that it makes. `npm run own-policies` prints them; a test proves both.
 * Actions, resource types and condition keys: AWS Service Authorization Reference, IAM and STS.
 */

export interface OwnPolicyOptions {
  partition: Partition
  accountId: string
  /** JOB_ACCESS_PATH. */
  pathBase: string
  /** JOB_ACCESS_USER_PREFIX. */
  userPrefix: string
  boundaryArn: string
  /** Roles of attach `session`; revocable ones get a policy put on them. */
  roles: Array<{ roleArn: string, revocable: boolean }>
  /** JOB_ACCESS_ALLOWED_BUCKETS; empty: any bucket. */
  buckets: string[]
  /** JOB_ACCESS_ALLOWED_KMS_KEYS; empty: any key. */
  kmsKeys: string[]
}

/**
 * Everything is bound to the path and to the names that the service gives; nothing can be given to a user, or to a role of sessions, that
 * does not carry the boundary. IAM has no condition key for it on CreateAccessKey, CreatePolicyVersion and TagUser, and none on AssumeRole:
 * so nobody else may put users or policies with such names below the path.
 */
export const servicePolicy = ({ partition, accountId, pathBase, userPrefix, boundaryArn, roles }: OwnPolicyOptions): PolicyDocument => {
  const arn = (kind: string) => `arn:${partition}:iam::${accountId}:${kind}${pathBase}*/${userPrefix}-*`
  const bounded = { StringEquals: { 'iam:PermissionsBoundary': boundaryArn } }
  const revocable = roles.filter(role => role.revocable).map(role => role.roleArn)
  const statements: Array<Statement | null> = [
    allow('MakeBoundedUsers', ['iam:CreateUser', 'iam:PutUserPolicy', 'iam:DeleteUserPolicy'], [arn('user')], bounded),
    allow('AttachOwnPoliciesToBoundedUsers', ['iam:AttachUserPolicy', 'iam:DetachUserPolicy'], [arn('user')], {
      ...bounded, ArnLike: { 'iam:PolicyARN': arn('policy') }
    }),
    allow('TendUsers', [
      'iam:TagUser', 'iam:GetUser', 'iam:DeleteUser', 'iam:CreateAccessKey', 'iam:DeleteAccessKey', 'iam:ListAccessKeys',
      'iam:GetUserPolicy', 'iam:ListUserPolicies', 'iam:ListAttachedUserPolicies'
    ], [arn('user')]),
    allow('TendPolicies', [
      'iam:CreatePolicy', 'iam:DeletePolicy', 'iam:GetPolicy', 'iam:GetPolicyVersion', 'iam:CreatePolicyVersion',
      'iam:ListPolicyVersions', 'iam:DeletePolicyVersion'
    ], [arn('policy')]),
    // Neither has a resource type.
    allow('Sweep', ['iam:ListUsers', 'iam:ListPolicies'], ['*']),
    roles.length > 0
      ? allow('IssueSessions', ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'], roles.map(role => role.roleArn))
      : null,
    // Without the boundary whoever has this role gives the role of sessions every right, and assumes it.
    revocable.length > 0 ? allow('RevokeSessions', ['iam:PutRolePolicy', 'iam:DeleteRolePolicy'], revocable, bounded) : null,
    revocable.length > 0 ? allow('ReadSessionRoles', ['iam:ListRolePolicies', 'iam:GetRole'], revocable) : null
  ]
  return { Version: '2012-10-17', Statement: statements.filter(statement => statement !== null) }
}

/**
 * The most that any job's user can do, whatever its policy says: the S3 and KMS actions of the action table. No iam and no sts:
 * a deleted key still works for some seconds, and must not be able to make itself another.
 * @throws RangeError for a pattern that an ARN cannot express
 */
export const boundaryPolicy = (
  { partition, buckets, kmsKeys }: Pick<OwnPolicyOptions, 'partition' | 'buckets' | 'kmsKeys'>
): PolicyDocument => {
  const of = (...kinds: string[]) => [...new Set(actionTable.filter(row => kinds.includes(row.kind)).map(row => row.action))].sort()
  const names = buckets.length > 0 ? buckets : ['*']
  const wider = names.find(name => !/^[^*]*\*?$/.test(name))
  if (wider !== undefined) {
    throw new RangeError(`${wider}: in an ARN a wildcard also spans the slash after the bucket's name, so that this would cover objects ` +
      'of other buckets. Only the end of a pattern may be a wildcard, in the boundary: name the buckets.')
  }
  const suffix = partition === 'aws-cn' ? 'amazonaws.com.cn' : 'amazonaws.com'
  return {
    Version: '2012-10-17',
    Statement: [
      allow('JobsUseObjectStorage', of('bucket', 'object'),
        names.flatMap(name => [`arn:${partition}:s3:::${name}`, `arn:${partition}:s3:::${name}/*`])),
      allow('JobsUseKeysThroughObjectStorage', of('key'), kmsKeys.length > 0 ? kmsKeys : ['*'], {
        StringLike: { 'kms:ViaService': `s3.*.${suffix}` }
      })
    ]
  }
}

const allow = (Sid: string, Action: string[], Resource: string[], Condition?: Statement['Condition']): Statement =>
  ({ Sid, Effect: 'Allow', Action, Resource, ...(Condition && { Condition }) })
