import type { GrantEventAction, NewGrantEvent } from '../domain/events.ts'
import type { Grant } from '../domain/grant.ts'
import type { GrantChange } from '../ledger/ledger.ts'
import type { Actor, GrantDeps } from './deps.ts'

/** Every change of a grant goes to the ledger with its event, and then to the audit. */

export const event = (
  actor: Actor, action: GrantEventAction, detail: NewGrantEvent['detail'] = {}, policyHash: string | null = null
): NewGrantEvent => ({ actor: actor.id, requestId: actor.requestId, action, policyHash, detail })

export const commit = async (deps: GrantDeps, grant: Grant, change: GrantChange, what: NewGrantEvent): Promise<Grant> => {
  const stored = await deps.ledger.update(grant, change, what, deps.now())
  await deps.audit.changed(stored, what)
  return stored
}

/** When the sweeper must next look at an active grant that is in order. */
export const dueOf = (grant: Pick<Grant, 'expiresAt' | 'previousKeyDiesAt'>): number =>
  Math.min(grant.expiresAt, grant.previousKeyDiesAt ?? Infinity)

/** The same after an operation on `before`: what was to be repaired then, after an operation that died, is still to be repaired. */
export const dueAfter = (before: Grant, after: Pick<Grant, 'expiresAt' | 'previousKeyDiesAt'>): number =>
  Math.min(dueOf(after), before.dueAt !== null && before.dueAt < dueOf(before) ? before.dueAt : Infinity)
