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
  if (/^arn:[^:]*:s3:::[^/]+\//.test(arn)) return 'object'
  if (/^arn:[^:]*:s3:::[^/]+$/.test(arn)) return 'bucket'
  if (/^arn:[^:]*:kms:/.test(arn)) return 'key'
  return 'other'
}

/** The guide grants it, though it is not an action of any service: S3 checks s3:PutObject when an upload is completed. */
export const guideOnlyAction = 's3:CompleteMultipartUpload'
