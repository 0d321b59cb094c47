import { createHash } from 'node:crypto'
import type { Grant } from '../domain/grant.ts'
import { principalName, principalPath } from '../iam/names.ts'
import type { NewGrant } from '../ledger/ledger.ts'
import { canonicalJson } from '../policy/measure.ts'
import type { Warning } from '../policy/normalise.ts'
import { parseInstant } from '../policy/window.ts'
import { ProblemError } from '../problems.ts'
import type { GrantRequest } from '../request.ts'
import { authorise, normaliseRequest, proveAccess, renderAccess, type ProvenAccess } from './access.ts'
import { claimLease, commit, deadline, event, release } from './lease.ts'
import type { Actor, Caller, GrantDeps } from './deps.ts'
import { finish, freesKey, startEnding } from './end.ts'
import { activate, provision, type Delivery } from './provision.ts'
import { ended, resume } from './redeliver.ts'

export interface Order {
  request: GrantRequest
  /** The Idempotency-Key header; absent: the job of this owner is the key. */
  idempotencyKey?: string
}

export interface Issued extends Delivery {
  /** False: the grant was there before; this answers a retry. */
  created: boolean
  warnings: Warning[]
  /** If the request asked to wait: whether the provider knows the key. */
  ready?: boolean
}

/**
 * Issues a job its access, stage by stage. When a stage from `provision` on fails, everything is torn down, and the ledger says so.
 * After a crash the grant is still pending in the ledger, and the sweeper removes it.
 * @throws ProblemError
 */
export const issue = async (deps: GrantDeps, caller: Caller, order: Order): Promise<Issued> => {
  const issueAt = issueAtOf(order.request)
  const normalised = normaliseRequest(deps.deployment, order.request, deps.now(), issueAt)
  const authorised = authorise(deps, caller, 'issue', normalised)
  const rendered = renderAccess(deps.deployment, authorised, deps.now())
  const access = proveAccess(rendered)
  requireKeyWithinWindow(issueAt, access)
  const { warnings } = access

  const reserved = await reserve(deps, caller, order, access, issueAt)
  if (reserved.outcome === 'existing') return { ...await redeliver(deps, caller, reserved.grant, order), warnings }
  const { grant } = reserved
  if (grant.issueAt !== null) return { grant, credentials: null, created: true, warnings }

  const provisioned = await provision(deps, caller, grant, access.policy)
  const active = await activate(deps, caller, grant, provisioned)
  return deliver(deps, order, { grant: active, credentials: provisioned.credentials, created: true, warnings })
}

/** Commits the intent: a pending grant, within the limits. An older grant of the same key that is over is ended first. */
const reserve = async (deps: GrantDeps, caller: Caller, order: Order, access: ProvenAccess, issueAt: number | undefined) => {
  for (;;) {
    const reserved = await begin(deps, caller, order, access, issueAt)
    if (reserved.outcome === 'created' || !isOver(deps, reserved.grant) || !freesKey(reserved.grant)) return reserved
    if (!await clear(deps, caller, reserved.grant.id)) throw busy(5)
  }
}

const begin = async (deps: GrantDeps, caller: Caller, order: Order, access: ProvenAccess, issueAt: number | undefined) => {
  const intent = intentOf(deps, caller, order, access, issueAt)
  const what = event(caller, 'pending', { attach: intent.attach, idempotency: order.idempotencyKey ? 'header' : 'job' }, intent.policyHash)
  const begun = await deps.ledger.begin(intent, what, deps.outstanding)
  if (begun.outcome === 'limited') {
    throw new ProblemError('too-many-grants', {
      detail: begun.limit === 'perOwner'
        ? `This identity has ${begun.outstanding} outstanding grants, its limit.`
        : `The service has ${begun.outstanding} outstanding grants, its limit.`,
      hint: 'Complete the grants of jobs that have ended.',
      retryAfterSeconds: 60
    })
  }
  if (begun.outcome === 'created') {
    try {
      await deps.audit.changed(begun.grant, what)
    } catch (cause) {
      await withdraw(deps, caller, begun.grant)
      throw cause
    }
  }
  return begun
}

