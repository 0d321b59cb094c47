import type { AccessSpec, PolicyAttachment } from './access-spec.ts'
import type { PolicyDocument } from './policy-document.ts'

/**
 * A grant: one job's access, from intent to end. All instants here are epoch milliseconds (UTC).
 * Never holds a secret: the access key id only.
 *
 *   pending --> active --> revoking --> revoked | expired | failed
 *      |  \________________^   ^
 *      \--> failed            (an issue that failed and could not be torn down at once)
 */
export type GrantState = 'pending' | 'active' | 'revoking' | Ending
/** How a grant ends; chosen when it starts to be revoked. */
export type Ending = 'revoked' | 'expired' | 'failed'

/** Why it ends, where the ending does not say it. In these words in the history, too. */
export type EndReason = 'completed' | 'revoked' | 'the job has ended' | 'the principal is gone' | 'window over' | 'stale' | 'audit'

export const transitions: Record<GrantState, readonly GrantState[]> = {
  pending: ['active', 'revoking', 'failed'],
  active: ['revoking'],
  revoking: ['revoked', 'expired', 'failed'],
  revoked: [],
  expired: [],
  failed: []
}

export interface Grant {
  /** Lower-case ULID: sorts by creation. Also the tail of the user name. */
  id: string
  state: GrantState
  /** Set with `revoking`: the state that the finished teardown leads to. */
  ending: Ending | null
  /** Set with `revoking`, too; null also where an issue failed, or an earlier release ended it. */
  endReason: EndReason | null
  /** Who asked: the identity's id, e.g. `token:ci` or `oidc:<issuer>#<subject>`. Never the token. */
  owner: string
  team: string
  jobId: string
  /** Unique per owner while set; freed (null) by the lifecycle when a later request may use it again. */
  idempotencyKey: string | null
  /** Which start of the job or of the worker asked: a pod's UID, a restart count. Another one says that the process before is gone. */
  attempt: string | null
  /** A job of workers: how many of them may hold a key at once. It has no principal of its own. null: it has one. */
  maxWorkers: number | null
  /** The grant of the job whose worker this is, and the worker's name; null: it is no worker's. */
  parentId: string | null
  worker: string | null
  spec: AccessSpec
  policy: PolicyDocument
  /** sha256 of the policy's canonical JSON. */
  policyHash: string
  attach: PolicyAttachment
  /** What exists, or may exist, at the provider. */
  principal: PrincipalRef
  accessKeyId: string | null
  /** After a rotation with overlap: the old key, until previousKeyDiesAt. */
  previousKeyId: string | null
  previousKeyDiesAt: number | null
  /** Keys that were to be deleted, until their death is certain. Never keys of sessions. */
  dyingKeys: DyingKey[]
  /** Scheduled grants: the key is minted only from here on. */
  issueAt: number | null
  /** When the provider was last asked to make the principal; null: never, so there is nothing to tear down. */
  mintedAt: number | null
  /** When credentials left the service for the last time. */
  deliveredAt: number | null
  /**
   * Role sessions: until when one of them may work, at the latest. Committed before a session is asked for, so that it also holds for
   * one whose answer was lost. Null: none was asked for, or by an earlier release.
   */
  sessionsEndAt: number | null
  notBefore: number
  /** End of what the job may write, i.e. of the whole grant. */
  expiresAt: number
  createdAt: number
  updatedAt: number
  /** When the sweeper must next look at this grant; null when it has ended, and only then: the database refuses anything else. */
  dueAt: number | null
  /** Failed attempts of the sweeper since the last success. */
  attempts: number
  /** An operation holds this grant until then; a crash lets it lapse. */
  claimedUntil: number | null
  /** Grows with every update; an update names the version it read. */
  version: number
}

/**
 * A key that may still live: "NoSuchEntity" and a list without it prove nothing while IAM may not show it everywhere yet, and a call
 * whose answer was lost may still take effect.
 */
export interface DyingKey {
  /** Null: a key that nobody knows the id of, if there is one at all. */
  id: string | null
  /** Since when nobody has been asked to make it or to keep it, epoch ms. */
  since: number
  /** When the sweeper asks the provider again. */
  askAt: number
}

export interface PrincipalRef {
  /** IAM user name; for the key-only dialects the policy's name; for sessions the role session name. */
  name: string
  path: string
  policyArn: string | null
  /** Role ARN, for attach `session`. */
  roleArn: string | null
  /** Name of its account in the pool; never changes. Absent: there is no pool, or nothing of the grant is at the provider. */
  account?: string
}
