import { IamError, isIamError } from '../iam/errors.ts'
import { principalName, principalPath } from '../iam/names.ts'
import type { Credentials } from '../iam/principal.ts'
import type { Grant } from '../ledger/grant.ts'
import type { NewGrant } from '../ledger/ledger.ts'
import { Problem } from '../problems.ts'
import { commit, dueOf, event, held, letGo, planOf, release, type Actor, type Desk } from './desk.ts'
import { finish } from './end.ts'
import type { Prepared } from './prepare.ts'

export interface IssueInput {
  prepared: Prepared
  /** sha256 of the canonical request. */
  requestHash: string
  /** The Idempotency-Key header; absent: the job of this owner is the key. */
  idempotencyKey?: string
  /** Epoch ms; absent: now. */
  issueAt?: number
}

/** A grant and, where a key was minted by this very call, its credentials: the only place where a secret leaves. */
export interface Delivery {
  grant: Grant
  credentials: Credentials | null
  /** False: the grant was there before; this answers a retry. */
  created: boolean
}

/**
 * ledger: pending -> IAM -> ledger: active -> answer. Whatever fails in between is torn down, and the ledger says so;
 * what a crash leaves is pending, and the sweeper's.
 */
export const issue = async (desk: Desk, actor: Actor, input: IssueInput): Promise<Delivery> => {
  const intent = intentOf(desk, actor, input)
  const what = event(actor, 'pending', { attach: intent.attach, idempotency: input.idempotencyKey ? 'header' : 'job' }, intent.policyHash)
  const begun = await desk.ledger.begin(intent, what, desk.outstanding)
  switch (begun.outcome) {
    case 'limited':
      throw new Problem('too-many-grants', {
        detail: begun.limit === 'perOwner'
          ? `This identity has ${begun.outstanding} outstanding grants, its limit.`
          : `The service has ${begun.outstanding} outstanding grants, its limit.`,
        hint: 'Complete the grants of jobs that have ended.',
        retryAfterSeconds: 60
      })
    case 'existing': return again(desk, actor, begun.grant, input)
    case 'created':
      await desk.record(begun.grant, what)
      if (intent.issueAt !== null) return { grant: begun.grant, credentials: null, created: true }
      return { ...await mint(desk, actor, begun.grant), created: true }
  }
}

/** Makes principal, policy and key of a pending grant that this operation holds. */
export const mint = async (desk: Desk, actor: Actor, grant: Grant, withKey = true): Promise<{ grant: Grant, credentials: Credentials | null }> => {
  const principals = desk.principals(grant.attach)
  let made: Awaited<ReturnType<typeof principals.create>>
  try {
    made = await principals.create(planOf(grant, withKey), desk.deadline())
  } catch (cause) {
    await abandon(desk, actor, grant, cause)
    throw issueProblem(cause)
  }
  const accessKeyId = made.credentials?.accessKeyId ?? null
  try {
    const active = await commit(desk, grant, {
      state: 'active',
      principal: made.ref,
      accessKeyId,
      deliveredAt: withKey ? desk.now() : null,
      dueAt: grant.expiresAt,
      claimedUntil: null,
      attempts: 0
    }, event(actor, 'active', { accessKeyId, user: made.ref.name }, grant.policyHash))
    return { grant: active, credentials: made.credentials }
  } catch (cause) {
    await abandon(desk, actor, { ...grant, principal: made.ref, accessKeyId }, cause)
    throw new Problem('ledger-unavailable', { retryAfterSeconds: 5, cause })
  }
}

/**
 * Leaves no live key behind a failed issue, and the truth in the ledger where it answers. The ledger's row is read again:
 * the commit that failed may have been done.
 */
