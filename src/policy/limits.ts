import type { Partition } from '../domain/access-spec.ts'

/** The ceilings of a deployment, from its configuration: no request exceeds them, whatever the guardrails say. */
export interface Limits {
  partition: Partition
  /** Longest window in seconds, the output's grace included. */
  maxWindowSeconds: number
  /** Longest life of a grant in seconds: from its first issue to the end of its window, whatever changes in between. */
  maxLifetimeSeconds: number
  /** How far ahead a window may start, in seconds. Absent: any. */
  maxStartAheadSeconds?: number
  /** Shortest prefix length of a source CIDR. */
  minPrefixV4: number
  minPrefixV6: number
  /** Patterns of bucket names, in which `*` alone is special. Empty: any bucket. */
  allowedBuckets: string[]
  /** Patterns of ARNs of KMS keys, in which `*` alone is special. Empty: any key of the partition. */
  allowedKmsKeys: string[]
  /** Whether a request may leave out its source. */
  allowAnySource: boolean
  /** Whether `sourceIps` may have private addresses, for providers that jobs reach over a private network, such as Ceph. */
  allowPrivateSourceIps: boolean
  /** The provider has no s3:GetBucketLocation: no entry gets it, and a warning says so. */
  noBucketLocation?: boolean
}

export const defaultLimits: Limits = {
  partition: 'aws',
  maxWindowSeconds: 7 * 86_400,
  // A start 30 days ahead and the longest window: so it refuses nothing at issue that the other two accept.
  maxLifetimeSeconds: 37 * 86_400,
  maxStartAheadSeconds: 30 * 86_400,
  minPrefixV4: 16,
  minPrefixV6: 48,
  allowedBuckets: [],
  allowedKmsKeys: [],
  allowAnySource: false,
  allowPrivateSourceIps: false
}
