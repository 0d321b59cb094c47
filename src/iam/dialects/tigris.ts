import { optionActions, usualActions, type Dialect } from '../../policy/dialect.ts'

/**
 * Tigris: no users; a policy attaches to an access key. Sources: tigrisdata/tigris-os-docs, iam/policies (grammar: "IpAddress", dates,
 * no String operators) and iam/policies/supported-actions ("Using unsupported actions will result in an error during policy
 * creation"). No size is documented; AWS's is kept.
 */
export const tigris: Dialect = {
  name: 'tigris',
  principals: 'keys',
  paths: false,
  tagged: false,
  bounded: false,
  sizes: { managed: 6144 },
  managedPolicies: true,
  policyVersions: false,
  // GetBucketLocation is not among its actions: no entry gets it then, and a warning says so.
  actions: new Set([
    ...usualActions.filter(action => action !== 's3:GetBucketLocation'), ...optionActions.tags, ...optionActions.restore,
    ...optionActions.uploads
  ]),
  operators: new Set([
    'IpAddress', 'NotIpAddress', 'DateEquals', 'DateNotEquals', 'DateGreaterThan', 'DateGreaterThanEquals', 'DateLessThan',
    'DateLessThanEquals'
  ]),
  conditionKeys: new Set(['aws:CurrentTime', 'aws:SourceIp']),
  // Nothing is documented about other characters.
  unfitInKeys: /[^A-Za-z0-9/!_.'()=+@,:-]/,
  denies: true,
  // Not in its grammar.
  notResource: false,
  identityProbe: null,
  holdsWithSts: true,
  selfService: false
}
