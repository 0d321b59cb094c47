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
  create(plan: PrincipalPlan, until: number): Promise<Made>
  /** Puts a changed policy on a live principal; the key stays. Returns the ref with what changed of it. */
  replacePolicy(ref: PrincipalRef, attach: PolicyAttachment, policy: Proven<PolicyDocument>, until: number): Promise<PrincipalRef>
  /** A new key beside those in `keep`. Every other key of the principal is deleted when IAM's limit or a lost answer requires it. */
  mintKey(plan: PrincipalPlan, keep: string[], until: number): Promise<Minted>
  /**
   * Also deletes keys that its holder may have made with it, where the provider lets a key do so: all but those in `keep`.
   * False: the provider says that it does not know the key, which proves nothing yet. See settleMs.
   */
  deleteKey(ref: PrincipalRef, accessKeyId: string, keep: string[], until: number): Promise<boolean>
  /**
   * Deletes the keys in `known`, listed or not, and every listed key but those in `keep`: keys that a crash or a lost answer left.
   * Returns those that the provider did delete. See settleMs for the others, and for keys that it does not list yet.
   */
  pruneKeys(ref: PrincipalRef, which: { keep: string[], known: string[] }, until: number): Promise<string[]>
  /** The ids of its keys, as the provider lists them. */
  keys(ref: PrincipalRef, until: number): Promise<string[]>
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
  /** Absent: the provider cannot change a managed policy where it is. */
  shared?: SharedPolicies
}

/**
 * The managed policies of jobs whose workers share one. A worker's ref names it from the beginning (`policyArn`, with attachment inline):
 * then the worker gets its own part of the policy inline, and the rest by the attachment of the job's.
 */
export interface SharedPolicies {
  /** May be called again for the same ref. Returns the ref with the ARN. */
  create(ref: PrincipalRef, policy: Proven<PolicyDocument>, until: number): Promise<PrincipalRef>
  /** Whether it has this text. */
  has(ref: PrincipalRef, policy: Proven<PolicyDocument>, until: number): Promise<boolean>
  /** Gives it another text, for all workers at once. */
  replace(ref: PrincipalRef, policy: Proven<PolicyDocument>, until: number): Promise<void>
  /** With all its versions. It must not be attached any more. `mintedAt`: epoch ms of the last attempt to make it. */
  remove(ref: PrincipalRef, mintedAt: number, until: number): Promise<'gone' | 'unsure'>
  /** Every managed policy under our path, also those of single grants, with the end that its path states. */
  list(until: () => number): AsyncIterable<Pick<Listed, 'ref' | 'expiresAt'>>
  /** The end of the window that the policy itself states. */
  end(ref: PrincipalRef, until: number): Promise<number | undefined>
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

export interface Made {
  ref: PrincipalRef
  credentials: Credentials | null
  /** An answer was lost on the way: the call may still make another key. */
  lost: boolean
}

export interface Minted extends Pick<Made, 'lost'> { credentials: Credentials }

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
  keyIds: string[]
  /** There may be keys that the ledger does not know: list them. */
  others: boolean
  /** Epoch ms of the last attempt to make it. */
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

/**
 * "NoSuchEntity", or a list, about a principal or a key that was made less long ago may mean that IAM does not show it everywhere yet,
 * or that a call whose answer was lost has no effect yet. Vault waits five minutes, too.
 */
export const settleMs = 5 * 60_000

/** The name of every inline policy of ours. */
export const inlinePolicyName = 'job-access'
