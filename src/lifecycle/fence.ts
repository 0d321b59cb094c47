import type { Grant } from '../domain/grant.ts'
import { StaleGrantError, type GrantChange } from '../ledger/ledger.ts'
import { commit, event, type Actor, type GrantDeps } from './deps.ts'

/**
 * What keeps an operation that failed, or was stalled past its claim, from harm. Once a claim has lapsed another may hold the
 * grant, and have given away keys of it.
 */

const isHeld = (deps: GrantDeps, { claimedUntil }: Grant): boolean => claimedUntil !== null && deps.now() < claimedUntil

/** The deadline of IAM calls that may touch another's keys. @throws StaleGrantError when the claim has lapsed */
export const fenced = (deps: GrantDeps, grant: Grant): number => {
  if (!isHeld(deps, grant)) throw new StaleGrantError(`The claim on grant ${grant.id} has lapsed.`)
  return deps.deadline()
}

/**
 * The grant as it is stored after a commit on `grant` that failed, whether or not it was done; undefined: another has taken it
 * over. A newer version is the failed commit's while the claim holds, or if it names the key that this operation made.
 */
export const ours = async (deps: GrantDeps, grant: Grant, made: string | null): Promise<Grant | undefined> => {
  const stored = await deps.ledger.get(grant.id)
  if (stored?.version === grant.version) return stored
  const isNext = stored?.version === grant.version + 1
  return isNext && (isHeld(deps, grant) || (made !== null && stored.accessKeyId === made)) ? stored : undefined
}

export interface Undoing {
  /** Id of the key that the operation made, where it knows it. */
  made: string | null
  /** Ids of the keys that stay; null: it touched no keys. */
  keep: string[] | null
  /** What the ledger is to say again. */
  back: GrantChange
  action: string
}

/**
 * Ends an operation on an active grant that failed half-way: what it made goes, the ledger says what it said before, and the
 * sweeper looks at once. Where the ledger does not answer, the claim lapses and the sweeper comes then. Never rejects.
 */
export const undo = async (deps: GrantDeps, actor: Actor, grant: Grant, { made, keep, back, action }: Undoing): Promise<void> => {
  try {
    const stored = await ours(deps, grant, made)
    if (!stored) return await overtaken(deps, actor, grant, made)
    if (keep) await pruneOurs(deps, grant, keep)
    await commit(deps, stored, { ...back, claimedUntil: null, dueAt: deps.now() }, event(actor, action))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the end of a failed operation; its claim will lapse')
    if (keep) await pruneOurs(deps, grant, keep)
  }
}

/** What this operation made goes, as does what it may make yet; what another made since stays. Never rejects. */
export const overtaken = async (deps: GrantDeps, actor: Actor, grant: Grant, made: string | null): Promise<void> => {
  deps.log.warn({ grantId: grant.id }, 'another has taken the grant over')
  try {
    const stored = await deps.ledger.get(grant.id)
    const keep = [stored?.accessKeyId, stored?.previousKeyId].filter(id => typeof id === 'string')
    if (made && grant.attach !== 'session') await deps.principals(grant.attach).deleteKey(grant.principal, made, keep, deps.deadline())
    if (stored?.state === 'pending') return
    // A call of ours whose answer was lost may still be done: the sweeper compares the provider with the ledger.
    if (stored?.state === 'active') await commit(deps, stored, { dueAt: deps.now() }, event(actor, 'overtaken'))
    // The teardown may have come before what this operation made.
    else if (grant.attach !== 'session') await deps.principals(grant.attach).discard(grant.principal, deps.deadline())
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'what an overtaken operation left was not removed; left to the sweeper')
  }
}

/** Tears down without the ledger. Never rejects. */
export const teardownBlind = async (deps: GrantDeps, grant: Grant): Promise<void> => {
  try {
    const keyIds = grant.accessKeyId ? [grant.accessKeyId] : null
    const target = { ref: grant.principal, attachment: grant.attach, keyIds, mintedAt: grant.mintedAt ?? grant.createdAt }
    await deps.principals(grant.attach).teardown(target, deps.deadline())
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'teardown failed; left to the sweeper')
  }
}

/** Deletes every key but those in `keep`, while the grant is surely ours. Never rejects. */
export const pruneOurs = async (deps: GrantDeps, grant: Grant, keep: string[]): Promise<void> => {
  try {
    await deps.principals(grant.attach).pruneKeys(grant.principal, keep, fenced(deps, grant))
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'prune failed; left to the sweeper')
  }
}
