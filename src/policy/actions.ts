import type { Entry, Option } from '../domain/access-spec.ts'

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
const row = (action: string, kind: ActionRow['kind'], what: string): ActionRow =>
  ({ action, kind, source: `${sar}: ${what}; resource type ${kind}` })
const getObjectVersion = row('s3:GetObjectVersion', 'object', 'GetObject and HeadObject with a versionId')
const getBucketVersioning = row('s3:GetBucketVersioning', 'bucket', 'whether the bucket keeps versions')
const listBucketVersions = row('s3:ListBucketVersions', 'bucket', 'ListObjectVersions, s3:prefix')
const getObjectTagging = row('s3:GetObjectTagging', 'object', 'GetObjectTagging, also for copies that keep tags')
const getObjectVersionTagging = row('s3:GetObjectVersionTagging', 'object', 'GetObjectTagging with a versionId')
const putObjectTagging = row('s3:PutObjectTagging', 'object', 'PutObjectTagging, and uploads with x-amz-tagging')
const getObjectAttributes = row('s3:GetObjectAttributes', 'object', 'GetObjectAttributes')
const getObjectVersionAttributes = row('s3:GetObjectVersionAttributes', 'object', 'GetObjectAttributes with a versionId')
const restoreObject = row('s3:RestoreObject', 'object', 'RestoreObject')
const listBucketMultipartUploads = row('s3:ListBucketMultipartUploads', 'bucket', 'ListMultipartUploads, without s3:prefix')
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

type What = Pick<Entry, 'level' | 'list' | 'acl' | 'delete' | Option>

export const reads = (entry: Pick<Entry, 'level'>): boolean => entry.level !== 'write'
export const writes = (entry: Pick<Entry, 'level'>): boolean => entry.level !== 'read'

/** Actions on `bucket/prefix*`, in the order in which they are rendered. */
export const objectActions = (entry: What): string[] => names([
  ...(reads(entry) ? readObjects : []),
  ...(entry.versions ? [getObjectVersion] : []),
  ...(entry.tags && reads(entry) ? [getObjectTagging, ...(entry.versions ? [getObjectVersionTagging] : [])] : []),
  ...(entry.attributes ? [getObjectAttributes, ...(entry.versions ? [getObjectVersionAttributes] : [])] : []),
  ...(entry.restore ? [restoreObject] : []),
  ...(writes(entry) ? writeObjects : []),
  ...(entry.tags && writes(entry) ? [putObjectTagging] : []),
  ...(entry.acl ? [putObjectAcl] : []),
  ...(entry.delete ? [deleteObject] : [])
])

/** Actions on the bucket itself that show nothing of its objects. */
export const bucketActions = (entry: What): string[] => names([getBucketLocation, ...(entry.versions ? [getBucketVersioning] : [])])

/** Listings that can be bound to a prefix. */
export const listActions = (entry: What): string[] => entry.list ? names([listBucket, ...(entry.versions ? [listBucketVersions] : [])]) : []

/** Listings that IAM cannot bind to a prefix. */
export const uploadActions = (entry: What): string[] => entry.uploads ? names([listBucketMultipartUploads]) : []

export const keyActions = (entry: What): string[] => names(writes(entry) ? writeKeys : readKeys)

const names = (rows: readonly ActionRow[]): string[] => rows.map(row => row.action)

/** Every row; a test compares them with the published list of actions. */
export const actionTable: readonly ActionRow[] = [
  getObject, getBucketLocation, listBucket, putObject, abortMultipartUpload, listMultipartUploadParts, putObjectAcl, deleteObject,
  getObjectVersion, getBucketVersioning, listBucketVersions, getObjectTagging, getObjectVersionTagging, putObjectTagging,
  getObjectAttributes, getObjectVersionAttributes, restoreObject, listBucketMultipartUploads, decrypt, generateDataKey
]
