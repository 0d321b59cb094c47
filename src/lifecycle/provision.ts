import type { DyingKey, Grant } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { jobTag } from '../iam/names.ts'
import { IamError, isIamError } from '../iam/errors.ts'
import type { Credentials, Made, PrincipalPlan } from '../iam/provisioner.ts'
import type { Proven } from '../policy/prove/prove.ts'
import { assertLease, commit, dueOf, event, rereadAfterFailedCommit } from './lease.ts'
import { requireClock } from './clock.ts'
import { pruneWhileLeased, removeOvertaken, teardownWithoutLedger } from './compensate.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { dying, idsOf, stillDying } from './dying-keys.ts'
import { backoffMs, endBegun, finish } from './end.ts'
import { iamProblem } from './iam-problem.ts'
import { afterSession } from './session.ts'

/** The two stages that make a pending grant active: provision (IAM), then activate (ledger). When one fails, both are undone. */

interface ProvisionOptions {
  /** False: a principal without a key, for a grant whose key is fetched later. */
  withKey?: boolean
  /** An earlier operation may have made part of it. */
  resumed?: boolean
}

/** Makes principal, policy and key of a pending grant that this operation holds. */
export const provision = async (
  deps: GrantDeps, actor: Actor, grant: Grant, policy: Proven<PolicyDocument>, { withKey = true, resumed = false }: ProvisionOptions = {}
): Promise<Made> => {
  let asked = resumed
  try {
    const plan = planOf(grant, policy, withKey)
    const until = assertLease(deps, grant)
    if (resumed) await pruneAllKeys(deps, grant, until)
    asked = true
    const made = await deps.provisioners[grant.attach].create(plan, until)
    // The answers just heard may be the first that say it, and the window is of that clock.
    requireClock(deps)
    return made
  } catch (cause) {
    await abandon(deps, actor, { ...grant, accessKeyId: null }, cause, !asked || (!resumed && nothingMade(cause)))
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

export const activate = async (
  deps: GrantDeps, actor: Actor, grant: Grant, { ref, credentials, lost }: Made, { withKey = true, resumed = false }: ProvisionOptions = {}
): Promise<Grant> => {
  const accessKeyId = credentials?.accessKeyId ?? null
  // A call of the operation that died, or one whose answer was lost, may still make a key: the sweeper looks again.
  const late = (resumed || lost) && grant.attach !== 'session' ? dying([null], deps.now()) : []
  const dyingKeys = [...grant.dyingKeys, ...late]
  try {
    return await commit(deps, grant, {
      state: 'active',
      principal: ref,
      accessKeyId,
      deliveredAt: withKey ? deps.now() : null,
      // Of an attempt before this one nobody knows what came of it.
      ...(grant.attach === 'session' && afterSession(resumed ? grant : { ...grant, sessionsEndAt: null }, credentials)),
      dyingKeys,
      dueAt: dueOf({ ...grant, dyingKeys }),
      claimedUntil: null,
      attempts: 0
    }, event(actor, 'active', { accessKeyId, user: ref.name, ...(grant.attempt !== null && { attempt: grant.attempt }) }, grant.policyHash))
  } catch (cause) {
    await abandon(deps, actor, { ...grant, principal: ref, accessKeyId }, cause, false)
    throw cause
  }
}

/**
 * Ends a failed issue: no key stays, and the ledger says that it failed, if it answers. A scheduled grant was already confirmed to
 * its owner: it stays pending, and the sweeper tries again while its window lasts. Never rejects.
 *
 * @param grant with the principal and the key that were made, as far as they are known
 * @param unmade whether it is certain that the provider made nothing
 */
export const abandon = async (deps: GrantDeps, actor: Actor, grant: Grant, cause: unknown, unmade: boolean): Promise<void> => {
  const reason = isIamError(cause) ? `${cause.operation}: ${cause.kind}` : 'ledger'
  const scheduled = grant.issueAt !== null
  deps.log.warn({ grantId: grant.id, err: cause }, scheduled ? 'issue failed; trying again later' : 'issue failed; tearing down')
  const what = event(actor, 'issue-failed', { reason })
  try {
    const stored = await rereadAfterFailedCommit(deps, grant, grant.accessKeyId)
    if (!stored) return await removeOvertaken(deps, actor, grant, grant.accessKeyId)
    if (scheduled) {
      const dyingKeys = await pruneWhileLeased(deps, grant, [], grant.accessKeyId)
      const dueAt = Math.min(deps.now() + backoffMs(stored.attempts), stored.expiresAt)
      const back = { accessKeyId: null, deliveredAt: null, dyingKeys, attempts: stored.attempts + 1 }
      await commit(deps, stored, { ...back, dueAt, claimedUntil: null }, what)
    } else if (stored.state === 'pending' && unmade) {
      await commit(deps, stored, { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null }, what)
    } else {
      const { principal, accessKeyId } = grant
      // Nobody has a key of it. So with a pool the job need not wait until this account answers: its next try goes to another one.
      const free = deps.pool && { idempotencyKey: null }
      // The lease begins anew: the commit that failed may have ended it.
      await finish(deps, actor, await commit(deps, stored, { ...endBegun(deps, 'failed'), principal, accessKeyId, ...free }, what))
    }
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it')
    if (scheduled) await pruneWhileLeased(deps, grant, [], grant.accessKeyId)
    else await teardownWithoutLedger(deps, grant)
  }
}

export const nothingMade = (cause: unknown): boolean =>
  cause instanceof IamError && cause.definite && ['CreateUser', 'AssumeRole'].includes(cause.operation)

/** Deletes every key of the principal. Undefined: there is no principal, it seems. Else the keys whose death is not certain. */
export const pruneAllKeys = async (deps: GrantDeps, grant: Grant, until: number): Promise<DyingKey[] | undefined> => {
  const provisioner = deps.provisioners[grant.attach]
  try {
    const deleted = await provisioner.pruneKeys(grant.principal, { keep: [], known: idsOf(grant.dyingKeys) }, until)
    return stillDying(grant.dyingKeys, deleted, deps.now())
  } catch (error) {
    if (isIamError(error, 'gone')) return undefined
    // See teardown(): "denied" may be a missing user.
    if (isIamError(error, 'denied') && !(await provisioner.exists(grant.principal, until))) return undefined
    throw error
  }
}

/**
 * Labels are words of the caller. Below a prefix of their own, none of them is a tag that a bucket policy trusts, such as
 * aws:PrincipalTag/team.
 */
const labelTagPrefix = 'job-label:'

/** What the provider needs to know of a grant. It takes a proven policy and nothing else. */
export const planOf = (grant: Grant, policy: Proven<PolicyDocument>, withKey = true): PrincipalPlan => {
  const { job } = grant.spec
  return {
    ref: grant.principal,
    attachment: grant.attach,
    policy,
    tags: {
      ...Object.fromEntries(Object.entries(job.labels).map(([name, value]) => [labelTagPrefix + name, value])),
      'job-access:grant': grant.id,
      'job-access:job': jobTag(job.id),
      'job-access:team': job.team,
      ...(grant.worker !== null && { 'job-access:worker': grant.worker }),
      'job-access:expires': new Date(grant.expiresAt).toISOString()
    },
    ...(grant.attach === 'session' && { session: { windowEnd: grant.expiresAt, profile: grant.spec.profile } }),
    withKey
  }
}

/** A grant and, if this call made a key, its credentials. Secrets leave the service only in here. */
export interface Delivery {
  grant: Grant
  credentials: Credentials | null
  /** After a rotation of a session: until when the one before it works, epoch ms. */
  previousUntil?: number
}
