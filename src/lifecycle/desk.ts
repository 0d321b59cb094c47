import type { Principals, PrincipalPlan } from '../iam/principal.ts'
import type { Grant } from '../ledger/grant.ts'
import { StaleGrant, type Ledger, type NewEvent } from '../ledger/ledger.ts'
import type { PolicyDocument } from '../policy/document.ts'
import { prove, type Proven } from '../policy/prove/prove.ts'
import { Problem } from '../problems.ts'
import { unproven, type Rules } from './prepare.ts'

/**
 * What every verb of the lifecycle works with. Passed in, so that tests state the clock, the ids, IAM and the ledger.
 * Domain time (`now`) is epoch ms; a deadline is epoch ms of the real clock, since it bounds waiting, not windows.
 */
export interface Desk {
  now: () => number
  newId: () => string
  /** The instant by which one operation's IAM calls must be done. */
  deadline: () => number
  ledger: Ledger
  principals: (carrier: Grant['attach']) => Principals
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
export const commit = async (desk: Desk, grant: Grant, change: Parameters<Ledger['update']>[1], what: NewEvent): Promise<Grant> => {
  const stored = await desk.ledger.update(grant, change, what, desk.now())
  await desk.record(stored, what)
  return stored
}

export const found = async (desk: Desk, id: string): Promise<Grant> => {
  const grant = await desk.ledger.get(id)
  if (!grant) throw new Problem('grant-unknown')
  return grant
}

/** Takes the grant for one operation; 409 while another holds it. */
export const held = async (desk: Desk, id: string): Promise<Grant> => {
  const now = desk.now()
  const grant = await desk.ledger.claim(id, now, now + desk.leaseMs)
  if (!grant) {
    throw new Problem('grant-state', {
      detail: 'Another operation on this grant is under way.',
      hint: 'Send the request again after Retry-After.',
      retryAfterSeconds: 1
    })
  }
  if (grant.claimedUntil === null || desk.now() >= grant.claimedUntil) throw new StaleGrant(`The claim on grant ${id} came too late.`)
  return grant
}

/** Ends an operation that found nothing to do. */
export const release = async (desk: Desk, grant: Grant): Promise<void> => {
  await desk.ledger.update(grant, { claimedUntil: null }, event({ id: 'service', requestId: null }, 'released'), desk.now())
}

/** When the sweeper must next look at an active grant that is in order. */
export const dueOf = (grant: Pick<Grant, 'expiresAt' | 'previousKeyDiesAt'>): number =>
  Math.min(grant.expiresAt, grant.previousKeyDiesAt ?? Infinity)

/** The same after an operation on `before`: what was to be mended then, after one that died, is still to be mended. */
export const dueAfter = (before: Grant, after: Pick<Grant, 'expiresAt' | 'previousKeyDiesAt'>): number =>
  Math.min(dueOf(after), before.dueAt !== null && before.dueAt < dueOf(before) ? before.dueAt : Infinity)

/** What the provider needs to know of a grant. The stored policy is proven anew: the issuer takes nothing else. */
export const planOf = (grant: Grant, withKey = true): PrincipalPlan => {
  const { job } = grant.admitted
  return {
    ref: grant.principal,
    carrier: grant.attach === 'session' ? 'inline' : grant.attach,
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

export const provenPolicy = ({ policy, admitted }: Pick<Grant, 'policy' | 'admitted'>): Proven<PolicyDocument> => {
  const proof = prove(policy, admitted)
  if (!proof.ok) throw unproven(proof)
  return proof.proven
}
