import { isIamError } from '../iam/errors.ts'
import type { Grant } from '../ledger/grant.ts'
import { Problem } from '../problems.ts'
import { commit, dueOf, event, found, held, letGo, planOf, release, type Actor, type Desk } from './desk.ts'
import { issueProblem, rekey, resume, type Delivery } from './issue.ts'

/**
 * A fresh key; the old one dies after `overlapSeconds` (0: before the answer). A user holds two keys at the most, so an old
 * key whose overlap still runs is deleted first.
 */
export const rotate = async (desk: Desk, actor: Actor, id: string, overlapSeconds: number): Promise<Delivery> => {
  await found(desk, id)
  const grant = await heldActive(desk, id)
  if (grant.attach === 'session') {
    // There is no key to exchange: a new session is the rotation, and the old one lasts, or is revoked, with the grant.
    return { ...await rekey(desk, actor, grant), created: false }
  }
  const principals = desk.principals(grant.attach)
  const until = desk.deadline()
  // Should we die from here on, the sweeper deletes every key that the ledger does not know.
  const rotating = await commit(desk, grant, { dueAt: desk.now() + desk.leaseMs }, event(actor, 'rotating', { accessKeyId: grant.accessKeyId }))
  try {
    const keep = rotating.accessKeyId ? [rotating.accessKeyId] : []
    if (rotating.previousKeyId) await principals.deleteKey(rotating.principal, rotating.previousKeyId, keep, until)
    const credentials = await principals.mintKey(planOf(rotating), keep, until)
    const diesAt = Math.min(desk.now() + overlapSeconds * 1000, grant.expiresAt)
    const rotated = await commit(desk, rotating, {
      accessKeyId: credentials.accessKeyId,
      previousKeyId: rotating.accessKeyId,
      previousKeyDiesAt: rotating.accessKeyId ? diesAt : null,
      deliveredAt: desk.now(),
      dueAt: dueOf({ expiresAt: grant.expiresAt, previousKeyDiesAt: rotating.accessKeyId ? diesAt : null }),
      claimedUntil: overlapSeconds === 0 ? rotating.claimedUntil : null
    }, event(actor, 'rotated', { accessKeyId: credentials.accessKeyId, previousKeyId: rotating.accessKeyId, overlapSeconds }))
    return { grant: await dropDue(desk, actor, rotated), credentials, created: false }
  } catch (cause) {
    await principals.pruneKeys(rotating.principal, rotating.accessKeyId ? [rotating.accessKeyId] : [], desk.deadline())
      .catch(error => desk.log.error({ grantId: id, err: error }, 'prune failed; left to the sweeper'))
    await letGo(desk, actor, rotating, 'rotate-failed')
    throw isIamError(cause) ? issueProblem(cause) : new Problem('ledger-unavailable', { retryAfterSeconds: 5, cause })
  }
}

/** Overlap 0: the old key dies before the answer. The new one is committed, so nothing that fails from here on takes it back. */
const dropDue = async (desk: Desk, actor: Actor, rotated: Grant): Promise<Grant> => {
  if (rotated.previousKeyDiesAt === null || rotated.previousKeyDiesAt > desk.now()) return rotated
  try {
    return await dropPrevious(desk, actor, rotated)
  } catch (error) {
    desk.log.error({ grantId: rotated.id, err: error }, 'the old key was not deleted; left to the sweeper')
    return rotated
  }
}

/** Deletes the key that a rotation replaced. When the provider does not answer the sweeper goes on; the new key stands. */
export const dropPrevious = async (desk: Desk, actor: Actor, grant: Grant): Promise<Grant> => {
  if (!grant.previousKeyId) return grant
  try {
    const keep = grant.accessKeyId ? [grant.accessKeyId] : []
    await desk.principals(grant.attach).deleteKey(grant.principal, grant.previousKeyId, keep, desk.deadline())
  } catch (error) {
    if (!isIamError(error)) throw error
    return commit(desk, grant, { claimedUntil: null, dueAt: desk.now() + 5_000, attempts: grant.attempts + 1 },
      event(actor, 'attempt-failed', { operation: error.operation, kind: error.kind }))
  }
  return commit(desk, grant, {
    previousKeyId: null,
    previousKeyDiesAt: null,
    dueAt: grant.expiresAt,
    claimedUntil: null,
    attempts: 0
  }, event(actor, 'previous-key-deleted', { accessKeyId: grant.previousKeyId }))
}

/** The credentials of a scheduled grant, once. */
export const fetchCredentials = async (desk: Desk, actor: Actor, id: string): Promise<Delivery> => {
  const grant = await found(desk, id)
  if (grant.state === 'pending' && grant.issueAt !== null && desk.now() < grant.issueAt) {
    throw new Problem('grant-state', {
      detail: `The key is minted from ${new Date(grant.issueAt).toISOString()} on.`,
      hint: 'Come back after Retry-After.',
      retryAfterSeconds: Math.ceil((grant.issueAt - desk.now()) / 1000)
    })
  }
  const claimed = await held(desk, id)
  if (claimed.deliveredAt !== null) {
    await release(desk, claimed)
    throw new Problem('grant-state', {
      detail: 'The credentials have been delivered; the service does not keep them.',
      hint: 'Ask for fresh ones with POST /v1/grants/:id/rotate.'
    })
  }
  return { ...await resume(desk, actor, claimed), created: false }
}

/** Takes an active grant whose window is not over. */
export const heldActive = async (desk: Desk, id: string): Promise<Grant> => {
  const grant = await held(desk, id)
  if (grant.state === 'active' && desk.now() < grant.expiresAt) return grant
  await release(desk, grant)
  throw new Problem('grant-state', {
    detail: grant.state === 'active' ? 'The grant’s window is over.' : `The grant is ${grant.state}.`,
    hint: 'Only active grants can be changed; ask for a new one with POST /v1/grants.'
  })
}
