import type { FastifyRequest } from 'fastify'
import type { AuditAction, AuditActor, AuditOutcome, NewAuditEvent } from './event.ts'
import { systemActor } from './event.ts'
import type { Audit } from './log.ts'
import type { GuardrailDecision } from '../guardrails/guardrails.ts'
import type { Grant } from '../domain/grant.ts'
import type { NewEvent } from '../ledger/ledger.ts'
import type { Log } from '../lifecycle/deps.ts'
import type { Finding } from '../lifecycle/reconcile.ts'
import type { ProblemError, ProblemCode } from '../problems.ts'

/** Turns decisions and changes of state into audit events. */
export interface Recorder {
  refused(request: FastifyRequest, reason: string): void
  /** An answer that is a decision which no guardrail made: a ceiling's, or the proof's. Of any other problem nothing is said. */
  answered(request: FastifyRequest, problem: ProblemError): void
  /** What reconciliation did to what no grant tells of. */
  reconciled(findings: Finding[]): void
  decided(request: FastifyRequest, action: string, decision: GuardrailDecision, about: { team: string, jobId?: string, grantId?: string }): void
  /** A committed change of a grant. Rejects where the change gives access and cannot be audited: then it must not stand. */
  changed(grant: Grant, event: NewEvent): Promise<void>
  noted(event: NewAuditEvent): void
}

/** `audit` null: development with the embedded IAM; decisions are in the log only. */
export const recorder = (audit: Audit | null, log: Log): Recorder => {
  const write = async (event: NewAuditEvent) => { await audit?.record(event) }
  /** A refusal gives nobody anything: it is answered whether or not it could be written. */
  const note = (event: NewAuditEvent) => {
    write(event).catch(error => log.error({ err: error, action: event.action }, 'audit event lost'))
  }
  return {
    refused: (request, reason) => note({
      actor: { id: 'anonymous', kind: 'anonymous', ip: request.ip },
      requestId: request.id,
      action: reason === 'issuer-down' ? 'auth.unavailable' : 'auth.refuse',
      outcome: 'denied',
      code: 'unauthenticated',
      reason
    }),
    answered (request, problem) {
      const action = decisions[problem.code]
      if (!action) return
      const { id: grantId } = (request.params ?? {}) as { id?: string }
      const { job } = (request.body ?? {}) as { job?: { id: string, team: string } }
      note({
        actor: actorOf(request),
        requestId: request.id,
        action,
        outcome: 'denied',
        ...(job && { team: job.team, jobId: job.id }),
        ...(grantId !== undefined && { grantId }),
        code: problem.code,
        reason: problem.message
      })
    },
    reconciled (findings) {
      for (const finding of findings) {
        if (finding.kind !== 'stray' || !finding.done) continue
        note({
          actor: systemActor('reconcile'),
          requestId: null,
          action: 'reconcile.remove',
          outcome: 'done',
          detail: { user: finding.name, expiresAt: finding.expiresAt }
        })
      }
    },
    decided (request, action, decision, about) {
      if (!decision.allowed && decision.faults.length > 0) log.error({ faults: decision.faults, requestId: request.id }, 'guardrails could not be evaluated')
      note({
        actor: actorOf(request),
        requestId: request.id,
        action: decision.allowed ? actionOf[action] ?? 'grant.read' : 'guardrail.deny',
        outcome: decision.allowed ? 'allowed' : 'denied',
        ...about,
        decidedBy: decision.decidedBy,
        ...(!decision.allowed && { code: 'forbidden', reason: decision.findings[0]?.detail ?? '' }),
        detail: { asked: action }
      })
    },
    async changed (grant, event) {
      const change = changes[event.action]
      if (!change) return
      const isSystem = ['sweeper', 'reconcile', 'scheduler', 'service'].includes(event.actor)
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
        detail: { step: event.action, ...event.detail }
      }
      if (change.givesAccess) await write(audited)
      else note(audited)
    },
    noted: note
  }
}

const actorOf = (request: FastifyRequest): AuditActor => request.identity
  ? { id: request.identity.id, kind: request.identity.kind, ip: request.ip }
  : { id: 'anonymous', kind: 'anonymous', ip: request.ip }

const actionOf: Record<string, AuditAction> = {
  issue: 'grant.issue',
  extend: 'grant.extend',
  render: 'policy.render',
  rotate: 'grant.rotate',
  revoke: 'grant.revoke',
  collect: 'grant.deliver',
  view: 'grant.read',
  list: 'grant.read'
}

/** By the code of the first thing that was wrong. */
const decisions: Partial<Record<ProblemCode, AuditAction>> = {
  'bucket-refused': 'ceiling.deny',
  'window-too-long': 'ceiling.deny',
  'window-too-far': 'ceiling.deny',
  'ip-too-wide': 'ceiling.deny',
  'too-many-grants': 'ceiling.deny',
  'policy-unproven': 'policy.unproven'
}

/** Events of the ledger that are changes of state; the steps in between are in the grant's history alone. */
const changes: Record<string, { action: AuditAction, outcome: AuditOutcome, givesAccess?: true }> = {
  pending: { action: 'grant.issue', outcome: 'allowed', givesAccess: true },
  active: { action: 'grant.issue', outcome: 'done', givesAccess: true },
  delivered: { action: 'grant.deliver', outcome: 'done', givesAccess: true },
  rotated: { action: 'grant.rotate', outcome: 'done', givesAccess: true },
  extending: { action: 'grant.extend', outcome: 'allowed', givesAccess: true },
  extended: { action: 'grant.extend', outcome: 'done' },
  'extend-failed': { action: 'grant.extend', outcome: 'failed' },
  'issue-failed': { action: 'grant.issue', outcome: 'failed' },
  revoking: { action: 'grant.revoke', outcome: 'allowed' },
  revoked: { action: 'grant.revoke', outcome: 'done' },
  expired: { action: 'grant.expire', outcome: 'done' },
  failed: { action: 'grant.fail', outcome: 'done' },
  'attempt-failed': { action: 'sweep.fail', outcome: 'failed' }
}
