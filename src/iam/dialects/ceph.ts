import { optionActions, usualActions, usualConditionKeys, usualOperators, type Dialect } from '../../policy/dialect.ts'
import { confusesFamilies } from './file.ts'

/**
 * Ceph RGW. From Squid (19) on: accounts with IAM users and inline policies, as the account's root user (docs.ceph.com,
 * radosgw/iam); older ones have no CreateUser. What a policy may say was tried on 16.2.15: it refuses a policy with an action that
 * it does not know, it never has the VPC keys, and errors have an HTTP status but no name. It took inline policies of 100 KB; what
 * AWS takes of a managed one is enough here.
 */
export const ceph: Dialect = {
  name: 'ceph',
  principals: 'users',
  paths: true,
  tagged: false,
  bounded: false,
  sizes: { inline: 6144, session: 2048 },
  managedPolicies: true,
  policyVersions: false,
  // Its parser's list of actions (rgw_iam_policy.cc) has no GetObjectAttributes.
  actions: new Set([
    ...usualActions, ...optionActions.versions, ...optionActions.tags, ...optionActions.versionTags, ...optionActions.restore,
    ...optionActions.uploads
  ]),
  operators: new Set(usualOperators),
  conditionKeys: new Set(usualConditionKeys),
  misreads: confusesFamilies,
  // It decodes a policy as a part of a URL once more: `a+b` would open `a b`. A `:` after the ARN's own it refuses.
  unfitInKeys: /[%+:]/,
  denies: true,
  notResource: true,
  identityProbe: null,
  holdsWithSts: true,
  selfService: false
}