/** A grant that cannot be audited must not exist. */
const withdraw = async (deps: GrantDeps, actor: Actor, grant: Grant): Promise<void> => {
  const failed = { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null } as const
  await commit(deps, grant, failed, event(actor, 'issue-failed', { reason: 'audit' })).catch(error =>
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it pending'))
}

const deliver = async (deps: GrantDeps, { request }: Order, issued: Issued): Promise<Issued> => {
  const { grant, credentials } = issued
  if (!request.waitUntilReady || !credentials) return issued
  return { ...issued, ready: await deps.provisioners[grant.attach].ready(grant.principal, credentials, deadline(deps)) }
}

/** Answers a repeated request: it never makes a second principal. The key before may have been lost, so it is deleted first. */
const redeliver = async (deps: GrantDeps, caller: Caller, grant: Grant, order: Order): Promise<Omit<Issued, 'warnings'>> => {
  if (grant.requestHash !== requestHashOf(order.request)) {
    throw new ProblemError('idempotency-conflict', {
      detail: `Grant ${grant.id} was issued for another request of this ${order.idempotencyKey ? 'idempotency key' : 'job'}.`,
      hint: order.idempotencyKey
        ? 'Send a new Idempotency-Key with a new request.'
        : 'Complete that grant first, change it with PATCH, or send an Idempotency-Key to hold two grants for one job.'
    })
  }
  if (grant.state === 'pending' && grant.issueAt !== null && deps.now() < grant.issueAt) return { grant, credentials: null, created: false }
  if (grant.state === 'revoking') throw busy(5)
  if (grant.dueAt === null || deps.now() >= grant.expiresAt) throw ended(grant)
  const resumed = await resume(deps, caller, await claimForRetry(deps, grant.id))
  return deliver(deps, order, { ...resumed, created: false, warnings: [] })
}

const isOver = (deps: GrantDeps, { state, dueAt, expiresAt }: Grant): boolean =>
  dueAt !== null && (state === 'revoking' || deps.now() >= expiresAt)

/** Ends a grant that is over but not swept yet, so that the job need not wait for the sweeper. True: the idempotency key is free. */
const clear = async (deps: GrantDeps, actor: Actor, id: string): Promise<boolean> => {
  const grant = await claimForRetry(deps, id)
  if (!isOver(deps, grant)) {
    await release(deps, grant)
    return false
  }
  const ending = grant.state === 'pending' ? 'failed' : 'expired'
  const { idempotencyKey } = await finish(deps, actor, await startEnding(deps, actor, grant, ending, 'window over'))
  return idempotencyKey === null
}

const claimForRetry = async (deps: GrantDeps, id: string): Promise<Grant> => {
  try {
    return await claimLease(deps, id)
  } catch (error) {
    throw error instanceof ProblemError ? busy(1) : error
  }
}

const busy = (retryAfterSeconds: number) => new ProblemError('idempotency-busy', { retryAfterSeconds })

/** How the credentials are delivered is no part of what is asked for. */
const requestHashOf = ({ format, waitUntilReady, ...body }: GrantRequest): string =>
  createHash('sha256').update(canonicalJson(body)).digest('hex')

/** Epoch ms; undefined: now. */
const issueAtOf = ({ issueAt }: GrantRequest): number | undefined => {
  if (issueAt === undefined) return undefined
  const instant = parseInstant(issueAt)
  if (instant.ok) return instant.epochMs
  throw ProblemError.of([{ code: 'time-invalid', pointer: '/issueAt', detail: instant.why, hint: instant.hint }])
}

const requireKeyWithinWindow = (issueAt: number | undefined, { spec }: ProvenAccess): void => {
  if (issueAt === undefined || issueAt < Date.parse(spec.window.outputNotAfter)) return
  throw ProblemError.of([{
    code: 'window-invalid',
    pointer: '/issueAt',
    detail: 'The key would be minted after its window has ended.',
    hint: 'Give an issueAt before the end of the window.'
  }])
}

const intentOf = (
  deps: GrantDeps, actor: Actor, { request, idempotencyKey }: Order, { spec, policy, measure, attachment, profile }: ProvenAccess,
  issueAt: number | undefined
): NewGrant => {
  const now = deps.now()
  const id = deps.newId().toLowerCase()
  const expiresAt = Date.parse(spec.window.outputNotAfter)
  const later = issueAt !== undefined && issueAt > now
  return {
    id,
    ending: null,
    owner: actor.id,
    team: spec.job.team,
    jobId: spec.job.id,
    idempotencyKey: idempotencyKey ? `key:${idempotencyKey}` : `job:${spec.job.team}/${spec.job.id}`,
    requestHash: requestHashOf(request),
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
    dyingKeys: [],
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
