/**
 * What the audit records: one event per decision and per change of a grant. It has the ids of keys and never a secret: there is
 * no field for one, and log.ts removes whatever looks like a token.
 */
export const auditActions = [
  'grant.issue', 'grant.join', 'grant.deliver', 'grant.rotate', 'grant.extend', 'grant.revoke', 'grant.expire', 'grant.fail',
  'grant.read', 'policy.render', 'policy.unproven',
  'reconcile.remove', 'sweep.fail',
  'auth.refuse', 'auth.unavailable', 'guardrail.deny', 'ceiling.deny',
  'config.reload', 'service.start', 'service.stop', 'clock.wrong', 'clock.right',
  // what the audit log records about itself
  'audit.open', 'audit.recover', 'audit.close'
] as const
export type AuditAction = (typeof auditActions)[number]

/** `allowed`/`denied`: a decision. `done`/`failed`: something was tried. */
export type AuditOutcome = 'allowed' | 'denied' | 'done' | 'failed'

export interface AuditActor {
  /** Identity id; for kind `system` the part of the service, e.g. `sweeper`; for `anonymous` it is `anonymous`. */
  id: string
  kind: 'token' | 'oidc' | 'system' | 'anonymous'
  /** Address the request came from. */
  ip?: string
}

export interface AuditEvent {
  /** Counts from 1 without a gap within one instance's chain. */
  seq: number
  /** ISO 8601, UTC, to the millisecond: when record() was called. */
  at: string
  /** The replica that wrote it. */
  instance: string
  /** null: no request caused it. */
  requestId: string | null
  actor: AuditActor
  action: AuditAction
  outcome: AuditOutcome
  team?: string
  jobId?: string
  grantId?: string
  accessKeyId?: string
  /** sha256 of the policy's canonical JSON. */
  policyHash?: string
  /** Problem code or refusal reason. */
  code?: string
  /** For people; short. */
  reason?: string
  /** Ids of the guardrail policies, or the check, that decided. */
  decidedBy?: string[]
  /** Small facts of this action: instants, counts, ids. */
  detail?: Record<string, string | number | boolean | null>
}

/** What the caller of record() gives; the log adds the rest. */
export type NewAuditEvent = Omit<AuditEvent, 'seq' | 'at' | 'instance'>

export const systemActor = (id: string): AuditActor => ({ id, kind: 'system' })
