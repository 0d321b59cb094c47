import { isIamError } from '../iam/errors.ts'
import type { Credentials } from '../iam/provisioner.ts'
import { sessionEnd } from '../iam/role-profile.ts'
import type { DyingKey, Grant } from '../domain/grant.ts'
import { ProblemError } from '../problems.ts'
import { proveStored } from './access.ts'
import { authoriseOnGrant } from './authorise.ts'
import { assertLease, claimActive, claimLive, commit, dueAfter, dueOf, event, release } from './lease.ts'
import { requireClock } from './clock.ts'
import { compensate } from './compensate.ts'
import type { Actor, Caller, GrantDeps } from './deps.ts'
import { dying, withLate } from './dying-keys.ts'
import { iamProblem } from './iam-problem.ts'
import { planOf, type Delivery } from './provision.ts'
import { rekey, resume } from './redeliver.ts'

/**
 * Makes a fresh key. The old one is deleted after `overlapSeconds`; with 0, before the answer. A user has two keys at the most, so
 * a key from an earlier rotation whose overlap still runs is deleted first.
 */
export const rotate = async (deps: GrantDeps, actor: Caller, id: string, overlapSeconds: number): Promise<Delivery> => {
  requireClock(deps)
  const grant = await claimActive(deps, await holderOfKey(deps, await authoriseOnGrant(deps, actor, id, 'rotate')))
  if (grant.attach === 'session') {
    // A session has no key to replace: the rotation is a new session. The old one works until its end, or until the grant is revoked.
    return { ...await rekey(deps, actor, grant), previousUntil: sessionEnd(grant) }
  }
  const provisioner = deps.provisioners[grant.attach]
  const { accessKeyId, previousKeyId, deliveredAt, expiresAt } = grant
  // The key before makes room. If the process dies from here on, the sweeper deletes it, and every key that the ledger does not know.
  const toDie = [...grant.dyingKeys, ...dying(previousKeyId ? [previousKeyId] : [], deps.now())]
  const rotating = await commit(deps, grant, {
    previousKeyId: null, previousKeyDiesAt: null, dyingKeys: withLate(toDie, null, deps.now()), dueAt: deps.now() + deps.leaseMs
  }, event(actor, 'rotating', { accessKeyId }))
  let credentials: Credentials | undefined
  let dyingKeys: DyingKey[]
  let rotated: Grant
  try {
    const policy = await proveStored(deps, actor, rotating)
    const until = assertLease(deps, rotating)
    const keep = accessKeyId ? [accessKeyId] : []
    const isDead = !previousKeyId || await provisioner.deleteKey(rotating.principal, previousKeyId, keep, until)
    const minted = await provisioner.mintKey(planOf(rotating, policy), keep, until)
    credentials = minted.credentials
    dyingKeys = [...(isDead ? grant.dyingKeys : toDie), ...dying(minted.lost ? [null] : [], deps.now())]
    const diesAt = accessKeyId ? Math.min(deps.now() + overlapSeconds * 1000, expiresAt) : null
    rotated = await commit(deps, rotating, {
      accessKeyId: credentials.accessKeyId,
      previousKeyId: accessKeyId,
      previousKeyDiesAt: diesAt,
      dyingKeys,
      deliveredAt: deps.now(),
      dueAt: dueAfter(grant, { expiresAt, previousKeyDiesAt: diesAt, dyingKeys }),
      claimedUntil: overlapSeconds === 0 ? rotating.claimedUntil : null
    }, event(actor, 'rotated', { accessKeyId: credentials.accessKeyId, previousKeyId: accessKeyId, overlapSeconds }))
  } catch (cause) {
    const keep = accessKeyId ? [accessKeyId] : []
    const back = { accessKeyId, previousKeyId: null, previousKeyDiesAt: null, deliveredAt }
    await compensate(deps, actor, rotating, { made: credentials?.accessKeyId ?? null, keep, back, action: 'rotate-failed' })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
  const dueAt = dueAfter(grant, { expiresAt, previousKeyDiesAt: null, dyingKeys })
  return { grant: overlapSeconds === 0 ? await dropDue(deps, actor, rotated, dueAt) : rotated, credentials }
}

/** @throws ProblemError `grant-state` for a job whose workers have the keys, and for a worker of a job that has ended */
const holderOfKey = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  const job = grant.parentId === null ? undefined : await deps.ledger.get(grant.parentId)
  if (job && job.state !== 'active') {
    throw new ProblemError('grant-state', {
      detail: 'The job of this worker has ended.', hint: 'Ask for a new grant with POST /v1/grants.'
    })
  }
  if (grant.maxWorkers === null) return grant
  throw new ProblemError('grant-state', {
    detail: 'This is a job of workers: it has no key of its own.',
    hint: 'Join it with POST /v1/grants/:id/workers; GET on that path lists the workers and their grants.'
  })
}

