import { isIamError } from '../iam/errors.ts'
import { sessionEnd } from '../iam/role-profile.ts'
import type { EndReason, Ending, Grant } from '../domain/grant.ts'
import { StaleGrantError, type GrantChange } from '../ledger/ledger.ts'
import { authoriseOnGrant } from './authorise.ts'
import { claimLease, commit, deadline, event, isLeased, release } from './lease.ts'
import type { Actor, Caller, GrantDeps } from './deps.ts'
import { targetOf } from './dying-keys.ts'
import { sharedOf } from './shared.ts'
import { reachWorkers } from './workers.ts'

/**
 * Ends a grant, for complete and revoke. Expiry and a failed issue use the same two steps. First the intent is committed; then the
 * key is deleted, then the policy, then the user. It may be called again: a grant that has ended is returned as it is.
 *
 * @param requireMeant throws when it is not this state of a live grant that the caller means to end; it holds until the end begins
 * @returns the ended grant; or a grant that is still `revoking`, since the provider did not do every call: the sweeper continues
 */
export const end = async (
  deps: GrantDeps, actor: Caller, id: string, reason: 'completed' | 'revoked', requireMeant: (claimed: Grant) => void = () => {}
): Promise<Grant> => {
  const grant = await authoriseOnGrant(deps, actor, id, 'revoke')
  if (grant.dueAt === null) return grant
  if (grant.state !== 'revoking') {
    requireMeant(grant)
    const started = isLeased(deps, grant) ? undefined : await startUnlessStale(deps, actor, grant, reason)
    if (started) return finish(deps, actor, started)
  }
  const claimed = await claimLease(deps, id)
  if (claimed.dueAt === null) return claimed
  try {
    if (claimed.state !== 'revoking') requireMeant(claimed)
  } catch (problem) {
    await release(deps, claimed)
    throw problem
  }
  return finish(deps, actor, await startEnding(deps, actor, claimed, 'revoked', reason))
}

/** Undefined: something came in between since the grant was read. */
const startUnlessStale = async (deps: GrantDeps, actor: Actor, grant: Grant, reason: EndReason): Promise<Grant | undefined> => {
  try {
    return await startEnding(deps, actor, grant, 'revoked', reason)
  } catch (error) {
    if (error instanceof StaleGrantError) return undefined
    throw error
  }
}

/** Commits the intent to end a grant that this operation holds, or takes with it: no other one can commit on the version before. */
export const startEnding = async (
  deps: GrantDeps, actor: Actor, grant: Grant, ending: Ending, reason: EndReason
): Promise<Grant> => {
  if (grant.state === 'revoking') return grant
  return commit(deps, grant, { ...endBegun(deps, ending), endReason: reason },
    event(actor, 'revoking', { reason, accessKeyId: grant.accessKeyId }))
}

/** The change with which an end begins, under a lease of its own. What failed before was something else, and must not make the end wait. */
export const endBegun = ({ now, leaseMs }: GrantDeps, ending: Ending) =>
  ({ state: 'revoking', ending, attempts: 0, dueAt: now() + leaseMs, claimedUntil: now() + leaseMs }) as const

/** Deletes what a `revoking` grant has at the provider. When the provider fails it does not reject: the sweeper tries again later. */
export const finish = async (deps: GrantDeps, actor: Actor, grant: Grant): Promise<Grant> => {
  if (grant.state !== 'revoking' || !grant.ending) return grant
  const waiting = grant.maxWorkers === null ? undefined : await endWorkers(deps, actor, grant, grant.ending)
  if (waiting) return waiting
  const endsAt = grant.attach === 'session' ? sessionEnd(grant) : Infinity
  // The provider never made anything, as for a job whose workers share no policy, or every session has ended by itself.
  if (grant.mintedAt === null || deps.now() >= endsAt) return closed(deps, actor, grant)
  try {
    // No user has the policy of a job any more.
    const result = grant.maxWorkers === null
      ? await deps.provisioners[grant.attach].teardown(targetOf(grant), deadline(deps))
      : await sharedOf(deps).remove(grant.principal, grant.mintedAt, deadline(deps))
    switch (result) {
      case 'gone': return await closed(deps, actor, grant)
      case 'unsure': return await postponed(deps, actor, grant, 'unsure', {}, freed(grant))
      case 'irrevocable':
        return await commit(deps, grant, { dueAt: endsAt, claimedUntil: null, ...freed(grant) }, event(actor, 'irrevocable'))
    }
  } catch (error) {
    if (!isIamError(error)) throw error
    deps.log.warn({ grantId: grant.id, attempts: grant.attempts + 1, err: error }, 'teardown failed; trying again later')
    return postponed(deps, actor, grant, 'attempt-failed', { operation: error.operation, kind: error.kind, code: error.providerCode },
      grant.maxWorkers === null ? {} : freed(grant))
  }
}

