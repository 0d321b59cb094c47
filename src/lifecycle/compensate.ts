import type { GrantEventAction } from '../domain/events.ts'
import type { Grant } from '../domain/grant.ts'
import { sessionEnd } from '../iam/role-profile.ts'
import type { GrantChange } from '../ledger/ledger.ts'
import { assertLease, commit, deadline, event, rereadAfterFailedCommit } from './lease.ts'
import type { Actor, GrantDeps } from './deps.ts'

/** Undoes the part of a failed operation that was done. Nothing here rejects: the caller gets the error of the operation itself. */

interface Compensation {
  /** Id of the key that the operation made; null: it does not know of one. */
  made: string | null
  /** Ids of the keys that stay; null: the operation touched no keys. */
  keep: string[] | null
  /** What the ledger said before. */
  back: GrantChange
  action: GrantEventAction
}

/**
 * Ends a failed operation on an active grant: deletes the keys that it made, restores the ledger, and makes the grant due, so that
 * the sweeper looks at it at once. When the ledger does not answer, the lease lapses, and the sweeper looks at it then.
 */
export const compensate = async (
  deps: GrantDeps, actor: Actor, grant: Grant, { made, keep, back, action }: Compensation
): Promise<void> => {
  try {
    const stored = await rereadAfterFailedCommit(deps, grant, made)
    if (!stored) return await removeOvertaken(deps, actor, grant, made)
    if (keep) await pruneWhileLeased(deps, grant, keep)
    await commit(deps, stored, { ...back, claimedUntil: null, dueAt: deps.now() }, event(actor, action))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the end of a failed operation; its lease will lapse')
    if (keep) await pruneWhileLeased(deps, grant, keep)
  }
}

/** Another operation has taken the grant over. Removes what this operation made, or may still make; what the other made stays. */
export const removeOvertaken = async (deps: GrantDeps, actor: Actor, grant: Grant, made: string | null): Promise<void> => {
  deps.log.warn({ grantId: grant.id }, 'another operation has taken the grant over')
  const provisioner = deps.provisioners[grant.attach]
  try {
    const stored = await deps.ledger.get(grant.id)
    const keep = [stored?.accessKeyId, stored?.previousKeyId].filter(id => typeof id === 'string')
    if (made && grant.attach !== 'session') await provisioner.deleteKey(grant.principal, made, keep, deadline(deps))
    if (stored?.state === 'pending') return
    // A call whose answer was lost may still take effect. So the sweeper compares the provider with the ledger.
    if (stored?.state === 'active') await commit(deps, stored, { dueAt: deps.now() }, event(actor, 'overtaken'))
    // The grant has ended. Its teardown may have come before the calls of this operation.
    else if (grant.attach !== 'session') await provisioner.discard(grant.principal, deadline(deps))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'what an overtaken operation made was not removed; left to the sweeper')
  }
}

export const teardownWithoutLedger = async (deps: GrantDeps, grant: Grant): Promise<void> => {
  try {
    const keyIds = grant.accessKeyId ? [grant.accessKeyId] : null
    const { principal: ref, attach: attachment } = grant
    const target = { ref, attachment, keyIds, mintedAt: grant.mintedAt ?? grant.createdAt, sessionsEndAt: sessionEnd(grant) }
    await deps.provisioners[attachment].teardown(target, deadline(deps))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'teardown failed; left to the sweeper')
  }
}

/** Deletes every key that is not in `keep`, as long as the lease lasts. */
export const pruneWhileLeased = async (deps: GrantDeps, grant: Grant, keep: string[]): Promise<void> => {
  try {
    await deps.provisioners[grant.attach].pruneKeys(grant.principal, keep, assertLease(deps, grant))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'unknown keys were not deleted; left to the sweeper')
  }
}
