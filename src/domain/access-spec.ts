/**
 * What a job may access: a request within the deployment's ceilings, complete, in canonical form, and safe to put into a policy.
 * Only normalise() makes one. render() and prove() both start from it and share nothing else.
 */
export interface AccessSpec {
  partition: Partition
  job: { id: string, team: string, labels: Record<string, string> }
  entries: Entry[]
  window: Window
  source: Source
  layout: Layout
  attach: AttachmentChoice
  /** Name of the role profile of a session's grant. Not in grants of earlier releases. */
  profile?: string
  /** The provider has no s3:GetBucketLocation, so that no entry gets it. */
  noBucketLocation?: true
  /**
   * The job's workers share one managed policy, which allows; what takes other sources away is each worker's own. Of the job's grant and of
   * those of its workers.
   */
  shared?: true
}

declare const authorised: unique symbol
/** A spec that the guardrails have permitted to this caller. Made by the lifecycle's authorise() alone. */
export type Authorised = AccessSpec & { readonly [authorised]: true }

export type Partition = 'aws' | 'aws-cn' | 'aws-us-gov'
export type Layout = 'guide' | 'everywhere' | 'guarded'
/** How a policy is attached to its principal: inline in the user, as a managed policy, or as the policy of a role session. */
export type PolicyAttachment = 'inline' | 'managed' | 'session'
/** What a request may ask for; `auto` takes the first attachment in which the policy has room. */
export type AttachmentChoice = 'auto' | PolicyAttachment
export type Level = 'read' | 'write' | 'read-write'

/** A bucket, a part of it or one object, and what the job may do there. */
export interface Entry extends Partial<Record<Option, true>> {
  /** JSON pointer of the request field this came from, e.g. `/datasets/0`. */
  pointer: string
  /** Base of the Sids of this entry's statements. Entries with the same one share their statements, and have the same rights. */
  sid: string
  bucket: string
  /** What its keys begin with: '' for the whole bucket, `runs/42/` for a directory, `shards/train-` for the beginning of names. */
  prefix: string
  /** `prefix` is one whole key. */
  exact?: true
  level: Level
  /** s3:ListBucket, bound to the prefix. */
  list: boolean
  /** s3:PutObjectAcl. */
  acl: boolean
  /** s3:PutObjectAcl, only as this canned ACL; `acl` is false then. */
  cannedAcl?: CannedAcl
  /** s3:DeleteObject. */
  delete: boolean
  kmsKeyArns: string[]
}

/** What some clients need beyond reading, writing and listing; policy/actions.ts says what each stands for. */
export type Option = 'versions' | 'tags' | 'uploads' | 'attributes' | 'restore' | 'listNames' | 'bareName'

/** The canned ACLs that make no object public. */
export type CannedAcl = 'private' | 'bucket-owner-read' | 'bucket-owner-full-control'

/**
 * Instants are ISO 8601 UTC to the second: `2025-07-16T01:00:00Z`. The start is inclusive and the ends are exclusive; only in the
 * `guide` layout the start is exclusive, too.
 */
export interface Window {
  notBefore: string
  /** End of what the job reads. */
  notAfter: string
  /** End of what the job writes: notAfter plus the output grace. Every entry that may write lasts until here. */
  outputNotAfter: string
}

/** The addresses that S3 sees: canonical CIDRs, sorted, merged. */
export interface IpSource { kind: 'ip', cidrs: string[] }

/** A request must fit every list that is not empty. The private addresses are canonical CIDRs, sorted, merged. */
export interface VpcSource {
  kind: 'vpc'
  vpcIds: string[]
  /** Never empty; absent when the request names none, and in the specs of grants that are older than the field. */
  vpcArns?: string[]
  vpcEndpointIds: string[]
  cidrs: string[]
}

/**
 * Where the job's requests come from. `either`: two alternatives; a job reaches one bucket through an endpoint, another through NAT.
 */
export type Source = IpSource | VpcSource | { kind: 'either', ip: IpSource, vpc: VpcSource } | { kind: 'any' }
