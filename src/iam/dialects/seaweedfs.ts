import { completeMultipartUpload } from '../../policy/actions.ts'
import { optionActions, usualActions, usualConditionKeys, usualOperators, type Dialect } from '../../policy/dialect.ts'

/**
 * SeaweedFS 4.48: the IAM API of `weed s3`, with -s3.iam.readOnly=false and without an STS configuration: with one, another engine
 * evaluates the policies and knows no aws:CurrentTime, so that a Deny by time never applies. All tried on that release.
 * PutUserPolicy and CreatePolicyVersion refuse Deny and some actions that CreatePolicy takes, so managed policies alone are used.
 * Paths, tags and boundaries are accepted and dropped. A key may make its user further keys. Object ACLs are its admin's alone,
 * whatever a policy says.
 */
export const seaweedfs: Dialect = {
  name: 'seaweedfs',
  principals: 'users',
  paths: false,
  tagged: false,
  bounded: false,
  sizes: { managed: 6144 },
  managedPolicies: true,
  policyVersions: false,
  // It takes any name; these are the ones that it gives a meaning, and the guide's that has none anywhere.
  // Those of the options: weed/s3api/s3_constants/s3_action_strings.go.
  actions: new Set([
    ...usualActions, completeMultipartUpload, ...optionActions.versions, ...optionActions.tags, ...optionActions.attributes,
    ...optionActions.uploads
  ]),
  adminOnly: new Set(['s3:PutObjectAcl']),
  operators: new Set(usualOperators),
  conditionKeys: new Set(usualConditionKeys),
  denies: true,
  notResource: true,
  identityProbe: 'iam',
  holdsWithSts: false,
  selfService: true
}
