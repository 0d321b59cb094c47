import type { Dialect } from './dialect.ts'

/** SeaweedFS: the IAM API embedded in `weed s3`, with -iam.readOnly=false. */
export const seaweedfs: Dialect = {
  name: 'seaweedfs',
  principals: 'users',
  tagged: false,
  carriers: ['managed'],
  limits: { inline: 2048, managed: 6144 },
  actions: 'any',
  operators: 'any',
  conditionKeys: 'any',
  denies: true,
  notResource: true,
  identityProbe: true
}
