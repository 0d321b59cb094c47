import type { NewGrantEvent } from '../domain/events.ts'
import type { Grant } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { IamError, isIamError } from '../iam/errors.ts'
import { principalName, principalPath } from '../iam/names.ts'
import { sessionEnd } from '../iam/role-profile.ts'
import type { BeginResult, JobOfWorkers, NewGrant } from '../ledger/ledger.ts'
import { canonicalJson, measure } from '../policy/measure.ts'
import { restate, type Change, type Warning } from '../policy/normalise.ts'
import type { Proven } from '../policy/prove/prove.ts'
import { parseInstant, toIso } from '../policy/window.ts'
import { ProblemError } from '../problems.ts'
import type { GrantRequest } from '../request.ts'
import { authorise, normaliseRequest, observing, proveAccess, proveStored, renderAccess, type ProvenAccess } from './access.ts'
import { assertLease, claimLease, commit, deadline, event, release, rereadAfterFailedCommit, wantedOf } from './lease.ts'
import { requireClock } from './clock.ts'
import type { Account, Actor, Caller, GrantDeps } from './deps.ts'
import { finish, freesKey, startEnding } from './end.ts'
import { changedAccess, extend } from './extend.ts'
import { iamProblem } from './iam-problem.ts'
import { AccountFullError, inFirstAccount, isFull, limitsIn, profileIn } from './pool.ts'
import { abandon, activate, provision, type Delivery } from './provision.ts'
import { ended, resume, type Restart } from './redeliver.ts'
import { beforeSession } from './session.ts'
import { sharedOf } from './shared.ts'

export interface Order {
  request: GrantRequest
  /** The Idempotency-Key header; absent: the job of this owner is the key. */
  idempotencyKey?: string
}