/**
 * A job of workers has no principal. Each of its workers is ended for itself, its key first.
 * @returns undefined when all have ended
 */
const endWorkers = async (deps: GrantDeps, actor: Actor, job: Grant, ending: Ending): Promise<Grant | undefined> => {
  // One that is being ended already has its own backoff.
  const isEnding = ({ state, dueAt }: Grant) => dueAt === null || (state === 'revoking' && dueAt > deps.now())
  const { workers, progress } = await reachWorkers(deps, job, isEnding,
    async worker => finish(deps, actor, await startEnding(deps, actor, worker, ending, 'the job has ended')))
  const left = workers.filter(({ dueAt }) => dueAt !== null)
  if (left.length === 0) return undefined
  // Of a worker whose own name is free again, no key is left that could be deleted.
  const keysAreGone = left.every(({ idempotencyKey }) => idempotencyKey === null)
  return workersLeft(deps, actor, job, { left, progress }, keysAreGone ? freed(job) : {})
}

/**
 * Some workers of a job are not reached yet, and a key of one may work that should not. So the next try comes soon after one that reached
 * some, and when the lease of a worker that another operation holds lapses.
 */
export const workersLeft = (
  deps: GrantDeps, actor: Actor, job: Grant, { left, progress }: { left: Grant[], progress: boolean }, change: GrantChange = {}
): Promise<Grant> => {
  const now = deps.now()
  const tried = { ...job, attempts: progress ? 0 : job.attempts }
  const leases = left.map(({ claimedUntil }) => (claimedUntil ?? 0) - now).filter(ms => ms > 0)
  // Many leases may lapse one shortly after the other.
  const wait = Math.max(firstBackoffMs, Math.min(backoffMs(tried.attempts), ...leases))
  return postponed(deps, actor, tried, 'workers-left', { workers: String(left.length) }, { ...change, dueAt: now + wait })
}

/**
 * Whether the idempotency key is free again once nothing of the grant is left at the provider. The job's own key is, for the next
 * run of the job, and the name of a worker; so is the key of a failed issue. An Idempotency-Key stays taken, so that a late retry
 * issues nothing.
 */
export const freesKey = ({ state, ending, idempotencyKey }: Grant): boolean =>
  ending === 'failed' || state === 'pending' || idempotencyKey?.startsWith('key:') === false

const freed = (grant: Grant): { idempotencyKey?: null } => freesKey(grant) ? { idempotencyKey: null } : {}

const closed = (deps: GrantDeps, actor: Actor, grant: Grant): Promise<Grant> =>
  commit(deps, grant, { state: grant.ending ?? 'revoked', dyingKeys: [], dueAt: null, claimedUntil: null, attempts: 0, ...freed(grant) },
    event(actor, grant.ending ?? 'revoked', { accessKeyId: grant.accessKeyId }))

export const postponed = (
  deps: GrantDeps, actor: Actor, grant: Grant, action: 'attempt-failed' | 'unsure' | 'workers-left',
  detail: Record<string, string>, change: GrantChange = {}
): Promise<Grant> =>
  commit(deps, grant, { attempts: grant.attempts + 1, dueAt: deps.now() + backoffMs(grant.attempts), ...change, claimedUntil: null },
    event(actor, action, { ...detail, attempt: grant.attempts + 1 }))

const firstBackoffMs = 5_000
export const longestBackoffMs = 5 * 60_000

/** Per grant: 5 s, 10 s, 20 s … at most 5 min, since the job's key may still work. */
export const backoffMs = (attempts: number): number => Math.min(longestBackoffMs, firstBackoffMs * 2 ** Math.min(attempts, 10))
