import type { Dialect } from './dialect.ts'

/**
 * Tigris: no users; a policy attaches to an access key. Sources: tigrisdata/tigris-os-docs, iam/policies (grammar, operators)
 * and iam/policies/supported-actions ("Using unsupported actions will result in an error during policy creation").
 */
export const tigris: Dialect = {
  name: 'tigris',
  principals: 'keys',
  tagged: false,
  carriers: ['managed'],
  limits: { inline: 0, managed: 6144 },
  actions: new Set([
    's3:GetObject', 's3:ListBucket', 's3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts', 's3:PutObjectAcl',
    's3:DeleteObject'
  ]),
  operators: new Set([
    'IpAddress', 'NotIpAddress', 'DateEquals', 'DateNotEquals', 'DateGreaterThan', 'DateGreaterThanEquals', 'DateLessThan',
    'DateLessThanEquals'
  ]),
  conditionKeys: new Set(['aws:CurrentTime', 'aws:SourceIp']),
  denies: true,
  notResource: false,
  identityProbe: false
}
