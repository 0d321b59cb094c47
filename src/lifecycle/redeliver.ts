import type { Grant } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { isIamError } from '../iam/errors.ts'
import type { Credentials } from '../iam/provisioner.ts'
import type { Proven } from '../policy/prove/prove.ts'
import { ProblemError } from '../problems.ts'
import { proveStored } from './access.ts'
import { accessOf, assertLease, commit, dueAfter, event, release, stateWord, type Wanted } from './lease.ts'
import { compensate } from './compensate.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { dying, withLate } from './dying-keys.ts'
import { iamProblem } from './iam-problem.ts'
import { abandon, activate, nothingMade, planOf, provision, pruneAllKeys, type Delivery } from './provision.ts'
import { afterSession, beforeSession } from './session.ts'

/** A fresh key for a grant that an earlier operation made, or started to make. Its stored policy is proven again. */

/** What the start that asks for the key changes of the grant. */
export interface Restart {
  /** null: a key that was replaced without one. */
  attempt?: string | null
  /** Another window or source, authorised and proven. */
  access?: Wanted & { policy: Proven<PolicyDocument> }
}

/** Gives a claimed grant a fresh key. While it is pending, e.g. since the process that made it died, it makes the principal, too. */
export const resume = async (deps: GrantDeps, actor: Actor, grant: Grant, restart: Restart = {}, withKey = true): Promise<Delivery> => {
  // A worker whose job was extended may get that window only now.
  if (deps.now() < (restart.access?.expiresAt ?? grant.expiresAt)) {
    if (grant.state === 'active') return rekey(deps, actor, grant, restart)
    if (grant.state === 'pending') return provisionStored(deps, actor, grant, restart, { withKey, resumed: grant.mintedAt !== null })
  }
  await release(deps, grant)
  throw ended(grant)
}

const provisionStored = async (
  deps: GrantDeps, actor: Actor, grant: Grant, { access, attempt }: Restart, options: { withKey: boolean, resumed: boolean }
): Promise<Delivery> => {
  // Commit the intent before the call: a scheduled grant gets its principal later than its first commit.
  const started = await commit(deps, grant, {
    ...access,
    ...(attempt !== undefined && { attempt }),
    ...(options.withKey && beforeSession(deps, { ...grant, ...access })),
    mintedAt: deps.now(),
    dueAt: deps.now() + deps.leaseMs
  }, event(actor, 'minting', {}, access?.policyHash ?? grant.policyHash))
  const policy = access?.policy ?? await provenOrAbandoned(deps, actor, started, options.resumed)
  const provisioned = await provision(deps, actor, started, policy, options)
  return { grant: await activate(deps, actor, started, provisioned, options), credentials: provisioned.credentials }
}

const provenOrAbandoned = async (deps: GrantDeps, actor: Actor, grant: Grant, resumed: boolean) => {
  try {
    return await proveStored(deps, actor, grant)
  } catch (cause) {
    await abandon(deps, actor, grant, cause, !resumed)
    throw cause
  }
}

/** A fresh key for a live, claimed grant; every other key of it is deleted first. */
export const rekey = async (
  deps: GrantDeps, actor: Actor, grant: Grant, { access, attempt }: Restart = {}
): Promise<Delivery & { credentials: Credentials }> => {
  const provisioner = deps.provisioners[grant.attach]
  // A session has no key that could be deleted, and leaves none behind.
  const held = grant.attach === 'session' ? [] : [grant.accessKeyId, grant.previousKeyId].filter(id => id !== null)
  const toDie = [...grant.dyingKeys, ...dying(held, deps.now())]
  // From here on every key of the grant is to die: if the process dies, the sweeper deletes these, and every other that it finds.
  const rekeying = await commit(deps, grant, {
    ...access,
    ...(attempt !== undefined && { attempt }),
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    ...beforeSession(deps, { ...grant, ...access }),
    dyingKeys: grant.attach === 'session' ? [] : withLate(toDie, null, deps.now()),
    dueAt: deps.now() + deps.leaseMs
  }, event(actor, 'rekeying', { undelivered: grant.accessKeyId, ...(attempt !== undefined && { attempt }) }, access?.policyHash ?? null))
  let { principal } = rekeying
  let credentials: Credentials | null = null
  try {
    const policy = access?.policy ?? await proveStored(deps, actor, rekeying)
    const until = assertLease(deps, rekeying)
    // A principal that somebody deleted is made again, since the grant has not ended. The age of the grant starts anew with it.
    const mintedAt = deps.now()
    const left = await pruneAllKeys(deps, { ...rekeying, dyingKeys: toDie }, until)
    // A session gets its policy with the key.
    if (left && access && grant.attach !== 'session') {
      principal = await provisioner.replacePolicy(principal, grant.attach, access.policy, until)
    }
    const plan = planOf({ ...rekeying, principal }, policy)
    const made = left
      ? { ref: principal, ...await provisioner.mintKey(plan, [], until) }
      : await provisioner.create(plan, until)
    principal = made.ref
    credentials = made.credentials
    if (!credentials) throw new ProblemError('internal')
    const dyingKeys = [...left ?? toDie, ...(made.lost ? dying([null], deps.now()) : [])]
    const active = await commit(deps, rekeying, {
      accessKeyId: credentials.accessKeyId,
      principal,
      deliveredAt: deps.now(),
      ...afterSession({ ...grant, ...access }, credentials),
      ...(!left && { mintedAt }),
      dyingKeys,
      dueAt: dueAfter(grant, { ...rekeying, dyingKeys }),
      claimedUntil: null
    }, event(actor, 'delivered', {
      accessKeyId: credentials.accessKeyId, ...(rekeying.attempt !== null && { attempt: rekeying.attempt })
    }, access?.policyHash ?? null))
    return { grant: active, credentials }
  } catch (cause) {
    const back = {
      ...accessOf(grant),
      principal,
      attempt: grant.attempt,
      accessKeyId: null,
      deliveredAt: grant.deliveredAt,
      ...(nothingMade(cause) && { sessionsEndAt: grant.sessionsEndAt })
    }
    await compensate(deps, actor, rekeying, { made: credentials?.accessKeyId ?? null, keep: [], back, action: 'rekey-failed' })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

export const ended = (grant: Grant): ProblemError => new ProblemError('grant-state', {
  detail: `Grant ${grant.id} has ended (${stateWord(grant)}).`,
  hint: 'Send a new Idempotency-Key for a new grant.'
})
