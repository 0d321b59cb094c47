import { awsSizes } from '../../policy/measure.ts'
import type { Dialect } from '../../policy/dialect.ts'

/** AWS itself, and what the others are compared with. */
export const aws: Dialect = {
  name: 'aws',
  principals: 'users',
  paths: true,
  tagged: true,
  bounded: true,
  sizes: awsSizes,
  managedPolicies: true,
  policyVersions: true,
  actions: 'any',
  operators: 'any',
  conditionKeys: 'any',
  denies: true,
  notResource: true,
  identityProbe: 'sts',
  holdsWithSts: true,
  selfService: false
}
