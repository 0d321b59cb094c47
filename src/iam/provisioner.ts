import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { PrincipalRef } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import type { Proven } from '../policy/prove/prove.ts'

/**
 * Makes and removes the principal of a grant at the provider: a user, a key without a user, or a role session.
 * Deadlines (`until`) are epoch ms. Failures reject with IamError.
 */
export interface PrincipalProvisioner {
  /**
   * Makes the principal with its policy and one key. May be called again for the same ref (a retry, a resumed grant):
   * it never makes a second principal. A rejection may leave parts behind; the caller must then call teardown().
   */
  create(plan: PrincipalPlan, until: number): Promise<{ ref: PrincipalRef, credentials: Credentials | null }>
  /** Puts a changed policy on a live principal; the key stays. Returns the ref with what changed of it. */
  replacePolicy(ref: PrincipalRef, attach: PolicyAttachment, policy: Proven<PolicyDocument>, until: number): Promise<PrincipalRef>
  /** A new key beside those in `keep`. Every other key of the principal is deleted when IAM's limit or a lost answer requires it. */
  mintKey(plan: PrincipalPlan, keep: string[], until: number): Promise<Credentials>
  /** Also deletes keys that its holder may have made with it, where the provider lets a key do so: all but those in `keep`. */
  deleteKey(ref: PrincipalRef, accessKeyId: string, keep: string[], until: number): Promise<void>
  /** Deletes every key but those in `keep`: keys that a crash or a lost answer left unknown. */
  pruneKeys(ref: PrincipalRef, keep: string[], until: number): Promise<string[]>
  /** Keys first, then the policy, then the principal. Idempotent. */
  teardown(target: TeardownTarget, until: number): Promise<TeardownResult>
  /** Removes what list() found and no ledger knows, with all its keys and policies. */
  discard(ref: PrincipalRef, until: number): Promise<void>
  /** False: the provider is certain that there is no such principal. */
  exists(ref: PrincipalRef, until: number): Promise<boolean>
  /** Whether the provider knows the new key yet: proves the key, not that its policy has spread. */
  ready(ref: PrincipalRef, credentials: Credentials, until: number): Promise<boolean>
  /** Everything under our path or prefix, with the end that its name or path states. */
  list(until: () => number): AsyncIterable<Listed>
  /** The end of the window that the principal's policy itself states, if later than its name says (an extended grant). */
  policyEnd(ref: PrincipalRef, until: number): Promise<number | undefined>
  /** Cheap: the provider answers and takes our credentials. */
  ping(until: number): Promise<void>
}

export interface PrincipalPlan {
  ref: PrincipalRef
  attachment: PolicyAttachment
  policy: Proven<PolicyDocument>
  tags: Record<string, string>
  /** Sessions: the end of the window, epoch ms, and the name of the role profile. Absent: the shortest session of the role. */
  session?: { windowEnd: number, profile: string | undefined }
  /** False: a principal without a key, for a grant whose key is fetched later. */
  withKey: boolean
}

export interface Credentials {
  accessKeyId: string
  secretAccessKey: string
  /** Role sessions only. */
  sessionToken?: string
  /** Epoch ms at which the credentials end by themselves; for user keys the end of the policy's window. */
  expiresAt: number | null
}

export interface TeardownTarget {
  ref: PrincipalRef
  attachment: PolicyAttachment
  /** Null: unknown, enumerate. */
  keyIds: string[] | null
  /** Epoch ms of the first attempt to make it. */
  mintedAt: number
  /** Sessions: when the last of them has ended by itself, epoch ms. */
  sessionsEndAt?: number
}

/**
 * `gone`: nothing of it is left. `unsure`: the provider says it does not know it, but it is too young to believe that
 * (IAM is eventually consistent): ask again later. `irrevocable`: it cannot be ended early; it ends by itself.
 */
export type TeardownResult = 'gone' | 'unsure' | 'irrevocable'

export interface Listed { ref: PrincipalRef, expiresAt: number | undefined, createdAt: number | null }

/** "NoSuchEntity" for a principal younger than this may mean that IAM does not show it everywhere yet. Vault waits five minutes, too. */
export const settleMs = 5 * 60_000

/** The name of every inline policy of ours. */
export const inlinePolicyName = 'job-access'
