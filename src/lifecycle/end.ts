import { isIamError } from '../iam/errors.ts'
import type { Ending, Grant } from '../ledger/grant.ts'
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
    dueAt: desk.now() + desk.leaseMs,
    // The job's own key is free for the job's next run; an explicit one stays taken, so that a late retry makes no second user.
    ...((grant.idempotencyKey?.startsWith('job:') || ending === 'failed') && { idempotencyKey: null })
  }, event(actor, 'revoking', { reason, accessKeyId: grant.accessKeyId }))
}

/** Tears down what a `revoking` grant has at the provider. Never rejects for the provider's sake: it notes and backs off. */
export const finish = async (desk: Desk, actor: Actor, grant: Grant): Promise<Grant> => {
  if (grant.state !== 'revoking' || !grant.ending) return grant
  if (grant.mintedAt === null) return closed(desk, actor, grant)
  // Without a recorded key there may be one that a crash hid: enumerate.
  const keyIds = grant.accessKeyId ? [grant.accessKeyId, grant.previousKeyId].filter(id => id !== null) : null
  try {
    const target = { ref: grant.principal, carrier: grant.attach, keyIds, mintedAt: grant.mintedAt }
    const result = await desk.principals(grant.attach).teardown(target, desk.deadline())
    switch (result) {
      case 'gone': return await closed(desk, actor, grant)
      case 'unsure': return await postponed(desk, actor, grant, 'unsure', {})
      case 'irrevocable':
        // It ends by itself with its window.
        if (desk.now() >= grant.expiresAt) return await closed(desk, actor, grant)
        return await commit(desk, grant, { dueAt: grant.expiresAt, claimedUntil: null }, event(actor, 'irrevocable'))
    }
  } catch (error) {
    if (!isIamError(error)) throw error
    desk.log.warn({ grantId: grant.id, attempts: grant.attempts + 1, err: error }, 'teardown failed; trying again later')
    return postponed(desk, actor, grant, 'attempt-failed', { operation: error.operation, kind: error.kind, code: error.providerCode })
  }
}

const closed = (desk: Desk, actor: Actor, grant: Grant): Promise<Grant> =>
  commit(desk, grant, { state: grant.ending ?? 'revoked', dueAt: null, claimedUntil: null, attempts: 0 },
    event(actor, grant.ending ?? 'revoked', { accessKeyId: grant.accessKeyId }))

export const postponed = (desk: Desk, actor: Actor, grant: Grant, action: string, detail: Record<string, string>): Promise<Grant> =>
  commit(desk, grant, { attempts: grant.attempts + 1, dueAt: desk.now() + backoffMs(grant.attempts), claimedUntil: null },
    event(actor, action, { ...detail, attempt: grant.attempts + 1 }))

const firstBackoffMs = 5_000
const longestBackoffMs = 5 * 60_000

/** Per grant: 5 s, 10 s, 20 s … at most 5 min, for a job's key may be alive. */
export const backoffMs = (attempts: number): number => Math.min(longestBackoffMs, firstBackoffMs * 2 ** Math.min(attempts, 10))