/** Overlap 0: deletes the old key before the answer. The new key is committed, so a failure here does not undo the rotation. */
const dropDue = async (deps: GrantDeps, actor: Actor, rotated: Grant, dueAt: number): Promise<Grant> => {
  try {
    return await dropPrevious(deps, actor, rotated, dueAt)
  } catch (error) {
    deps.log.error({ grantId: rotated.id, err: error }, 'the old key was not deleted; left to the sweeper')
    return rotated
  }
}

/**
 * Deletes the key that a rotation replaced, and releases the grant. When the provider does not answer, the sweeper continues, and
 * the new key stays.
 *
 * @param dueAt when the sweeper must look at the grant next
 */
export const dropPrevious = async (deps: GrantDeps, actor: Actor, grant: Grant, dueAt: number): Promise<Grant> => {
  if (!grant.previousKeyId) {
    return commit(deps, grant, { dueAt, claimedUntil: null }, event(actor, 'released'))
  }
  try {
    const keep = grant.accessKeyId ? [grant.accessKeyId] : []
    if (!await deps.provisioners[grant.attach].deleteKey(grant.principal, grant.previousKeyId, keep, assertLease(deps, grant))) {
      const dyingKeys = [...grant.dyingKeys, ...dying([grant.previousKeyId], deps.now())]
      // The grant still names it, with the time of the next try.
      const later = { dyingKeys, previousKeyDiesAt: dyingKeys.at(-1)?.askAt ?? null }
      return await commit(deps, grant, { ...later, dueAt: dueOf({ ...grant, ...later }), claimedUntil: null },
        event(actor, 'unsure', { accessKeyId: grant.previousKeyId }))
    }
  } catch (error) {
    if (!isIamError(error)) throw error
    return commit(deps, grant, { claimedUntil: null, dueAt: deps.now() + 5_000, attempts: grant.attempts + 1 },
      event(actor, 'attempt-failed', { operation: error.operation, kind: error.kind }))
  }
  return commit(deps, grant, {
    previousKeyId: null,
    previousKeyDiesAt: null,
    dueAt,
    claimedUntil: null,
    attempts: 0
  }, event(actor, 'previous-key-deleted', { accessKeyId: grant.previousKeyId }))
}

/** The credentials of a scheduled grant, once. */
export const fetchCredentials = async (deps: GrantDeps, actor: Caller, id: string): Promise<Delivery> => {
  requireClock(deps)
  const grant = await holderOfKey(deps, await authoriseOnGrant(deps, actor, id, 'collect'))
  if (grant.state === 'pending' && grant.issueAt !== null && deps.now() < grant.issueAt) {
    throw new ProblemError('grant-state', {
      detail: `The key is minted from ${new Date(grant.issueAt).toISOString()} on.`,
      hint: 'Come back after Retry-After.',
      retryAfterSeconds: Math.ceil((grant.issueAt - deps.now()) / 1000)
    })
  }
  const claimed = await claimLive(deps, grant)
  if (claimed.deliveredAt !== null) {
    await release(deps, claimed)
    throw new ProblemError('grant-state', {
      detail: 'The credentials have been delivered; the service does not keep them.',
      hint: 'Ask for fresh ones with POST /v1/grants/:id/rotate.'
    })
  }
  return resume(deps, actor, claimed)
}
