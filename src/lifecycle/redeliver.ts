import type { Grant } from '../domain/grant.ts'
import { isIamError } from '../iam/errors.ts'
import type { Credentials } from '../iam/provisioner.ts'
import { ProblemError } from '../problems.ts'
import { proveStored } from './access.ts'
import { assertLease, commit, dueAfter, event, release } from './lease.ts'
import { compensate } from './compensate.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { dying, withLate } from './dying-keys.ts'
import { iamProblem } from './iam-problem.ts'
import { abandon, activate, planOf, provision, pruneAllKeys, type Delivery } from './provision.ts'

/** A fresh key for a grant that an earlier operation made, or started to make. Its stored policy is proven again. */

/** Gives a claimed grant a fresh key. While it is pending, e.g. since the process that made it died, it makes the principal, too. */
export const resume = async (deps: GrantDeps, actor: Actor, grant: Grant, withKey = true): Promise<Delivery> => {
  if (deps.now() < grant.expiresAt) {
    if (grant.state === 'active') return rekey(deps, actor, grant)
    if (grant.state === 'pending') return provisionStored(deps, actor, grant, { withKey, resumed: grant.mintedAt !== null })
  }
  await release(deps, grant)
  throw ended(grant)
}

const provisionStored = async (
  deps: GrantDeps, actor: Actor, grant: Grant, options: { withKey: boolean, resumed: boolean }
): Promise<Delivery> => {
  // Commit the intent before the call: a scheduled grant gets its principal later than its first commit.
  const started = await commit(deps, grant, { mintedAt: deps.now(), dueAt: deps.now() + deps.leaseMs },
    event(actor, 'minting', {}, grant.policyHash))
  const policy = await provenOrAbandoned(deps, actor, started, options.resumed)
  const provisioned = await provision(deps, actor, started, policy, options)
  return { grant: await activate(deps, actor, started, provisioned, options), credentials: provisioned.credentials }
}

const provenOrAbandoned = async (deps: GrantDeps, actor: Actor, grant: Grant, resumed: boolean) => {
  try {
    return proveStored(grant)
  } catch (cause) {
    await abandon(deps, actor, grant, cause, !resumed)
    throw cause
  }
}

/** A fresh key for a live, claimed grant; every other key of it is deleted first. */
export const rekey = async (deps: GrantDeps, actor: Actor, grant: Grant): Promise<Delivery & { credentials: Credentials }> => {
  const provisioner = deps.provisioners[grant.attach]
  // A session has no key that could be deleted, and leaves none behind.
  const held = grant.attach === 'session' ? [] : [grant.accessKeyId, grant.previousKeyId].filter(id => id !== null)
  const toDie = [...grant.dyingKeys, ...dying(held, deps.now())]
  // From here on every key of the grant is to die: if the process dies, the sweeper deletes these, and every other that it finds.
  const rekeying = await commit(deps, grant, {
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    dyingKeys: grant.attach === 'session' ? [] : withLate(toDie, null, deps.now()),
    dueAt: deps.now() + deps.leaseMs
  }, event(actor, 'rekeying', { undelivered: grant.accessKeyId }))
  let credentials: Credentials | null = null
  try {
    const plan = planOf(rekeying, proveStored(rekeying))
    const until = assertLease(deps, rekeying)
    // A principal that somebody deleted is made again, since the grant has not ended. The age of the grant starts anew with it.
    const mintedAt = deps.now()
    const left = await pruneAllKeys(deps, { ...rekeying, dyingKeys: toDie }, until)
    const made = left ? await provisioner.mintKey(plan, [], until) : await provisioner.create(plan, until)
    credentials = made.credentials
    if (!credentials) throw new ProblemError('internal')
    const dyingKeys = [...left ?? toDie, ...(made.lost ? dying([null], deps.now()) : [])]
    const active = await commit(deps, rekeying, {
      accessKeyId: credentials.accessKeyId,
      deliveredAt: deps.now(),
      ...(!left && { mintedAt }),
      dyingKeys,
      dueAt: dueAfter(grant, { ...rekeying, dyingKeys }),
      claimedUntil: null
    }, event(actor, 'delivered', { accessKeyId: credentials.accessKeyId }))
    return { grant: active, credentials }
  } catch (cause) {
    const back = { accessKeyId: null, deliveredAt: grant.deliveredAt }
    await compensate(deps, actor, rekeying, { made: credentials?.accessKeyId ?? null, keep: [], back, action: 'rekey-failed' })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

export const ended = (grant: Grant): ProblemError => new ProblemError('grant-state', {
  detail: `Grant ${grant.id} has ended (${grant.state}).`,
  hint: 'Send a new Idempotency-Key for a new grant.'
})