export interface Issued extends Delivery {
  /** False: the grant was there before; this answers a retry or another start of the job. */
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
export const issue = (deps: GrantDeps, caller: Caller, order: Order): Promise<Issued> =>
  observing(caller, order.request, request => issueStated(deps, caller, { ...order, request }))

const issueStated = async (deps: GrantDeps, caller: Caller, order: Order): Promise<Issued> => {
  const { request, idempotencyKey } = order
  requireClock(deps)
  const issueAt = issueAtOf(request)
  const normalised = normaliseRequest(deps.deployment, request, deps.now(), issueAt)
  const rendered = renderAccess(deps.deployment, normalised)
  await deps.turn(caller.id)
  const authorised = authorise(deps, caller, 'issue', rendered)
  await deps.turn(caller.id)
  const access = proveAccess(authorised)
  requireKeyWithinWindow(issueAt, access)
  const { warnings } = access

  return inSomeAccount(deps, access, async account => {
    const intent = () => intentOf(deps, access, {
      owner: caller.id,
      key: idempotencyKey === undefined ? `job:${access.spec.job.team}/${access.spec.job.id}` : `key:${idempotencyKey}`,
      attempt: request.attempt,
      issueAt,
      account
    })
    const reserved = await reserve(deps, caller, intent)
    if (reserved.outcome === 'existing') return { ...await repeat(deps, caller, order, access, reserved.grant), warnings }
    const { grant } = reserved
    if (grant.issueAt !== null) return { grant, credentials: null, created: true, warnings }
    if (grant.maxWorkers !== null) {
      return { grant: await open(deps, caller, grant, access.policy), credentials: null, created: true, warnings }
    }
    const provisioned = await provision(deps, caller, grant, access.policy)
    const active = await activate(deps, caller, grant, provisioned)
    return deliver(deps, request, { grant: active, credentials: provisioned.credentials, created: true, warnings })
  })
}

/** With a pool: one account after the other, see pool.ts. */
export const inSomeAccount = <T>(deps: GrantDeps, access: ProvenAccess, work: (account: Account | undefined) => Promise<T>): Promise<T> =>
  deps.pool ? inFirstAccount(deps, access, work) : work(undefined)

// --- reserve ---

/** Commits the intent: a pending grant, within the limits. An older grant of the same key that is over is ended first. */
export const reserve = async (deps: GrantDeps, caller: Caller, intent: () => NewGrant, job?: JobOfWorkers) => {
  for (;;) {
    const reserved = await begin(deps, caller, intent(), job)
    if (reserved.outcome !== 'existing' || !isOver(deps, reserved.grant, job) || !freesKey(reserved.grant)) return reserved
    if (!await clear(deps, caller, reserved.grant.id, job)) throw busy(5)
  }
}

const begin = async (deps: GrantDeps, caller: Caller, intent: NewGrant, job?: JobOfWorkers) => {
  const { attach, idempotencyKey, worker, attempt } = intent
  const how = idempotencyKey?.startsWith('key:') ? 'header' : worker === null ? 'job' : 'worker'
  const what = event(caller, 'pending', {
    attach, idempotency: how, ...(worker !== null && { worker }), ...(attempt !== null && { attempt })
  }, intent.policyHash)
  const begun = await deps.ledger.begin(intent, what, deps.pool ? limitsIn(deps, intent) : deps.outstanding, job)
  if (begun.outcome === 'limited') throw isFull(intent, begun.limit) ? new AccountFullError() : tooMany(deps, begun, intent)
  if (begun.outcome === 'job-changed') throw jobChanged()
  if (begun.outcome === 'created') await auditedOrWithdrawn(deps, caller, begun.grant, what)
  return begun
}

export const jobChanged = (): ProblemError => new ProblemError('grant-state', {
  detail: 'The job was changed or ended at this moment.', hint: 'Send the request again after Retry-After.', retryAfterSeconds: 1
})

const tooMany = (deps: GrantDeps, limited: Extract<BeginResult, { outcome: 'limited' }>, intent: NewGrant): ProblemError => {
  const { limit, outstanding } = limited
  if (limit === 'workers') return workersFull(limited)
  if (limit === 'managed') return tooManyPolicies(deps, outstanding, intent)
  return new ProblemError('too-many-grants', {
    detail: `${limit === 'perOwner' ? 'This identity' : 'The service'} has ${outstanding} outstanding grants, its limit.`,
    hint: 'Complete the grants of jobs that have ended.',
    retryAfterSeconds: 60
  })
}

const tooManyPolicies = ({ deployment: { dialect } }: GrantDeps, outstanding: number, { spec, policy }: NewGrant): ProblemError => {
  const { characters } = measure(policy)
  const { inline = 0 } = dialect.sizes
  const why = ` \`auto\` chose it: the policy has ${characters} characters, and an inline one at most ${inline}.`
  const instead = characters <= inline
    ? 'Use attach `inline` or `auto`: this policy fits.'
    : 'Ask for fewer or shorter entries, or fewer sources, so that the policy fits inline.'
  return new ProblemError('too-many-managed-policies', {
    detail: `The service has ${outstanding} outstanding grants with a managed policy, its limit.${spec.attach === 'auto' ? why : ''}`,
    hint: `${instead} Or complete grants of jobs that have ended, and send the request again after Retry-After.`,
    retryAfterSeconds: 60
  })
}

/** A worker that has ended counts as long as a key of it may work. */
const workersFull = ({ outstanding, ended }: Extract<BeginResult, { limit: 'workers' }>): ProblemError => {
  const { ending, irrevocable, sessionEndsAt } = ended
  const detail = [
    `The job has ${outstanding} workers, its limit.`,
    ...(ending > 0 ? [`${ending} of them ${ending === 1 ? 'is' : 'are'} being ended.`] : []),
    ...(sessionEndsAt === null
      ? []
      : [`${irrevocable} of them ${irrevocable === 1 ? 'has' : 'have'} ended, with a role session that cannot be revoked: it counts ` +
          `until it ends by itself, the first at ${toIso(sessionEndsAt)}.`])
  ].join(' ')
  const over = ending + irrevocable === outstanding
  return new ProblemError('workers-full', {
    detail,
    ...(over && { hint: 'Send the request again when there is room, or ask for a new grant with a higher `workers.max`.' }),
    ...(ending > 0 && { retryAfterSeconds: 5 })
  })
}

/** A grant that cannot be audited must not exist. */
const auditedOrWithdrawn = async (deps: GrantDeps, actor: Actor, grant: Grant, what: NewGrantEvent): Promise<void> => {
  try {
    await deps.audit.changed(grant, what)
  } catch (cause) {
    await withdraw(deps, actor, grant, 'audit')
    throw cause
  }
}

const withdraw = async (deps: GrantDeps, actor: Actor, grant: Grant, reason: string): Promise<void> => {
  const failed = { state: 'failed', idempotencyKey: null, dueAt: null, claimedUntil: null } as const
  await commit(deps, grant, failed, event(actor, 'issue-failed', { reason })).catch(error =>
    deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it pending'))
}

/** A job of workers has no principal: it is active as soon as the ledger says so. What its workers share is made before that. */
const open = async (deps: GrantDeps, actor: Actor, grant: Grant, policy?: Proven<PolicyDocument>): Promise<Grant> => {
  if (grant.spec.shared) return openShared(deps, actor, grant, policy)
  try {
    return await commit(deps, grant, { state: 'active', dueAt: grant.expiresAt, claimedUntil: null },
      event(actor, 'active', { workers: grant.maxWorkers }, grant.policyHash))
  } catch (cause) {
    // Nobody was told of it: an active job that cannot be audited must not stand either.
    await undoOpen(deps, actor, grant).catch(error =>
      deps.log.error({ grantId: grant.id, err: error }, 'the ledger did not take the failed issue; the sweeper will find it'))
    throw cause
  }
}

/** The same, with the one managed policy of its workers. It allows nobody anything before a worker joins. */
const openShared = async (deps: GrantDeps, actor: Actor, grant: Grant, policy?: Proven<PolicyDocument>): Promise<Grant> => {
  let opening = grant
  try {
    // The operation before this one died, and may have made it. The age of what there may be starts anew.
    if (!policy) {
      const change = { mintedAt: deps.now(), dueAt: deps.now() + deps.leaseMs }
      opening = await commit(deps, grant, change, event(actor, 'minting', {}, grant.policyHash))
    }
    const proven = policy ?? await proveStored(deps, actor, grant)
    const principal = await sharedOf(deps).create(grant.principal, proven, assertLease(deps, opening))
    opening = { ...opening, principal }
    // As in provision().
    requireClock(deps)
    return await commit(deps, opening, { state: 'active', principal, dueAt: grant.expiresAt, claimedUntil: null },
      event(actor, 'active', { workers: grant.maxWorkers }, grant.policyHash))
  } catch (cause) {
    const unmade = cause instanceof IamError && cause.definite && cause.operation === 'CreatePolicy'
    await abandon(deps, actor, opening, cause, policy !== undefined && unmade)
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

const undoOpen = async (deps: GrantDeps, actor: Actor, grant: Grant): Promise<void> => {
  const stored = await rereadAfterFailedCommit(deps, grant, null)
  if (stored?.state === 'pending') await withdraw(deps, actor, stored, 'ledger')
  else if (stored?.state === 'active') await finish(deps, actor, await startEnding(deps, actor, stored, 'failed', 'audit'))
}

export const deliver = async (
  deps: GrantDeps, { waitUntilReady }: Pick<GrantRequest, 'waitUntilReady'>, issued: Issued
): Promise<Issued> => {
  const { grant, credentials } = issued
  if (!waitUntilReady || !credentials) return issued
  return { ...issued, ready: await deps.provisioners[grant.attach].ready(grant.principal, credentials, deadline(deps)) }
}

// --- a request for what is there already ---

/**
 * Answers a request for a job that has a grant: it never makes a second principal. Another source or window changes the grant; other
 * buckets are a conflict. The request is compared with what the grant is now.
 */
const repeat = async (
  deps: GrantDeps, caller: Caller, { request, idempotencyKey }: Order, access: ProvenAccess, grant: Grant
): Promise<Omit<Issued, 'warnings'>> => {
  if (grant.dueAt === null) throw ended(grant)
  requireSameJob(deps, request, access, grant, idempotencyKey)
  if (grant.state === 'revoking') throw busy(5)
  if (deps.now() >= grant.expiresAt) throw ended(grant)
  const change = changeBy(request, access, grant, deps.now())
  if (grant.maxWorkers !== null && grant.state === 'pending') {
    const claimed = await claimForRetry(deps, grant.id)
    if (claimed.state !== 'pending') {
      await release(deps, claimed)
      throw busy(1)
    }
    grant = await open(deps, caller, claimed)
  }
  if (grant.maxWorkers !== null || isWaiting(deps, grant)) {
    return { grant: change ? await extend(deps, caller, grant.id, change) : grant, credentials: null, created: false }
  }
  // The Idempotency-Key says that it is a retry; an attempt that was followed by another one is none.
  if (idempotencyKey === undefined || request.attempt !== undefined) await requireReasonToReplace(deps, grant, request)
  if (change) await deps.turn(caller.id)
  const changed = change && changedAccess(deps, caller, grant, change)
  return redeliver(deps, caller, grant, request, changed)
}

/** A fresh key for a grant, in answer to a request that may end the one before, with another window or source if the request has it. */
export const redeliver = async (
  deps: GrantDeps, caller: Caller, grant: Grant, request: Pick<GrantRequest, 'attempt' | 'replace' | 'waitUntilReady'>,
  access: ProvenAccess | undefined
): Promise<Omit<Issued, 'warnings'>> => {
  const restart: Restart = {
    ...(request.attempt !== undefined ? { attempt: request.attempt } : request.replace && { attempt: null }),
    ...(access && { access: { ...wantedOf(access), policy: access.policy } })
  }
  const claimed = await claimForRetry(deps, grant.id)
  if (claimed.version !== grant.version + 1) {
    // Another request was answered in between. Whether this one may end that key, and what it changes, was decided before.
    await release(deps, claimed)
    throw busy(1)
  }
  const resumed = await resume(deps, caller, claimed, restart)
  const sessions = claimed.attach === 'session' ? { previousUntil: sessionEnd(claimed) } : {}
  return deliver(deps, request, { ...resumed, ...sessions, created: false, warnings: [] })
}

/**
 * A key that was delivered is somebody's. It ends only for a request that says why: the process before is gone (another attempt, or
 * `replace`), or its answer was lost (the same attempt). The name alone says neither: it may be a second pod of the same job. An attempt
 * from before the one that has the key is a process that was said to be gone.
 */
export const requireReasonToReplace = async (
  deps: GrantDeps, { id, accessKeyId, deliveredAt, attempt, worker }: Grant, request: Pick<GrantRequest, 'attempt' | 'replace'>
): Promise<void> => {
  // Without a key, e.g. after a redelivery that failed, none ends.
  if (deliveredAt === null || accessKeyId === null || request.replace === true) return
  if (request.attempt !== undefined) {
    if (request.attempt === attempt) return
    // Only an attempt that had the key has been followed.
    const had = (await deps.ledger.events(id))
      .some(({ action, detail }) => (action === 'active' || action === 'delivered') && detail.attempt === request.attempt)
    if (!had) return
    throw new ProblemError('key-delivered', {
      detail: `Another start came after attempt ${JSON.stringify(request.attempt)}, and has the key of grant ${id}` +
        `${attempt === null ? '' : `: attempt ${JSON.stringify(attempt)}`}.`,
      hint: 'A new start sends an attempt that was not used before, or `replace: true`.'
    })
  }
  const holder = worker === null ? 'This job' : `Worker ${worker}`
  throw new ProblemError('key-delivered', {
    detail: `${holder} has grant ${id}, and its key was delivered at ${new Date(deliveredAt).toISOString()}` +
      `${attempt === null ? '' : ` for attempt ${JSON.stringify(attempt)}`}.`,
    hint: (worker === null
      ? 'For many processes ask for `workers`. For a retry send the Idempotency-Key of the first request. '
      : 'For a retry send the attempt of the first request. ') +
      'If the process before is gone, send another `attempt` (e.g. the restart count), or `replace: true`.'
  })
}

const isWaiting = (deps: GrantDeps, { state, issueAt }: Grant): boolean => state === 'pending' && issueAt !== null && deps.now() < issueAt

const requireSameJob = (
  deps: GrantDeps, request: GrantRequest, access: ProvenAccess, grant: Grant, idempotencyKey: string | undefined
): void => {
  const asked = issueAtOf(request)
  const waitsFor = asked !== undefined && asked > deps.now() ? asked : null
  const same = canonicalJson(fixedPart(access.spec)) === canonicalJson(fixedPart(grant.spec)) &&
    (profileIn(deps, grant, access.profile)?.roleArn ?? null) === grant.principal.roleArn &&
    (access.workers ?? null) === grant.maxWorkers &&
    (access.spec.source.kind === 'any') === (grant.spec.source.kind === 'any') &&
    (waitsFor === null || waitsFor === grant.issueAt)
  if (same) return
  throw new ProblemError('idempotency-conflict', {
    detail: `Grant ${grant.id} was issued for another request of this ${idempotencyKey ? 'idempotency key' : 'job'}: ` +
      'only the window and the source may differ.',
    hint: idempotencyKey
      ? 'Send a new Idempotency-Key with a new request.'
      : 'Complete that grant first, or send an Idempotency-Key to hold two grants for one job.'
  })
}

/** What a request for the same grant cannot change. */
const fixedPart = (spec: Grant['spec']) => {
  const { window, sourceIps, vpc, access = [], ...fixed } = restate(spec)
  // An earlier release gave entries other default names.
  return { ...fixed, access: access.map(({ sid, ...entry }) => entry) }
}

/** What PATCH would have to change for the grant to be what the request asks for; undefined: nothing. */
const changeBy = ({ window: asked }: GrantRequest, { spec }: ProvenAccess, grant: Grant, now: number): Change | undefined => {
  const { sourceIps, vpc } = restate(spec)
  const otherSource = grant.maxWorkers === null && canonicalJson(spec.source) !== canonicalJson(grant.spec.source)
  const window = isWindowOf(asked, spec, grant.spec)
    ? undefined
    : {
        // A window without a start keeps the one that the grant has; its length counts from now.
        ...(asked.notBefore !== undefined && !(Date.parse(grant.spec.window.notBefore) <= now) && { notBefore: spec.window.notBefore }),
        notAfter: spec.window.notAfter,
        outputGraceSeconds: asked.outputGraceSeconds ?? 0
      }
  if (!otherSource && !window) return undefined
  return { ...(window && { window }), ...(otherSource && { ...(sourceIps && { sourceIps }), ...(vpc && { vpc }) }) }
}

/** Whether the request's window is the grant's. One that is a length, without a start, is meant from when the grant was issued. */
const isWindowOf = (asked: GrantRequest['window'], { window: wanted }: Grant['spec'], { window }: Grant['spec']): boolean => {
  const seconds = (from: string, to: string) => (Date.parse(to) - Date.parse(from)) / 1000
  const start = asked.notBefore === undefined || wanted.notBefore === window.notBefore
  const end = asked.durationSeconds !== undefined && asked.notBefore === undefined
    ? asked.durationSeconds === seconds(window.notBefore, window.notAfter)
    : wanted.notAfter === window.notAfter
  return start && end && seconds(wanted.notAfter, wanted.outputNotAfter) === seconds(window.notAfter, window.outputNotAfter)
}

/** A worker lasts as long as its job, also when the job's longer window has not reached it yet. */
const isOver = (deps: GrantDeps, { state, dueAt, expiresAt }: Grant, job?: JobOfWorkers): boolean =>
  dueAt !== null && (state === 'revoking' || deps.now() >= Math.max(expiresAt, job?.expiresAt ?? 0))

/** Ends a grant that is over but not swept yet, so that the job need not wait for the sweeper. True: the idempotency key is free. */
const clear = async (deps: GrantDeps, actor: Actor, id: string, job?: JobOfWorkers): Promise<boolean> => {
  const grant = await claimForRetry(deps, id)
  if (!isOver(deps, grant, job)) {
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

export const busy = (retryAfterSeconds: number) => new ProblemError('idempotency-busy', { retryAfterSeconds })

// --- the intent ---

/** Epoch ms; undefined: now. */
const issueAtOf = ({ issueAt }: GrantRequest): number | undefined => {
  if (issueAt === undefined) return undefined
  const instant = parseInstant(issueAt)
  if (instant.ok) return instant.epochMs
  throw ProblemError.of([{ code: 'time-invalid', pointer: '/issueAt', detail: `The instant ${instant.why}.`, hint: instant.hint }])
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

interface Asked {
  owner: string
  /** Idempotency key: unique per owner. */
  key: string
  attempt: string | undefined
  issueAt?: number | undefined
  /** The job that this worker joins. */
  joins?: { jobGrantId: string, worker: string, policyArn: string | null }
  account?: Account | undefined
}

export const intentOf = (deps: GrantDeps, access: ProvenAccess, { owner, key, attempt, issueAt, joins, account }: Asked): NewGrant => {
  const { spec, policy, measure, attachment, workers = null } = access
  const profile = access.profile && account ? account.profiles[access.profile.name] ?? null : access.profile
  const { userPrefix, pathBase } = account?.naming ?? deps.naming
  const now = deps.now()
  const id = deps.newId().toLowerCase()
  const expiresAt = Date.parse(spec.window.outputNotAfter)
  const later = issueAt !== undefined && issueAt > now
  const intent: NewGrant = {
    id,
    ending: null,
    endReason: null,
    owner,
    team: spec.job.team,
    jobId: spec.job.id,
    idempotencyKey: key,
    attempt: attempt ?? null,
    maxWorkers: workers,
    parentId: joins?.jobGrantId ?? null,
    worker: joins?.worker ?? null,
    spec: profile ? { ...spec, profile: profile.name } : spec,
    policy,
    policyHash: measure.sha256,
    attach: attachment,
    principal: {
      name: principalName(userPrefix, spec.job.id, expiresAt, id),
      path: pathBase === null ? '/' : principalPath(pathBase, expiresAt),
      policyArn: joins?.policyArn ?? null,
      roleArn: profile?.roleArn ?? null,
      ...(account && { account: account.name })
    },
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    dyingKeys: [],
    issueAt: later ? issueAt : null,
    mintedAt: later || (workers !== null && !spec.shared) ? null : now,
    deliveredAt: null,
    sessionsEndAt: null,
    notBefore: Date.parse(spec.window.notBefore),
    expiresAt,
    createdAt: now,
    dueAt: later ? issueAt : now + deps.leaseMs,
    attempts: 0,
    claimedUntil: later ? null : now + deps.leaseMs
  }
  return intent.mintedAt === null || attachment !== 'session' ? intent : { ...intent, ...beforeSession(deps, intent) }
}
