import type { GrantEventAction } from '../domain/events.ts'
import type { AuditPort, AuthorisedAction, Caller, Log } from '../lifecycle/deps.ts'
import type { Discrepancy } from '../lifecycle/reconcile.ts'
import type { ProblemCode, ProblemError } from '../problems.ts'
import { systemActor, type AuditAction, type AuditActor, type AuditOutcome, type NewAuditEvent } from './event.ts'
import type { Audit } from './log.ts'

/** Turns decisions and changes of grants into audit events. */
export interface AuditRecorder extends AuditPort {
  /** A token was refused. */
  refused: (from: { ip: string, requestId: string }, reason: string) => void
  /** A request was refused by a ceiling, or by the proof. Any other problem is not audited. */
  answered: (from: AnsweredRequest, problem: ProblemError) => void
  /** What reconciliation removed: principals that belong to no grant, and keys that their grant does not know. */
  reconciled: (found: Discrepancy[]) => void
  noted: (event: NewAuditEvent) => void
}

export interface AnsweredRequest {
  caller: Caller | null
  ip: string
  requestId: string
  grantId: string | undefined
  job: { id: string, team: string } | undefined
}

/** `audit` null: development with the embedded IAM; decisions are in the log only. */
export const auditRecorder = (audit: Audit | null, log: Log): AuditRecorder => {
  const write = async (event: NewAuditEvent) => { await audit?.record(event) }
  /** For events that give nobody access: the caller is answered even when the event could not be written. */
  const note = (event: NewAuditEvent) => {
    write(event).catch(error => log.error({ err: error, action: event.action }, 'audit event lost'))
  }
  return {
    refused: ({ ip, requestId }, reason) => note({
      actor: { id: 'anonymous', kind: 'anonymous', ip },
      requestId,
      action: reason === 'issuer-down' ? 'auth.unavailable' : 'auth.refuse',
      outcome: 'denied',
      code: 'unauthenticated',
      reason
    }),
    answered ({ caller, ip, requestId, grantId, job }, problem) {
      const action = deniedBy[problem.code]
      if (!action) return
      note({
        actor: caller ? actorOf(caller) : { id: 'anonymous', kind: 'anonymous', ip },
        requestId,
        action,
        outcome: 'denied',
        ...(job && { team: job.team, jobId: job.id }),
        ...(grantId !== undefined && { grantId }),
        code: problem.code,
        reason: problem.message
      })
    },
    reconciled (found) {
      for (const discrepancy of found) {
        if ((discrepancy.kind !== 'stray' && discrepancy.kind !== 'key') || !discrepancy.done) continue
        note({
          actor: systemActor('reconcile'),
          requestId: null,
          action: 'reconcile.remove',
          outcome: 'done',
          detail: {
            user: discrepancy.name,
            ...(discrepancy.account !== undefined && { account: discrepancy.account }),
            ...(discrepancy.kind === 'key'
              ? { grantId: discrepancy.grantId, accessKeyId: discrepancy.accessKeyId }
              : { expiresAt: discrepancy.expiresAt })
          }
        })
      }
    },
    decided (caller, action, decision, about) {
      const { requestId } = caller
      if (!decision.allowed && decision.faults.length > 0) {
        log.error({ faults: decision.faults, requestId }, 'guardrails could not be evaluated')
      }
      note({
        actor: actorOf(caller),
        requestId,
        action: decision.allowed ? permittedAs[action] : 'guardrail.deny',
        outcome: decision.allowed ? 'allowed' : 'denied',
        ...about,
        decidedBy: decision.decidedBy,
        ...(!decision.allowed && { code: 'forbidden', reason: decision.findings[0]?.detail ?? '' }),
        detail: { asked: action }
      })
    },
    async changed (grant, event) {
      const change = auditedEvents[event.action]
      if (!change) return
      const isSystem = ['sweeper', 'reconcile', 'service'].includes(event.actor)
      const audited: NewAuditEvent = {
        actor: isSystem ? systemActor(event.actor) : { id: event.actor, kind: event.actor.startsWith('oidc:') ? 'oidc' : 'token' },
        requestId: event.requestId,
        action: change.action,
        outcome: change.outcome,
        team: grant.team,
        jobId: grant.jobId,
        grantId: grant.id,
        policyHash: grant.policyHash,
        ...(grant.accessKeyId && { accessKeyId: grant.accessKeyId }),
        detail: { step: event.action, ...(grant.principal.account !== undefined && { account: grant.principal.account }), ...event.detail }
      }
      if (change.givesAccess) await write(audited)
      else note(audited)
    },
    noted: note
  }
}

const actorOf = ({ id, kind, ip }: Caller): AuditActor => ({ id, kind, ip })

const permittedAs: Record<AuthorisedAction, AuditAction> = {
  issue: 'grant.issue',
  extend: 'grant.extend',
  join: 'grant.join',
  render: 'policy.render',
  rotate: 'grant.rotate',
  revoke: 'grant.revoke',
  collect: 'grant.deliver',
  view: 'grant.read'
}

/** By the code of the first finding. */
const deniedBy: Partial<Record<ProblemCode, AuditAction>> = {
  'bucket-refused': 'ceiling.deny',
  'kms-key-refused': 'ceiling.deny',
  'window-too-long': 'ceiling.deny',
  'lifetime-too-long': 'ceiling.deny',
  'window-too-far': 'ceiling.deny',
  'ip-too-wide': 'ceiling.deny',
  'too-many-grants': 'ceiling.deny',
  'too-many-managed-policies': 'ceiling.deny',
  'policy-unproven': 'policy.unproven'
}

/** What the audit says of an event; `givesAccess`: it must be on the disk before the caller gets anything. */
interface AuditedEvent { action: AuditAction, outcome: AuditOutcome, givesAccess?: true }

/**
 * Every event of a grant. Null: an intent within an operation whose end is audited, or a change of the ledger alone; it is in
 * the grant's history.
 */
const auditedEvents: Record<GrantEventAction, AuditedEvent | null> = {
  pending: { action: 'grant.issue', outcome: 'allowed', givesAccess: true },
  minting: null,
  active: { action: 'grant.issue', outcome: 'done', givesAccess: true },
  'issue-failed': { action: 'grant.issue', outcome: 'failed' },
  rekeying: null,
  delivered: { action: 'grant.deliver', outcome: 'done', givesAccess: true },
  'rekey-failed': { action: 'grant.deliver', outcome: 'failed' },
  rotating: null,
  rotated: { action: 'grant.rotate', outcome: 'done', givesAccess: true },
  'previous-key-deleted': { action: 'grant.rotate', outcome: 'done' },
  'rotate-failed': { action: 'grant.rotate', outcome: 'failed' },
  extending: { action: 'grant.extend', outcome: 'allowed', givesAccess: true },
  extended: { action: 'grant.extend', outcome: 'done' },
  'extend-failed': { action: 'grant.extend', outcome: 'failed' },
  'workers-left': { action: 'sweep.fail', outcome: 'failed' },
  'behind-job': { action: 'sweep.fail', outcome: 'failed' },
  revoking: { action: 'grant.revoke', outcome: 'allowed' },
  'attempt-failed': { action: 'sweep.fail', outcome: 'failed' },
  unsure: null,
  irrevocable: { action: 'grant.revoke', outcome: 'failed' },
  revoked: { action: 'grant.revoke', outcome: 'done' },
  expired: { action: 'grant.expire', outcome: 'done' },
  failed: { action: 'grant.fail', outcome: 'done' },
  overtaken: null,
  repaired: null,
  released: null
}