const abandon = async (desk: Desk, actor: Actor, grant: Grant, cause: unknown): Promise<void> => {
  const reason = isIamError(cause) ? `${cause.operation}: ${cause.kind}` : 'ledger'
  desk.log.warn({ grantId: grant.id, err: cause }, 'issue failed; tearing down')
  const what = event(actor, 'issue-failed', { reason })
  try {
    const stored = await desk.ledger.get(grant.id)
    if (!stored || stored.state === 'revoking') return
    if (nothingMade(cause) && stored.state === 'pending') {
      await commit(desk, stored, { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null }, what)
      return
    }
    const revoking = await commit(desk, stored, {
      state: 'revoking',
      ending: 'failed',
      idempotencyKey: null,
      principal: grant.principal,
      accessKeyId: grant.accessKeyId,
      dueAt: desk.now() + desk.leaseMs
    }, what)
    await finish(desk, actor, revoking)
  } catch (error) {
    desk.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it pending')
    await teardownBlind(desk, grant)
  }
}

const teardownBlind = async (desk: Desk, grant: Grant): Promise<void> => {
  try {
    const keyIds = grant.accessKeyId ? [grant.accessKeyId] : null
    const target = { ref: grant.principal, carrier: grant.attach, keyIds, mintedAt: grant.mintedAt ?? grant.createdAt }
    await desk.principals(grant.attach).teardown(target, desk.deadline())
  } catch (error) {
    desk.log.error({ grantId: grant.id, err: error }, 'teardown failed; left to the sweeper')
  }
}

const nothingMade = (cause: unknown): boolean =>
  cause instanceof IamError && cause.definite && ['CreateUser', 'AssumeRole'].includes(cause.operation)

/** A retry, or the job's second pod: never a second principal. The key that may have been lost is deleted first. */
const again = async (desk: Desk, actor: Actor, grant: Grant, input: IssueInput): Promise<Delivery> => {
  if (grant.requestHash !== input.requestHash) {
    throw new Problem('idempotency-conflict', {
      detail: `Grant ${grant.id} was issued for another request of this ${input.idempotencyKey ? 'idempotency key' : 'job'}.`,
      hint: input.idempotencyKey
        ? 'Send a new Idempotency-Key with a new request.'
        : 'Complete that grant first, change it with PATCH, or send an Idempotency-Key to hold two grants for one job.'
    })
  }
  switch (grant.state) {
    case 'pending':
      if (grant.issueAt !== null && desk.now() < grant.issueAt) return { grant, credentials: null, created: false }
      return { ...await resume(desk, actor, await heldForRetry(desk, grant.id)), created: false }
    case 'active':
      if (desk.now() >= grant.expiresAt) throw ended(grant)
      return { ...await rekey(desk, actor, await heldForRetry(desk, grant.id)), created: false }
    case 'revoking': throw busy(5)
    default: throw ended(grant)
  }
}

/** A pending grant whose maker crashed: the principal may be there, with a key whose secret is lost. */
export const resume = async (desk: Desk, actor: Actor, grant: Grant): Promise<{ grant: Grant, credentials: Credentials | null }> => {
  if (grant.state === 'active') return rekey(desk, actor, grant)
  if (grant.state !== 'pending' || desk.now() >= grant.expiresAt) {
    await release(desk, grant)
    throw ended(grant)
  }
  const started = await startMinting(desk, actor, grant)
  if (grant.mintedAt !== null) {
    try {
      await pruned(desk, started, [])
    } catch (cause) {
      await abandon(desk, actor, started, cause)
      throw issueProblem(cause)
    }
  }
  return mint(desk, actor, started)
}

