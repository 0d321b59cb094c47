import { completeMultipartUpload } from '../../policy/actions.ts'
import { awsSizes } from '../../policy/measure.ts'
import { optionActions, usualActions, usualConditionKeys, usualOperators, type Dialect } from '../../policy/dialect.ts'
import { aws } from './aws.ts'

/**
 * VersityGW 1.8.0 with its standalone IAM: AWS's calls as far as it has them, tried on that release. It has no managed policies (no
 * CreatePolicy, no AttachUserPolicy) and no AssumeRole; CreateUser drops PermissionsBoundary without an error.
 */
export const versitygw: Dialect = {
  ...aws,
  name: 'versitygw',
  bounded: false,
  sizes: { inline: awsSizes.inline },
  managedPolicies: false,
  // It takes any name; these are the ones that it gives a meaning, and the guide's that has none anywhere.
  // Those of the options: auth/bucket_policy_actions.go; it checks s3:GetObject for a version, too, so that `versions` is not whole.
  actions: new Set([
    's3:GetBucketVersioning', 's3:ListBucketVersions',
    ...usualActions, completeMultipartUpload, ...optionActions.tags, ...optionActions.attributes, ...optionActions.restore,
    ...optionActions.uploads
  ]),
  operators: new Set(usualOperators),
  conditionKeys: new Set(usualConditionKeys)
}
