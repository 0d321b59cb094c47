import { IamError, isIamError } from '../iam/errors.ts'
import type { Credentials, PrincipalProvisioner } from '../iam/provisioner.ts'
import type { Grant } from '../domain/grant.ts'
import { ProblemError } from '../problems.ts'
import { commit, dueAfter, event, planOf, release, type Actor, type GrantDeps } from './deps.ts'
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
  deps: GrantDeps, actor: Actor, grant: Grant, { withKey = true, resumed = false }: MintOptions = {}
): Promise<Minted> => {
  const principals = deps.principals(grant.attach)
  let made: Awaited<ReturnType<PrincipalProvisioner['create']>> | undefined
  let asked = resumed
  try {
    const until = fenced(deps, grant)
    if (resumed) await pruned(deps, grant, until)
    const plan = planOf(grant, withKey)
    asked = true
    made = await principals.create(plan, until)
    const accessKeyId = made.credentials?.accessKeyId ?? null
    const active = await commit(deps, grant, {
      state: 'active',
      principal: made.ref,
      accessKeyId,
      deliveredAt: withKey ? deps.now() : null,
      // A call of the operation that died may be done late: the sweeper looks once more.
      dueAt: resumed ? Math.min(deps.now() + deps.leaseMs, grant.expiresAt) : grant.expiresAt,
      claimedUntil: null,
      attempts: 0
    }, event(actor, 'active', { accessKeyId, user: made.ref.name }, grant.policyHash))
    return { grant: active, credentials: made.credentials }
  } catch (cause) {
    const left = { ...grant, principal: made?.ref ?? grant.principal, accessKeyId: made?.credentials?.accessKeyId ?? null }
    await abandon(deps, actor, left, cause, !asked || (!resumed && nothingMade(cause)))
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

/**
 * Leaves no live key behind a failed issue, and the truth in the ledger where it answers. A scheduled grant was promised
 * before: it stays pending, and is tried again while its window lasts.
 */
const abandon = async (deps: GrantDeps, actor: Actor, grant: Grant, cause: unknown, unmade: boolean): Promise<void> => {
  const reason = isIamError(cause) ? `${cause.operation}: ${cause.kind}` : 'ledger'
  const promised = grant.issueAt !== null
  deps.log.warn({ grantId: grant.id, err: cause }, promised ? 'issue failed; trying again later' : 'issue failed; tearing down')
  const what = event(actor, 'issue-failed', { reason })
  try {
    const stored = await ours(deps, grant, grant.accessKeyId)
    if (!stored) return await overtaken(deps, actor, grant, grant.accessKeyId)
    if (promised) {
      await pruneOurs(deps, grant, [])
      const dueAt = Math.min(deps.now() + backoffMs(stored.attempts), stored.expiresAt)
      await commit(deps, stored, { accessKeyId: null, deliveredAt: null, attempts: stored.attempts + 1, dueAt, claimedUntil: null }, what)
    } else if (stored.state === 'pending' && unmade) {
      await commit(deps, stored, { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null }, what)
    } else {
      const { principal, accessKeyId } = grant
      const change = { state: 'revoking', ending: 'failed', principal, accessKeyId, dueAt: deps.now() + deps.leaseMs } as const
      // The commit that failed may have ended the claim.
      await finish(deps, actor, await commit(deps, stored, { ...change, claimedUntil: deps.now() + deps.leaseMs }, what))
    }
  } catch (error) {
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it')
    if (promised) await pruneOurs(deps, grant, [])
    else await teardownBlind(deps, grant)
  }
}

const nothingMade = (cause: unknown): boolean =>
  cause instanceof IamError && cause.definite && ['CreateUser', 'AssumeRole'].includes(cause.operation)

/** What a grant that this operation holds needs for a fresh key: all of it where it is pending, e.g. since its maker died. */
export const resume = async (deps: GrantDeps, actor: Actor, grant: Grant, withKey = true): Promise<Minted> => {
  if (deps.now() < grant.expiresAt) {
    if (grant.state === 'active') return rekey(deps, actor, grant)
    if (grant.state === 'pending') {
      const what = event(actor, 'minting', {}, grant.policyHash)
      // Intent before effect, also for a grant whose principal is made later than the grant.
      const started = await commit(deps, grant, { mintedAt: grant.mintedAt ?? deps.now(), dueAt: deps.now() + deps.leaseMs }, what)
      return mint(deps, actor, started, { withKey, resumed: grant.mintedAt !== null })
    }
  }
  await release(deps, grant)
  throw ended(grant)
}

/** A fresh key for a live grant that this operation holds, every other key of it deleted first. */
export const rekey = async (deps: GrantDeps, actor: Actor, grant: Grant): Promise<{ grant: Grant, credentials: Credentials }> => {
  const principals = deps.principals(grant.attach)
  // From here on the ledger knows no key of it: should we die, the sweeper deletes whatever it finds.
  const rekeying = await commit(deps, grant, {
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    dueAt: deps.now() + deps.leaseMs
  }, event(actor, 'rekeying', { undelivered: grant.accessKeyId }))
  let credentials: Credentials | null = null
  try {
    const plan = planOf(rekeying)
    const until = fenced(deps, rekeying)
    // A principal that somebody deleted is made again: the grant still stands, and is as young as its principal.
    const mintedAt = deps.now()
    const stands = await pruned(deps, rekeying, until)
    credentials = stands
      ? await principals.mintKey(plan, [], until)
      : (await principals.create(plan, until)).credentials
    if (!credentials) throw new ProblemError('internal')
    const active = await commit(deps, rekeying, {
      accessKeyId: credentials.accessKeyId,
      deliveredAt: deps.now(),
      ...(!stands && { mintedAt }),
      dueAt: dueAfter(grant, rekeying),
      claimedUntil: null
    }, event(actor, 'delivered', { accessKeyId: credentials.accessKeyId }))
    return { grant: active, credentials }
  } catch (cause) {
    const back = { accessKeyId: null, deliveredAt: grant.deliveredAt }
    await undo(deps, actor, rekeying, { made: credentials?.accessKeyId ?? null, keep: [], back, action: 'rekey-failed' })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

/** Deletes every key of the principal. False: there is none. */
const pruned = async (deps: GrantDeps, grant: Grant, until: number): Promise<boolean> => {
  const principals = deps.principals(grant.attach)
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

export const ended = (grant: Grant): ProblemError => new ProblemError('grant-state', {
  detail: `Grant ${grant.id} has ended (${grant.state}).`,
  hint: 'Send a new Idempotency-Key for a new grant.'
})
