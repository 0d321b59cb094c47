import type { AccessSpec } from '../../domain/access-spec.ts'
import type { PolicyDocument, Statement } from '../../domain/policy-document.ts'
import { readBlock, writeAddress } from './conditions.ts'

// IAM and STS quotas, "IAM and STS character limits": tab, line feed, carriage return and U+0020 to U+00FF.
const outsideIamText = /[^\t\n\r\u0020-\u00ff]/
const sidText = /^[A-Za-z0-9]+$/

// IAM compares to the second, and the renderer writes every instant so.
const utcSecond = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/

/** Whether a CIDR is written in its one canonical form: with a mask, without host bits. IAM would read other forms, too. */
const isCanonical = (cidr: string): boolean => {
  const { low } = readBlock(cidr)
  return cidr === `${writeAddress(low)}/${cidr.split('/')[1]}`
}

function * wrongIn (statement: Statement, allowGuideAction: boolean): Generator<string> {
  if (statement.Sid !== undefined && !sidText.test(statement.Sid)) yield `Sid ${JSON.stringify(statement.Sid)} is not letters and digits`
  for (const action of [statement.Action ?? []].flat()) {
    const wildcard = /[*?]/.test(action)
    const excused = allowGuideAction && action === guideOnlyAction
    // The proof refuses every wildcard in an Allow.
    if (!wildcard && kindOfAction(action) === undefined && !excused) yield `${JSON.stringify(action)} is not an action`
  }
  for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
    const names = Object.keys(keys).map(key => key.toLowerCase())
    if (new Set(names).size !== names.length) yield `a key twice under ${operator}`
    for (const [key, value] of Object.entries(keys)) {
      const values = [value].flat()
      if (new Set(values).size !== values.length) yield `a value of ${key} twice`
      for (const text of values) {
        if (operator.includes('IpAddress') && !isCanonical(text)) yield `${JSON.stringify(text)} is not a canonical CIDR`
        if (operator.startsWith('Date') && !utcSecond.test(text)) yield `${JSON.stringify(text)} is not an instant to the second in UTC`
      }
    }
  }
}

/**
 * What is wrong with a policy that can be compiled, whatever was requested: unknown actions, dates and CIDRs that are not written as
 * they should be, Sids used twice. Empty: nothing is wrong.
 * @param allowGuideAction whether the policy may have the guide's `s3:CompleteMultipartUpload`, which is not an IAM action
 */
export const validate = (policy: PolicyDocument, { allowGuideAction = false } = {}): string[] => {
  const wrong = policy.Statement.flatMap(statement => [...wrongIn(statement, allowGuideAction)])
  const sids = policy.Statement.map(statement => statement.Sid).filter(sid => sid !== undefined)
  if (policy.Statement.length === 0) wrong.push('no statement')
  if (new Set(sids).size !== sids.length) wrong.push('a Sid twice')
  if (outsideIamText.test(JSON.stringify(policy))) wrong.push('a character that IAM does not take')
  return wrong
}

/*
 * What the prover can prove. Its values are complete for policies in which every test is "equals", "starts with", "is inside a
 * block" or "is before or after an instant": there the values next to each boundary stand for all others. A policy with other
 * tests may be right, but is not proven.
 */

