import { principalName, principalPath } from '../iam/names.ts'
import type { Credentials } from '../iam/provisioner.ts'
import type { Grant } from '../domain/grant.ts'
import type { NewEvent, NewGrant } from '../ledger/ledger.ts'
import { ProblemError } from '../problems.ts'
import { commit, event, held, release, type Actor, type GrantDeps } from './deps.ts'
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
export const issue = async (deps: GrantDeps, actor: Actor, input: IssueInput): Promise<Delivery> => {
  const intent = intentOf(deps, actor, input)
  const what = event(actor, 'pending', { attach: intent.attach, idempotency: input.idempotencyKey ? 'header' : 'job' }, intent.policyHash)
  const begun = await deps.ledger.begin(intent, what, deps.outstanding)
  switch (begun.outcome) {
    case 'limited':
      throw new ProblemError('too-many-grants', {
        detail: begun.limit === 'perOwner'
          ? `This identity has ${begun.outstanding} outstanding grants, its limit.`
          : `The service has ${begun.outstanding} outstanding grants, its limit.`,
        hint: 'Complete the grants of jobs that have ended.',
        retryAfterSeconds: 60
      })
    case 'existing': return again(deps, actor, begun.grant, input)
    case 'created':
      await audited(deps, actor, begun.grant, what)
      if (intent.issueAt !== null) return { grant: begun.grant, credentials: null, created: true }
      return { ...await mint(deps, actor, begun.grant), created: true }
  }
}

/** A grant that cannot be audited must not be. */
const audited = async (deps: GrantDeps, actor: Actor, grant: Grant, what: NewEvent): Promise<void> => {
  try {
    await deps.record(grant, what)
  } catch (cause) {
    const failed = { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null } as const
    await commit(deps, grant, failed, event(actor, 'issue-failed', { reason: 'audit' })).catch(error =>
      deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it pending'))
    throw cause
  }
}

/** A retry, or the job's second pod: never a second principal. The key that may have been lost is deleted first. */
const again = async (deps: GrantDeps, actor: Actor, grant: Grant, input: IssueInput): Promise<Delivery> => {
  if (isOver(deps, grant) && freesKey(grant)) {
    if (await cleared(deps, actor, grant.id)) return issue(deps, actor, input)
    throw busy(5)
  }
  if (grant.requestHash !== input.requestHash) {
    throw new ProblemError('idempotency-conflict', {
      detail: `Grant ${grant.id} was issued for another request of this ${input.idempotencyKey ? 'idempotency key' : 'job'}.`,
      hint: input.idempotencyKey
        ? 'Send a new Idempotency-Key with a new request.'
        : 'Complete that grant first, change it with PATCH, or send an Idempotency-Key to hold two grants for one job.'
    })
  }
  if (grant.state === 'pending' && grant.issueAt !== null && deps.now() < grant.issueAt) return { grant, credentials: null, created: false }
  if (grant.state === 'revoking') throw busy(5)
  if (grant.dueAt === null || deps.now() >= grant.expiresAt) throw ended(grant)
  return { ...await resume(deps, actor, await heldForRetry(deps, grant.id)), created: false }
}

const isOver = (deps: GrantDeps, { state, dueAt, expiresAt }: Grant): boolean =>
  dueAt !== null && (state === 'revoking' || deps.now() >= expiresAt)

/** Ends what the sweeper has not come to yet, so that the job need not wait for it. True: the idempotency key is free. */
const cleared = async (deps: GrantDeps, actor: Actor, id: string): Promise<boolean> => {
  const grant = await heldForRetry(deps, id)
  if (!isOver(deps, grant)) {
    await release(deps, grant)
    return false
  }
  const ending = grant.state === 'pending' ? 'failed' : 'expired'
  const { idempotencyKey } = await finish(deps, actor, await startEnding(deps, actor, grant, ending, 'window over'))
  return idempotencyKey === null
}

const heldForRetry = async (deps: GrantDeps, id: string): Promise<Grant> => {
  try {
    return await held(deps, id)
  } catch (error) {
    throw error instanceof ProblemError ? busy(1) : error
  }
}

const busy = (retryAfterSeconds: number) => new ProblemError('idempotency-busy', { retryAfterSeconds })

const intentOf = (deps: GrantDeps, actor: Actor, { prepared, requestHash, idempotencyKey, issueAt }: IssueInput): NewGrant => {
  const { spec, policy, measure, attachment, profile } = prepared
  const now = deps.now()
  const id = deps.newId()
  const expiresAt = Date.parse(spec.window.outputNotAfter)
  const later = issueAt !== undefined && issueAt > now
  return {
    id,
    ending: null,
    owner: actor.id,
    team: spec.job.team,
    jobId: spec.job.id,
    idempotencyKey: idempotencyKey ? `key:${idempotencyKey}` : `job:${spec.job.team}/${spec.job.id}`,
    requestHash,
    spec,
    policy,
    policyHash: measure.sha256,
    attach: attachment,
    principal: {
      name: principalName(deps.naming.userPrefix, spec.job.id, expiresAt, id),
      path: deps.naming.pathBase === null ? '/' : principalPath(deps.naming.pathBase, expiresAt),
      policyArn: null,
      roleArn: profile?.roleArn ?? null
    },
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    issueAt: later ? issueAt : null,
    mintedAt: later ? null : now,
    deliveredAt: null,
    notBefore: Date.parse(spec.window.notBefore),
    expiresAt,
    createdAt: now,
    dueAt: later ? issueAt : now + deps.leaseMs,
    attempts: 0,
    claimedUntil: later ? null : now + deps.leaseMs
  }
}
