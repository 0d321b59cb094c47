import type { PrincipalProvisioner, PrincipalPlan } from '../iam/provisioner.ts'
import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { Grant } from '../domain/grant.ts'
import { StaleGrantError, type Ledger, type NewEvent } from '../ledger/ledger.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { prove, type Proven } from '../policy/prove/prove.ts'
import { ProblemError } from '../problems.ts'
import { unproven, type Rules } from './prepare.ts'

/**
 * What every verb of the lifecycle works with. Passed in, so that tests state the clock, the ids, IAM and the ledger.
 * Domain time (`now`) is epoch ms; a deadline is epoch ms of the real clock, since it bounds waiting, not windows.
 */
export interface GrantDeps {
  now: () => number
  newId: () => string
  /** The instant by which one operation's IAM calls must be done. */
  deadline: () => number
  ledger: Ledger
  principals: (attachment: PolicyAttachment) => PrincipalProvisioner
  rules: () => Rules
  /** `pathBase` is null where the provider keeps no paths. */
  naming: { userPrefix: string, pathBase: string | null }
  outstanding: { perOwner: number, total: number }
  /** How long an operation holds a grant; longer than its deadline, so that a lapsed claim means a crash. */
  leaseMs: number
  /** Told after every committed change; the answer waits for it. */
  record: (grant: Grant, event: NewEvent) => Promise<void>
  log: Log
}

export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Who acts: an identity of a request, or `sweeper`, `reconcile`. */
export interface Actor { id: string, requestId: string | null }

export const event = (actor: Actor, action: string, detail: NewEvent['detail'] = {}, policyHash: string | null = null): NewEvent =>
  ({ actor: actor.id, requestId: actor.requestId, action, policyHash, detail })

/** Commits a change with its event, then records it in the audit log. */
export const commit = async (deps: GrantDeps, grant: Grant, change: Parameters<Ledger['update']>[1], what: NewEvent): Promise<Grant> => {
  const stored = await deps.ledger.update(grant, change, what, deps.now())
  await deps.record(stored, what)
  return stored
}

export const found = async (deps: GrantDeps, id: string): Promise<Grant> => {
  const grant = await deps.ledger.get(id)
  if (!grant) throw new ProblemError('grant-unknown')
  return grant
}

/** Takes the grant for one operation; 409 while another holds it. */
export const held = async (deps: GrantDeps, id: string): Promise<Grant> => {
  const now = deps.now()
  const grant = await deps.ledger.claim(id, now, now + deps.leaseMs)
  if (!grant) {
    throw new ProblemError('grant-state', {
      detail: 'Another operation on this grant is under way.',
      hint: 'Send the request again after Retry-After.',
      retryAfterSeconds: 1
    })
  }
  if (grant.claimedUntil === null || deps.now() >= grant.claimedUntil) throw new StaleGrantError(`The claim on grant ${id} came too late.`)
  return grant
}

/** Ends an operation that found nothing to do. */
export const release = async (deps: GrantDeps, grant: Grant): Promise<void> => {
  await deps.ledger.update(grant, { claimedUntil: null }, event({ id: 'service', requestId: null }, 'released'), deps.now())
}

/** When the sweeper must next look at an active grant that is in order. */
export const dueOf = (grant: Pick<Grant, 'expiresAt' | 'previousKeyDiesAt'>): number =>
  Math.min(grant.expiresAt, grant.previousKeyDiesAt ?? Infinity)

/** The same after an operation on `before`: what was to be mended then, after one that died, is still to be mended. */
export const dueAfter = (before: Grant, after: Pick<Grant, 'expiresAt' | 'previousKeyDiesAt'>): number =>
  Math.min(dueOf(after), before.dueAt !== null && before.dueAt < dueOf(before) ? before.dueAt : Infinity)

/** What the provider needs to know of a grant. The stored policy is proven anew: the issuer takes nothing else. */
export const planOf = (grant: Grant, withKey = true): PrincipalPlan => {
  const { job } = grant.spec
  return {
    ref: grant.principal,
    attachment: grant.attach,
    policy: provenPolicy(grant),
    tags: {
      ...job.labels,
      'job-access:grant': grant.id,
      'job-access:job': job.id,
      'job-access:team': job.team,
      'job-access:expires': new Date(grant.expiresAt).toISOString()
    },
    withKey
  }
}

export const provenPolicy = ({ policy, spec }: Pick<Grant, 'policy' | 'spec'>): Proven<PolicyDocument> => {
  const proof = prove(policy, spec)
  if (!proof.ok) throw unproven(proof)
  return proof.proven
}
