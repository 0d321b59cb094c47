import type { Dialect } from './dialect.ts'

/**
 * Ceph RGW, from Squid (19) on: accounts with IAM users and inline policies, as the account's root user
 * (docs.ceph.com, radosgw/iam). Older ones have no CreateUser. Unknown actions are refused ("is not a valid action").
 */
export const ceph: Dialect = {
  name: 'ceph',
  principals: 'users',
  tagged: false,
  carriers: ['inline', 'session'],
  limits: { inline: 2048, managed: 0 },
  actions: new Set([
    's3:GetObject', 's3:ListBucket', 's3:GetBucketLocation', 's3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts',
    's3:PutObjectAcl', 's3:DeleteObject'
  ]),
  operators: 'any',
  conditionKeys: new Set(['aws:CurrentTime', 'aws:SourceIp', 's3:prefix']),
  denies: true,
  notResource: true,
  identityProbe: false
}
