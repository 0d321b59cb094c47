import type { GrantEventAction } from '../domain/events.ts'
import type { DyingKey, Grant } from '../domain/grant.ts'
import type { GrantChange } from '../ledger/ledger.ts'
import { assertLease, commit, deadline, event, rereadAfterFailedCommit } from './lease.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { idsOf, stillDying, targetOf, withLate } from './dying-keys.ts'
import { sharedOf } from './shared.ts'

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
 * Ends a failed operation on a grant: deletes the keys that it made, restores the ledger, and makes the grant due, unless `back` says when,
 * so that the sweeper looks at it at once. When the ledger does not answer, the lease lapses, and the sweeper looks at it then.
 */
export const compensate = async (
  deps: GrantDeps, actor: Actor, grant: Grant, { made, keep, back, action }: Compensation
): Promise<void> => {
  try {
    const stored = await rereadAfterFailedCommit(deps, grant, made)
    if (!stored) return await removeOvertaken(deps, actor, grant, made)
    const dyingKeys = keep ? await pruneWhileLeased(deps, grant, keep, made) : stored.dyingKeys
    await commit(deps, stored, { dueAt: deps.now(), ...back, dyingKeys, claimedUntil: null }, event(actor, action))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the end of a failed operation; its lease will lapse')
    if (keep) await pruneWhileLeased(deps, grant, keep, made)
  }
}

/** Another operation has taken the grant over. Removes what this operation made, or may still make; what the other made stays. */
export const removeOvertaken = async (deps: GrantDeps, actor: Actor, grant: Grant, made: string | null): Promise<void> => {
  deps.log.warn({ grantId: grant.id }, 'another operation has taken the grant over')
  const provisioner = deps.provisioners[grant.attach]
  try {
    const stored = await deps.ledger.get(grant.id)
    const keep = [stored?.accessKeyId, stored?.previousKeyId].filter(id => typeof id === 'string')
    const dead = !made || grant.attach === 'session' || await provisioner.deleteKey(grant.principal, made, keep, deadline(deps))
    if (stored?.state === 'pending') return
    // A call whose answer was lost may still take effect. So the sweeper compares the provider with the ledger.
    if (stored?.state === 'active') {
      const hasKeys = grant.attach !== 'session' && grant.maxWorkers === null
      const dyingKeys = hasKeys ? withLate(stored.dyingKeys, dead ? null : made, deps.now()) : []
      await commit(deps, stored, { dueAt: deps.now(), dyingKeys }, event(actor, 'overtaken'))
      return
    }
    // The grant has ended. Its teardown may have come before the calls of this operation. What comes later still, reconciliation removes.
    const isJob = grant.maxWorkers !== null
    if (isJob && grant.spec.shared) await sharedOf(deps).remove(grant.principal, grant.mintedAt ?? grant.createdAt, deadline(deps))
    if (!isJob && grant.attach !== 'session') await provisioner.discard(grant.principal, deadline(deps))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'what an overtaken operation made was not removed; left to the sweeper')
  }
}

export const teardownWithoutLedger = async (deps: GrantDeps, grant: Grant): Promise<void> => {
  try {
    await deps.provisioners[grant.attach].teardown(targetOf(grant), deadline(deps))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'teardown failed; left to the sweeper')
  }
}

/**
 * Deletes every key that is not in `keep`, as long as the lease lasts.
 * @param made the key that the failed operation made, if it knows of one
 * @returns the grant's keys whose death is not certain
 */
export const pruneWhileLeased = async (deps: GrantDeps, grant: Grant, keep: string[], made: string | null): Promise<DyingKey[]> => {
  const toDie = grant.attach === 'session' ? [] : withLate(grant.dyingKeys, made, deps.now())
  try {
    const known = idsOf(toDie)
    const deleted = await deps.provisioners[grant.attach].pruneKeys(grant.principal, { keep, known }, assertLease(deps, grant))
    return stillDying(toDie, deleted, deps.now())
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'unknown keys were not deleted; left to the sweeper')
    return toDie
  }
}
