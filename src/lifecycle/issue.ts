import { principalName, principalPath } from '../iam/names.ts'
import type { Credentials } from '../iam/principal.ts'
import type { Grant } from '../ledger/grant.ts'
import type { NewEvent, NewGrant } from '../ledger/ledger.ts'
import { Problem } from '../problems.ts'
import { commit, event, held, release, type Actor, type Desk } from './desk.ts'
import { finish, freesKey, startEnding } from './end.ts'
import { ended, mint, resume } from './mint.ts'
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
      await audited(desk, actor, begun.grant, what)
      if (intent.issueAt !== null) return { grant: begun.grant, credentials: null, created: true }
      return { ...await mint(desk, actor, begun.grant), created: true }
  }
}

/** A grant that cannot be audited must not be. */
const audited = async (desk: Desk, actor: Actor, grant: Grant, what: NewEvent): Promise<void> => {
  try {
    await desk.record(grant, what)
  } catch (cause) {
    const failed = { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null } as const
    await commit(desk, grant, failed, event(actor, 'issue-failed', { reason: 'audit' })).catch(error =>
      desk.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it pending'))
    throw cause
  }
}

/** A retry, or the job's second pod: never a second principal. The key that may have been lost is deleted first. */
const again = async (desk: Desk, actor: Actor, grant: Grant, input: IssueInput): Promise<Delivery> => {
  if (isOver(desk, grant) && freesKey(grant)) {
    if (await cleared(desk, actor, grant.id)) return issue(desk, actor, input)
    throw busy(5)
  }
  if (grant.requestHash !== input.requestHash) {
    throw new Problem('idempotency-conflict', {
      detail: `Grant ${grant.id} was issued for another request of this ${input.idempotencyKey ? 'idempotency key' : 'job'}.`,
      hint: input.idempotencyKey
        ? 'Send a new Idempotency-Key with a new request.'
        : 'Complete that grant first, change it with PATCH, or send an Idempotency-Key to hold two grants for one job.'
    })
  }
  if (grant.state === 'pending' && grant.issueAt !== null && desk.now() < grant.issueAt) return { grant, credentials: null, created: false }
  if (grant.state === 'revoking') throw busy(5)
  if (grant.dueAt === null || desk.now() >= grant.expiresAt) throw ended(grant)
  return { ...await resume(desk, actor, await heldForRetry(desk, grant.id)), created: false }
}

const isOver = (desk: Desk, { state, dueAt, expiresAt }: Grant): boolean =>
  dueAt !== null && (state === 'revoking' || desk.now() >= expiresAt)

/** Ends what the sweeper has not come to yet, so that the job need not wait for it. True: the idempotency key is free. */
const cleared = async (desk: Desk, actor: Actor, id: string): Promise<boolean> => {
  const grant = await heldForRetry(desk, id)
  if (!isOver(desk, grant)) {
    await release(desk, grant)
    return false
  }
  const ending = grant.state === 'pending' ? 'failed' : 'expired'
  const { idempotencyKey } = await finish(desk, actor, await startEnding(desk, actor, grant, ending, 'window over'))
  return idempotencyKey === null
}

const heldForRetry = async (desk: Desk, id: string): Promise<Grant> => {
  try {
    return await held(desk, id)
  } catch (error) {
    throw error instanceof Problem ? busy(1) : error
  }
}

const busy = (retryAfterSeconds: number) => new Problem('idempotency-busy', { retryAfterSeconds })

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
