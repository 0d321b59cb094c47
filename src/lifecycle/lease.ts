import type { AccessSpec } from '../domain/access-spec.ts'
import type { GrantEventAction, NewGrantEvent } from '../domain/events.ts'
import type { Grant, GrantState } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { StaleGrantError, mostSkewMs, type GrantChange } from '../ledger/ledger.ts'
import { ProblemError } from '../problems.ts'
import type { Actor, GrantDeps } from './deps.ts'

/**
 * An operation works on a grant under a lease: the ledger gives it to one operation at a time, until an instant. Once a lease
 * has lapsed another operation may hold the grant, and may have delivered keys of it. So whatever touches keys asserts its
 * lease first.
 */

/** Takes the grant for one operation. @throws ProblemError `grant-state` while another operation holds it */
export const claimLease = async (deps: GrantDeps, id: string): Promise<Grant> => {
  const now = deps.now()
  const grant = await deps.ledger.claim(id, now, now + deps.leaseMs)
  if (!grant) {
    throw new ProblemError('grant-state', {
      detail: 'Another operation on this grant is under way.',
      hint: 'Send the request again after Retry-After.',
      retryAfterSeconds: 1
    })
  }
  if (grant.claimedUntil === null || deps.now() >= grant.claimedUntil) {
    throw new StaleGrantError(`The claim on grant ${grant.id} came too late.`)
  }
  return grant
}

/**
 * Takes a grant that has not ended, and does not even try to take one that has, so that nothing is written after its end.
 * @param grant as it was read just now
 * @throws ProblemError `grant-state`
 */
export const claimLive = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  if (grant.dueAt === null) throw inactive(grant)
  return claimLease(deps, grant.id)
}

/** Takes a grant that is active and whose window is not over. @throws ProblemError `grant-state` */
export const claimActive = async (deps: GrantDeps, grant: Grant): Promise<Grant> => requireActive(deps, await claimLive(deps, grant))

/** Releases a claimed grant that is not active, or whose window is over. @throws ProblemError then */
export const requireActive = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  if (grant.state === 'active' && deps.now() < grant.expiresAt) return grant
  await release(deps, grant)
  throw inactive(grant)
}

const inactive = (grant: Grant): ProblemError => new ProblemError('grant-state', {
  detail: grant.state === 'active' ? 'The grant’s window is over.' : `The grant is ${stateWord(grant)}.`,
  hint: 'Only active grants can be changed; ask for a new one with POST /v1/grants.'
})

/** What a person is told: the access of a job that came to its end was not taken away. */
export const stateWord = ({ state, endReason }: Pick<Grant, 'state' | 'endReason'>): GrantState | 'completed' =>
  state === 'revoked' && endReason === 'completed' ? endReason : state

/** Gives the grant back, and returns it so: the operation found nothing to do. */
export const release = (deps: GrantDeps, grant: Grant): Promise<Grant> =>
  deps.ledger.update(grant, { claimedUntil: null }, event({ id: 'service', requestId: null }, 'released'), deps.now())

/** As the ledger sees it: after a clock was set back by much, another operation may hold the grant. */
export const isLeased = ({ now, leaseMs }: GrantDeps, { claimedUntil }: Grant): boolean =>
  claimedUntil !== null && now() < claimedUntil && claimedUntil <= now() + leaseMs + mostSkewMs

/** The instant by which the IAM calls of one operation must be done. */
export const deadline = (deps: GrantDeps): number => deps.waitingNow() + deps.deadlineMs

/** The deadline of IAM calls that may touch another operation's keys. @throws StaleGrantError when the lease has lapsed */
export const assertLease = (deps: GrantDeps, grant: Grant): number => {
  if (!isLeased(deps, grant)) throw new StaleGrantError(`The lease on grant ${grant.id} has lapsed.`)
  return deadline(deps)
}

/**
 * The grant as it is stored after a commit on `grant` that failed, whether or not it took effect; undefined: another operation
 * has taken it over. A newer version is the failed commit's while the lease lasts, or if it names the key that this operation made.
 */
export const rereadAfterFailedCommit = async (deps: GrantDeps, grant: Grant, made: string | null): Promise<Grant | undefined> => {
  const stored = await deps.ledger.get(grant.id)
  if (stored?.version === grant.version) return stored
  const isNext = stored?.version === grant.version + 1
  return isNext && (isLeased(deps, grant) || (made !== null && stored.accessKeyId === made)) ? stored : undefined
}

/** Every change of a grant goes to the ledger with its event, and then to the audit. */

export const event = (
  actor: Actor, action: GrantEventAction, detail: NewGrantEvent['detail'] = {}, policyHash: string | null = null
): NewGrantEvent => ({ actor: actor.id, requestId: actor.requestId, action, policyHash, detail })

export const commit = async (deps: GrantDeps, grant: Grant, change: GrantChange, what: NewGrantEvent): Promise<Grant> => {
  const stored = await deps.ledger.update(grant, change, what, deps.now())
  await deps.audit.changed(stored, what)
  return stored
}

/** What a change of a grant's access commits. */
export type Wanted = Pick<Grant, 'spec' | 'policy' | 'policyHash' | 'notBefore' | 'expiresAt'>

export const wantedOf = ({ spec, policy, measure }: { spec: AccessSpec, policy: PolicyDocument, measure: { sha256: string } }): Wanted => ({
  spec,
  policy,
  policyHash: measure.sha256,
  notBefore: Date.parse(spec.window.notBefore),
  expiresAt: Date.parse(spec.window.outputNotAfter)
})

/** What such a change restores when it fails. */
export const accessOf = ({ spec, policy, policyHash, notBefore, expiresAt }: Grant): Wanted =>
  ({ spec, policy, policyHash, notBefore, expiresAt })

/** When the sweeper must next look at an active grant that is in order. */
export const dueOf = ({ expiresAt, previousKeyDiesAt, dyingKeys }: Dated): number =>
  Math.min(expiresAt, previousKeyDiesAt ?? Infinity, ...dyingKeys.map(({ askAt }) => askAt))

type Dated = Pick<Grant, 'expiresAt' | 'previousKeyDiesAt' | 'dyingKeys'>

/** The same after an operation on `before`: what was to be repaired then, after an operation that died, is still to be repaired. */
export const dueAfter = (before: Grant, after: Dated): number =>
  Math.min(dueOf(after), before.dueAt !== null && before.dueAt < dueOf(before) ? before.dueAt : Infinity)