/** Intent before effect, also for a grant whose principal is made later than the grant. */
export const startMinting = (desk: Desk, actor: Actor, grant: Grant): Promise<Grant> =>
  commit(desk, grant, { mintedAt: grant.mintedAt ?? desk.now(), dueAt: desk.now() + desk.leaseMs },
    event(actor, 'minting', {}, grant.policyHash))

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
  try {
    await pruned(desk, rekeying, [])
    const until = desk.deadline()
    const credentials = await principals.mintKey(planOf(rekeying), [], until)
      .catch(async cause => {
        // The principal is gone though the ledger says active: somebody deleted it. The grant still stands, so make it again.
        if (!isIamError(cause, 'gone')) throw cause
        const made = await principals.create(planOf(rekeying), until)
        if (!made.credentials) throw cause
        return made.credentials
      })
    const active = await commit(desk, rekeying, {
      accessKeyId: credentials.accessKeyId,
      deliveredAt: desk.now(),
      dueAt: dueOf(rekeying),
      claimedUntil: null
    }, event(actor, 'delivered', { accessKeyId: credentials.accessKeyId }))
    return { grant: active, credentials }
  } catch (cause) {
    // What was minted is unknown to the ledger, and dueAt is set: the sweeper's mend() deletes it. Do it now if we can.
    await pruned(desk, rekeying, []).catch(error => desk.log.error({ grantId: grant.id, err: error }, 'prune failed; left to the sweeper'))
    await letGo(desk, actor, rekeying, 'rekey-failed')
    throw isIamError(cause) ? issueProblem(cause) : new Problem('ledger-unavailable', { retryAfterSeconds: 5, cause })
  }
}

const pruned = async (desk: Desk, grant: Grant, keep: string[]): Promise<void> => {
  try {
    await desk.principals(grant.attach).pruneKeys(grant.principal, keep, desk.deadline())
  } catch (error) {
    if (!isIamError(error, 'gone')) throw error
  }
}

const heldForRetry = async (desk: Desk, id: string): Promise<Grant> => {
  try {
    return await held(desk, id)
  } catch (error) {
    throw error instanceof Problem ? busy(1) : error
  }
}

const busy = (retryAfterSeconds: number) => new Problem('idempotency-busy', { retryAfterSeconds })

const ended = (grant: Grant) => new Problem('grant-state', {
  detail: `Grant ${grant.id} has ended (${grant.state}).`,
  hint: 'Send a new Idempotency-Key for a new grant.'
})

export const issueProblem = (cause: unknown): Problem => {
  if (cause instanceof Problem) return cause
  if (!(cause instanceof IamError)) return new Problem('internal', { cause })
  if (['throttled', 'conflict', 'unavailable'].includes(cause.kind)) {
    return new Problem('iam-unavailable', { detail: `${cause.operation} did not succeed in time.`, retryAfterSeconds: 5, cause })
  }
  const hint = refusalHints[cause.kind] ?? 'See the service’s log under this request id.'
  return new Problem('iam-refused', { detail: `${cause.operation} was refused (${cause.providerCode}).`, hint, cause })
}

const refusalHints: Partial<Record<IamError['kind'], string>> = {
  denied: 'The service’s own role may not do this: compare it with the policy in docs/operating.md.',
  limit: 'A quota of the account is used up: see the users, keys and policies that it holds.',
  credentials: 'The service’s own credentials are not valid at the provider.'
}

const intentOf = (desk: Desk, actor: Actor, { prepared, requestHash, idempotencyKey, issueAt }: IssueInput): NewGrant => {
  const { admitted, policy, measure, carrier, profile } = prepared
  const now = desk.now()
  const id = desk.newId()
  const expiresAt = Date.parse(admitted.window.outputNotAfter)
  const later = issueAt !== undefined && issueAt > now
  return {
    id,
    ending: null,
    owner: actor.id,
    team: admitted.job.team,
    jobId: admitted.job.id,
    idempotencyKey: idempotencyKey ? `key:${idempotencyKey}` : `job:${admitted.job.team}/${admitted.job.id}`,
    requestHash,
    admitted,
    policy,
    policyHash: measure.sha256,
    attach: carrier,
    principal: {
      name: principalName(desk.naming.userPrefix, admitted.job.id, expiresAt, id),
      path: desk.naming.pathBase === null ? '/' : principalPath(desk.naming.pathBase, expiresAt),
      policyArn: null,
      roleArn: profile?.roleArn ?? null
    },
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    issueAt: later ? issueAt : null,
    mintedAt: later ? null : now,
    deliveredAt: null,
    notBefore: Date.parse(admitted.window.notBefore),
    expiresAt,
    createdAt: now,
    dueAt: later ? issueAt : now + desk.leaseMs,
    attempts: 0,
    claimedUntil: later ? null : now + desk.leaseMs
  }
}