/** The context keys that a policy may test, each with the operators that it may use. */
const provableKeys = new Map<string, RegExp>([
  ['aws:currenttime', /^Date(Not)?(Equals|LessThan|LessThanEquals|GreaterThan|GreaterThanEquals)$/],
  ['aws:sourceip', /^(Not)?IpAddress(IfExists)?$/],
  ['aws:vpcsourceip', /^(Not)?IpAddress(IfExists)?$/],
  ['aws:sourcevpc', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['aws:sourcevpcarn', /^Arn(Not)?(Equals|Like)(IfExists)?$/],
  ['aws:sourcevpce', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['s3:x-amz-acl', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['s3:prefix', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['kms:viaservice', /^String(Not)?(Equals|Like)(IfExists)?$/]
])

/** Whether a pattern is literal, except for one `*` at its end. */
const plain = (pattern: string): boolean => !/[*?]|\$\{/.test(pattern.replace(/\*$/, ''))

/** @returns what cannot be proven, undefined when all can */
const unprovableInAllow = (statement: Statement, spec: AccessSpec): string | undefined => {
  const buckets = new Set(spec.entries.map(entry => `arn:${spec.partition}:s3:::${entry.bucket}`))
  const keys = new Set(spec.entries.flatMap(entry => entry.kmsKeyArns))
  const guide = spec.layout === 'guide'

  // An action without a resource that it applies to allows nothing today, but it would if a resource were added later.
  const resources = [statement.Resource ?? []].flat()
  const kinds = new Set(resources.map(kindOfResource))
  const actions = [statement.Action].flat().filter(name => !(guide && name === guideOnlyAction))
  const idle = actions.find(name => !kinds.has(kindOfAction(name) ?? 'other'))
  if (idle !== undefined) return `allows ${JSON.stringify(idle)}, which none of its resources can take`
  if (actions.some(name => kindOfAction(name) === 'other')) return 'allows an action outside buckets, objects and keys'
  if (statement.NotResource !== undefined) return 'allows with NotResource'
  // A bucket's name ends before the first slash, so a pattern for several buckets is never among the bucket ARNs.
  const resource = resources.find(arn => !buckets.has(arn.replace(/\/.*$/s, '')) && !keys.has(arn))
  if (resource !== undefined) return `allows on ${JSON.stringify(resource)}`
  const operators = Object.entries(statement.Condition ?? {}).filter(([, asked]) => Object.keys(asked).some(key => /^aws:currenttime$/i.test(key)))
  if (spec.layout === 'everywhere' && operators.length < 2) return 'allows outside any window'
  return undefined
}

const unprovableIn = (statement: Statement, spec: AccessSpec): string | undefined => {
  if (statement.Action === undefined) return 'has no Action'
  const odd = [statement.Resource ?? [], statement.NotResource ?? []].flat(2).find(arn => !plain(arn))
  if (odd !== undefined) return `has a wildcard or variable inside ${JSON.stringify(odd)}`
  for (const [operator, asked] of Object.entries(statement.Condition ?? {})) {
    for (const [key, value] of Object.entries(asked)) {
      if (!provableKeys.get(key.toLowerCase())?.test(operator)) return `asks ${operator} of ${key}`
      // ArnEquals reads wildcards, too.
      if (/Like|Arn/.test(operator) && ![value].flat().every(plain)) return `has a wildcard or variable inside a value of ${key}`
      if (operator.includes('String') && [value].flat().some(text => text.includes('${'))) return `has a variable in ${key}`
    }
  }
  return statement.Effect === 'Allow' ? unprovableInAllow(statement, spec) : undefined
}

/** Why the policy cannot be proven to be what the spec says; undefined when it can. */
export const unprovable = (policy: PolicyDocument, spec: AccessSpec): string | undefined => {
  for (const [index, statement] of policy.Statement.entries()) {
    const wrong = unprovableIn(statement, spec)
    if (wrong !== undefined) return `statement ${statement.Sid ?? index} ${wrong}`
  }
  return undefined
}

/**
 * What an action is checked against: every action of S3 and KMS, and a few of other services, which no job's policy may allow.
 * The prover tries them all, so that no policy allows one of them unseen.
 * Source: Service Authorization Reference, "Actions, resources, and condition keys" for Amazon S3 and for AWS KMS; a test
 * compares the list with the published data.
 */
export type ResourceKind = 'bucket' | 'object' | 'key' | 'other'

const names = (service: string, list: string): string[] => list.trim().split(/\s+/).map(name => service + name)

export const actionsOn: Record<ResourceKind, string[]> = {
  bucket: names('s3:', `
    AllowVendedLogDeliveryForResource CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket
    DeleteBucketMetadataTableConfiguration DeleteBucketPolicy DeleteBucketWebsite GetAccelerateConfiguration GetAnalyticsConfiguration
    GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging GetBucketMetadataTableConfiguration
    GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus
    GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration
    GetIntelligentTieringConfiguration GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration
    GetReplicationConfiguration ListBucket ListBucketMultipartUploads ListBucketVersions ListTagsForResource PauseReplication
    PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification
    PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment
    PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration PutIntelligentTieringConfiguration
    PutInventoryConfiguration PutLifecycleConfiguration PutMetricsConfiguration PutReplicationConfiguration TagResource UntagResource
    UpdateBucketMetadataAnnotationTableConfiguration UpdateBucketMetadataInventoryTableConfiguration
    UpdateBucketMetadataJournalTableConfiguration`),
  object: names('s3:', `
    AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectAnnotation DeleteObjectTagging DeleteObjectVersion
    DeleteObjectVersionAnnotation DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAnnotation GetObjectAttributes
    GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl
    GetObjectVersionAnnotation GetObjectVersionAnnotationForReplication GetObjectVersionAttributes GetObjectVersionForReplication
    GetObjectVersionTagging GetObjectVersionTorrent InitiateReplication ListMultipartUploadParts ListObjectAnnotations
    ListObjectVersionAnnotations ObjectOwnerOverrideToBucketOwner PutObject PutObjectAcl PutObjectAnnotation PutObjectLegalHold
    PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionAnnotation PutObjectVersionTagging ReplicateDelete
    ReplicateObject ReplicateObjectAnnotation ReplicateTags RestoreObject UpdateObjectEncryption`),
  key: names('kms:', `
    CancelKeyDeletion CreateAlias CreateGrant Decrypt DeleteAlias DeleteImportedKeyMaterial DeriveSharedSecret DescribeKey DisableKey
    DisableKeyRotation EnableKey EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
    GenerateDataKeyWithoutPlaintext GenerateMac GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey
    ImportKeyMaterial ListGrants ListKeyPolicies ListKeyRotations ListResourceTags PutKeyPolicy ReEncryptFrom ReEncryptTo ReplicateKey
    RetireGrant RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion Sign SynchronizeMultiRegionKey TagResource UntagResource UpdateAlias
    UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac`),
  other: names('', `
    kms:ConnectCustomKeyStore kms:CreateCustomKeyStore kms:CreateKey kms:DeleteCustomKeyStore kms:DescribeCustomKeyStores
    kms:DisconnectCustomKeyStore kms:GenerateRandom kms:ListAliases kms:ListKeys kms:ListRetirableGrants kms:UpdateCustomKeyStore
    s3:AssociateAccessGrantsIdentityCenter s3:CreateAccessGrant s3:CreateAccessGrantsInstance s3:CreateAccessGrantsLocation
    s3:CreateAccessPoint s3:CreateAccessPointForObjectLambda s3:CreateJob s3:CreateMultiRegionAccessPoint s3:CreateStorageLensGroup
    s3:DeleteAccessGrant s3:DeleteAccessGrantsInstance s3:DeleteAccessGrantsInstanceResourcePolicy s3:DeleteAccessGrantsLocation
    s3:DeleteAccessPoint s3:DeleteAccessPointForObjectLambda s3:DeleteAccessPointPolicy s3:DeleteAccessPointPolicyForObjectLambda
    s3:DeleteJobTagging s3:DeleteMultiRegionAccessPoint s3:DeleteStorageLensConfiguration s3:DeleteStorageLensConfigurationTagging
    s3:DeleteStorageLensGroup s3:DescribeJob s3:DescribeMultiRegionAccessPointOperation s3:DissociateAccessGrantsIdentityCenter
    s3:GetAccessGrant s3:GetAccessGrantsInstance s3:GetAccessGrantsInstanceForPrefix s3:GetAccessGrantsInstanceResourcePolicy
    s3:GetAccessGrantsLocation s3:GetAccessPoint s3:GetAccessPointConfigurationForObjectLambda s3:GetAccessPointForObjectLambda
    s3:GetAccessPointPolicy s3:GetAccessPointPolicyForObjectLambda s3:GetAccessPointPolicyStatus
    s3:GetAccessPointPolicyStatusForObjectLambda s3:GetAccountPublicAccessBlock s3:GetDataAccess s3:GetJobTagging
    s3:GetMultiRegionAccessPoint s3:GetMultiRegionAccessPointPolicy s3:GetMultiRegionAccessPointPolicyStatus
    s3:GetMultiRegionAccessPointRoutes s3:GetStorageLensConfiguration s3:GetStorageLensConfigurationTagging s3:GetStorageLensDashboard
    s3:GetStorageLensGroup s3:ListAccessGrants s3:ListAccessGrantsInstances s3:ListAccessGrantsLocations s3:ListAccessPoints
    s3:ListAccessPointsForObjectLambda s3:ListAllMyBuckets s3:ListCallerAccessGrants s3:ListJobs s3:ListMultiRegionAccessPoints
    s3:ListStorageLensConfigurations s3:ListStorageLensGroups s3:PutAccessGrantsInstanceResourcePolicy
    s3:PutAccessPointConfigurationForObjectLambda s3:PutAccessPointPolicy s3:PutAccessPointPolicyForObjectLambda
    s3:PutAccessPointPublicAccessBlock s3:PutAccountPublicAccessBlock s3:PutJobTagging s3:PutMultiRegionAccessPointPolicy
    s3:PutStorageLensConfiguration s3:PutStorageLensConfigurationTagging s3:SubmitMultiRegionAccessPointRoutes
    s3:UpdateAccessGrantsLocation s3:UpdateJobPriority s3:UpdateJobStatus s3:UpdateStorageLensGroup
    iam:AttachUserPolicy iam:CreateAccessKey iam:CreateUser iam:DeleteUserPolicy iam:GetUser iam:ListUsers iam:PassRole
    iam:PutUserPolicy iam:UpdateAccessKey sts:AssumeRole sts:GetFederationToken sts:GetSessionToken sts:TagSession
    s3express:CreateSession s3-object-lambda:GetObject s3-outposts:GetObject s3tables:GetTableData ec2:RunInstances`)
}

const kinds = new Map(Object.entries(actionsOn).flatMap(([kind, actions]) =>
  actions.map((action): [string, ResourceKind] => [action.toLowerCase(), kind as ResourceKind])))

/** What an action is checked against; undefined when no service has such an action. */
export const kindOfAction = (action: string): ResourceKind | undefined => kinds.get(action.toLowerCase())

/** What a resource is, by its ARN alone. */
export const kindOfResource = (arn: string): ResourceKind => {
  const service = arn.startsWith('arn:') ? arn.indexOf(':', 4) + 1 : 0
  if (service === 0) return 'other'
  if (arn.startsWith('kms:', service)) return 'key'
  const bucket = service + 's3:::'.length
  if (!arn.startsWith('s3:::', service) || bucket === arn.length || arn[bucket] === '/') return 'other'
  return arn.includes('/', bucket) ? 'object' : 'bucket'
}

/** The guide grants it, though it is not an action of any service: S3 checks s3:PutObject when an upload is completed. */
export const guideOnlyAction = 's3:CompleteMultipartUpload'
