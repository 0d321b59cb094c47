import type { Entry } from '../domain/access-spec.ts'

/**
 * Which IAM actions a level and its options stand for: the only table of them.
 *
 * Source of every S3 row: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"; the
 * resource type says whether the action is checked against the bucket's ARN or an object's. KMS rows: the same reference for AWS KMS and
 * the S3 User Guide, "Protecting data with server-side encryption with AWS KMS".
 */
interface ActionRow {
  action: string
  /** The ARN that the action is checked against. */
  kind: 'bucket' | 'object' | 'key'
  /** Where it is documented, and what it is needed for. */
  source: string
}

const sar = 'Service Authorization Reference, Amazon S3'

export const getObject: ActionRow = {
  action: 's3:GetObject', kind: 'object', source: `${sar}: GetObject, HeadObject, ranged reads; resource type object`
}
export const getBucketLocation: ActionRow = {
  action: 's3:GetBucketLocation', kind: 'bucket', source: `${sar}: region of the bucket, which SDKs ask first; resource type bucket`
}
export const listBucket: ActionRow = {
  action: 's3:ListBucket', kind: 'bucket', source: `${sar}: ListObjects, ListObjectsV2, HeadBucket; resource type bucket; s3:prefix`
}
const putObject: ActionRow = {
  action: 's3:PutObject', kind: 'object', source: `${sar}: PutObject, and Create, Upload and Complete of multipart uploads; object`
}
const abortMultipartUpload: ActionRow = {
  action: 's3:AbortMultipartUpload', kind: 'object', source: `${sar}: cleans up a failed multipart upload; resource type object`
}
const listMultipartUploadParts: ActionRow = {
  action: 's3:ListMultipartUploadParts', kind: 'object', source: `${sar}: ListParts, to resume an upload; resource type object`
}
export const putObjectAcl: ActionRow = {
  action: 's3:PutObjectAcl', kind: 'object', source: `${sar}: permissions management; resource type object`
}
export const deleteObject: ActionRow = {
  action: 's3:DeleteObject', kind: 'object', source: `${sar}: DeleteObject, DeleteObjects; resource type object`
}
const decrypt: ActionRow = {
  action: 'kms:Decrypt',
  kind: 'key',
  source: 'Service Authorization Reference, AWS KMS: reads of SSE-KMS objects, and parts of multipart uploads to them; key'
}
const generateDataKey: ActionRow = {
  action: 'kms:GenerateDataKey', kind: 'key', source: 'Service Authorization Reference, AWS KMS: writes of SSE-KMS objects; key'
}

/** The guide grants it, but it is not an IAM action: completing an upload is s3:PutObject. Only the `guide` layout renders it. */
export const completeMultipartUpload = 's3:CompleteMultipartUpload'

const readObjects: readonly ActionRow[] = [getObject]
export const writeObjects: readonly ActionRow[] = [putObject, abortMultipartUpload, listMultipartUploadParts]
const readKeys: readonly ActionRow[] = [decrypt]
const writeKeys: readonly ActionRow[] = [generateDataKey, decrypt]

type What = Pick<Entry, 'level' | 'list' | 'acl' | 'delete'>

export const reads = (entry: Pick<Entry, 'level'>): boolean => entry.level !== 'write'
export const writes = (entry: Pick<Entry, 'level'>): boolean => entry.level !== 'read'

/** Actions on `bucket/prefix*`, in the order in which they are rendered. */
export const objectActions = (entry: What): string[] => names([
  ...(reads(entry) ? readObjects : []),
  ...(writes(entry) ? writeObjects : []),
  ...(entry.acl ? [putObjectAcl] : []),
  ...(entry.delete ? [deleteObject] : [])
])

/** Actions on the bucket itself, except listing, the only one that can be restricted to a prefix. */
export const bucketActions = (): string[] => names([getBucketLocation])

export const listActions = (entry: What): string[] => entry.list ? names([listBucket]) : []

export const keyActions = (entry: What): string[] => names(writes(entry) ? writeKeys : readKeys)

const names = (rows: readonly ActionRow[]): string[] => rows.map(row => row.action)

/** Every row; a test compares them with the published list of actions. */
export const actionTable: readonly ActionRow[] = [
  getObject, getBucketLocation, listBucket, putObject, abortMultipartUpload, listMultipartUploadParts, putObjectAcl, deleteObject,
  decrypt, generateDataKey
]
