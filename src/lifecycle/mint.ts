import { IamError, isIamError } from '../iam/errors.ts'
import type { Credentials, Principals } from '../iam/principal.ts'
import type { Grant } from '../ledger/grant.ts'
import { Problem } from '../problems.ts'
import { commit, dueAfter, event, planOf, release, type Actor, type Desk } from './desk.ts'
import { backoffMs, finish } from './end.ts'
import { fenced, ours, overtaken, pruneOurs, teardownBlind, undo } from './fence.ts'
import { iamProblem } from './iam-problem.ts'

export interface Minted { grant: Grant, credentials: Credentials | null }

export interface MintOptions {
  /** False: a principal without a key, for a grant whose key is fetched later. */
  withKey?: boolean
  /** An operation before may have made part of it. */
  resumed?: boolean
}

/** Makes principal, policy and key of a pending grant that this operation holds. */
export const mint = async (
  desk: Desk, actor: Actor, grant: Grant, { withKey = true, resumed = false }: MintOptions = {}
): Promise<Minted> => {
  const principals = desk.principals(grant.attach)
  let made: Awaited<ReturnType<Principals['create']>> | undefined
  let asked = resumed
  try {
    const until = fenced(desk, grant)
    if (resumed) await pruned(desk, grant, until)
    const plan = planOf(grant, withKey)
    asked = true
    made = await principals.create(plan, until)
    const accessKeyId = made.credentials?.accessKeyId ?? null
    const active = await commit(desk, grant, {
      state: 'active',
      principal: made.ref,
      accessKeyId,
      deliveredAt: withKey ? desk.now() : null,
      // A call of the operation that died may be done late: the sweeper looks once more.
      dueAt: resumed ? Math.min(desk.now() + desk.leaseMs, grant.expiresAt) : grant.expiresAt,
      claimedUntil: null,
      attempts: 0
    }, event(actor, 'active', { accessKeyId, user: made.ref.name }, grant.policyHash))
    return { grant: active, credentials: made.credentials }
  } catch (cause) {
    const left = { ...grant, principal: made?.ref ?? grant.principal, accessKeyId: made?.credentials?.accessKeyId ?? null }
    await abandon(desk, actor, left, cause, !asked || (!resumed && nothingMade(cause)))
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

/**
 * Leaves no live key behind a failed issue, and the truth in the ledger where it answers. A scheduled grant was promised
 * before: it stays pending, and is tried again while its window lasts.
 */
const abandon = async (desk: Desk, actor: Actor, grant: Grant, cause: unknown, unmade: boolean): Promise<void> => {
  const reason = isIamError(cause) ? `${cause.operation}: ${cause.kind}` : 'ledger'
  const promised = grant.issueAt !== null
  desk.log.warn({ grantId: grant.id, err: cause }, promised ? 'issue failed; trying again later' : 'issue failed; tearing down')
  const what = event(actor, 'issue-failed', { reason })
  try {
    const stored = await ours(desk, grant, grant.accessKeyId)
    if (!stored) return await overtaken(desk, actor, grant, grant.accessKeyId)
    if (promised) {
      await pruneOurs(desk, grant, [])
      const dueAt = Math.min(desk.now() + backoffMs(stored.attempts), stored.expiresAt)
      await commit(desk, stored, { accessKeyId: null, deliveredAt: null, attempts: stored.attempts + 1, dueAt, claimedUntil: null }, what)
    } else if (stored.state === 'pending' && unmade) {
      await commit(desk, stored, { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null }, what)
    } else {
      const { principal, accessKeyId } = grant
      const change = { state: 'revoking', ending: 'failed', principal, accessKeyId, dueAt: desk.now() + desk.leaseMs } as const
      // The commit that failed may have ended the claim.
      await finish(desk, actor, await commit(desk, stored, { ...change, claimedUntil: desk.now() + desk.leaseMs }, what))
    }
  } catch (error) {
    desk.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it')
    if (promised) await pruneOurs(desk, grant, [])
    else await teardownBlind(desk, grant)
  }
}

const nothingMade = (cause: unknown): boolean =>
  cause instanceof IamError && cause.definite && ['CreateUser', 'AssumeRole'].includes(cause.operation)

/** What a grant that this operation holds needs for a fresh key: all of it where it is pending, e.g. since its maker died. */
export const resume = async (desk: Desk, actor: Actor, grant: Grant, withKey = true): Promise<Minted> => {
  if (desk.now() < grant.expiresAt) {
    if (grant.state === 'active') return rekey(desk, actor, grant)
    if (grant.state === 'pending') {
      const what = event(actor, 'minting', {}, grant.policyHash)
      // Intent before effect, also for a grant whose principal is made later than the grant.
      const started = await commit(desk, grant, { mintedAt: grant.mintedAt ?? desk.now(), dueAt: desk.now() + desk.leaseMs }, what)
      return mint(desk, actor, started, { withKey, resumed: grant.mintedAt !== null })
    }
  }
  await release(desk, grant)
  throw ended(grant)
}

/** A fresh key for a live grant that this operation holds, every other key of it deleted first. */
export const rekey = async (desk: Desk, actor: Actor, grant: Grant): Promise<{ grant: Grant, credentials: Credentials }> => {
  const principals = desk.principals(grant.attach)
  // From here on the ledger knows no key of it: should we die, the sweeper deletes whatever it finds.
  const rekeying = await commit(desk, grant, {
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    dueAt: desk.now() + desk.leaseMs
  }, event(actor, 'rekeying', { undelivered: grant.accessKeyId }))
  let credentials: Credentials | null = null
  try {
    const plan = planOf(rekeying)
    const until = fenced(desk, rekeying)
    // A principal that somebody deleted is made again: the grant still stands, and is as young as its principal.
    const mintedAt = desk.now()
    const stands = await pruned(desk, rekeying, until)
    credentials = stands
      ? await principals.mintKey(plan, [], until)
      : (await principals.create(plan, until)).credentials
    if (!credentials) throw new Problem('internal')
    const active = await commit(desk, rekeying, {
      accessKeyId: credentials.accessKeyId,
      deliveredAt: desk.now(),
      ...(!stands && { mintedAt }),
      dueAt: dueAfter(grant, rekeying),
      claimedUntil: null
    }, event(actor, 'delivered', { accessKeyId: credentials.accessKeyId }))
    return { grant: active, credentials }
  } catch (cause) {
    const back = { accessKeyId: null, deliveredAt: grant.deliveredAt }
    await undo(desk, actor, rekeying, { made: credentials?.accessKeyId ?? null, keep: [], back, action: 'rekey-failed' })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

/** Deletes every key of the principal. False: there is none. */
const pruned = async (desk: Desk, grant: Grant, until: number): Promise<boolean> => {
  const principals = desk.principals(grant.attach)
  try {
    await principals.pruneKeys(grant.principal, [], until)
    return true
  } catch (error) {
    if (isIamError(error, 'gone')) return false
    // See teardown(): "denied" may be a missing user.
    if (isIamError(error, 'denied') && !(await principals.exists(grant.principal, until))) return false
    throw error
  }
}

export const ended = (grant: Grant): Problem => new Problem('grant-state', {
  detail: `Grant ${grant.id} has ended (${grant.state}).`,
  hint: 'Send a new Idempotency-Key for a new grant.'
})
