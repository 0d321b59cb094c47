import { isIamError } from '../iam/errors.ts'
import { sessionEnd } from '../iam/role-profile.ts'
import type { Ending, Grant } from '../ledger/grant.ts'
import type { GrantChange } from '../ledger/ledger.ts'
import { commit, event, found, held, type Actor, type Desk } from './desk.ts'

/**
 * Ends a grant: complete, revoke, expire and a failed issue all come here. The intent is committed first, the key dies with
 * the first IAM call, then the policy, then the user. Callable again and again: an ended grant is returned as it is.
 *
 * @returns the grant, ended; or still `revoking`, when the provider did not let us finish: the sweeper goes on.
 */
export const end = async (desk: Desk, actor: Actor, id: string, reason: string): Promise<Grant> => {
  const grant = await found(desk, id)
  if (grant.dueAt === null) return grant
  const claimed = await held(desk, id)
  if (claimed.dueAt === null) return claimed
  return finish(desk, actor, await startEnding(desk, actor, claimed, 'revoked', reason))
}

/** Commits the intent to end a grant that this operation holds. */
export const startEnding = async (desk: Desk, actor: Actor, grant: Grant, ending: Ending, reason: string): Promise<Grant> => {
  if (grant.state === 'revoking') return grant
  return commit(desk, grant, {
    state: 'revoking',
    ending,
    dueAt: desk.now() + desk.leaseMs
  }, event(actor, 'revoking', { reason, accessKeyId: grant.accessKeyId }))
}

/** Tears down what a `revoking` grant has at the provider. Never rejects for the provider's sake: it notes and backs off. */
export const finish = async (desk: Desk, actor: Actor, grant: Grant): Promise<Grant> => {
  if (grant.state !== 'revoking' || !grant.ending) return grant
  const endsAt = grant.attach === 'session' ? sessionEnd(grant) : Infinity
  // Nothing was made, or it has ended by itself.
  if (grant.mintedAt === null || desk.now() >= endsAt) return closed(desk, actor, grant)
  // Without a recorded key there may be one that a crash hid: enumerate.
  const keyIds = grant.accessKeyId ? [grant.accessKeyId, grant.previousKeyId].filter(id => id !== null) : null
  try {
    const target = { ref: grant.principal, carrier: grant.attach, keyIds, mintedAt: grant.mintedAt }
    const result = await desk.principals(grant.attach).teardown(target, desk.deadline())
    switch (result) {
      case 'gone': return await closed(desk, actor, grant)
      case 'unsure': return await postponed(desk, actor, grant, 'unsure', {}, freed(grant))
      case 'irrevocable':
        return await commit(desk, grant, { dueAt: endsAt, claimedUntil: null, ...freed(grant) }, event(actor, 'irrevocable'))
    }
  } catch (error) {
    if (!isIamError(error)) throw error
    desk.log.warn({ grantId: grant.id, attempts: grant.attempts + 1, err: error }, 'teardown failed; trying again later')
    return postponed(desk, actor, grant, 'attempt-failed', { operation: error.operation, kind: error.kind, code: error.providerCode })
  }
}

/**
 * Whose idempotency key is free once the provider knows nothing of the grant any more: the job's own, for the job's next run,
 * and that of a failed issue. Not before: a job has one user. Another explicit key stays taken, so that a late retry makes none.
 */
export const freesKey = ({ state, ending, idempotencyKey }: Grant): boolean =>
  ending === 'failed' || state === 'pending' || idempotencyKey?.startsWith('job:') === true

const freed = (grant: Grant): { idempotencyKey?: null } => freesKey(grant) ? { idempotencyKey: null } : {}

const closed = (desk: Desk, actor: Actor, grant: Grant): Promise<Grant> =>
  commit(desk, grant, { state: grant.ending ?? 'revoked', dueAt: null, claimedUntil: null, attempts: 0, ...freed(grant) },
    event(actor, grant.ending ?? 'revoked', { accessKeyId: grant.accessKeyId }))

export const postponed = (
  desk: Desk, actor: Actor, grant: Grant, action: string, detail: Record<string, string>, change: GrantChange = {}
): Promise<Grant> =>
  commit(desk, grant, { ...change, attempts: grant.attempts + 1, dueAt: desk.now() + backoffMs(grant.attempts), claimedUntil: null },
    event(actor, action, { ...detail, attempt: grant.attempts + 1 }))

const firstBackoffMs = 5_000
const longestBackoffMs = 5 * 60_000

/** Per grant: 5 s, 10 s, 20 s … at most 5 min, for a job's key may be alive. */
export const backoffMs = (attempts: number): number => Math.min(longestBackoffMs, firstBackoffMs * 2 ** Math.min(attempts, 10))
