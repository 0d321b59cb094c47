import type { AccessSpec, Window } from '../domain/access-spec.ts'
import type { NewGrantEvent } from '../domain/events.ts'
import type { Grant } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { isIamError } from '../iam/errors.ts'
import { profileOfGrant, sessionEnd, type RoleProfile } from '../iam/role-profile.ts'
import { StaleGrantError } from '../ledger/ledger.ts'
import { attachmentFor } from '../policy/dialect.ts'
import { measure } from '../policy/measure.ts'
import { normaliseChange, type Change } from '../policy/normalise.ts'
import type { Proven } from '../policy/prove/prove.ts'
import { render, together } from '../policy/render.ts'
import { firstIssueOf, isSameWindow, toIso } from '../policy/window.ts'
import { ProblemError, type Finding } from '../problems.ts'
import { authorise, limitsOf, proveAccess, proveStored, renderAccess, type NormalisedRequest, type ProvenAccess } from './access.ts'
import { grantOfTeam } from './authorise.ts'
import { accessOf, assertLease, claimLive, commit, dueAfter, event, release, requireActive, wantedOf, type Wanted } from './lease.ts'
import { requireClock } from './clock.ts'
import { compensate, removeOvertaken } from './compensate.ts'
import type { Actor, Caller, GrantDeps } from './deps.ts'
import { postponed, workersLeft } from './end.ts'
import { iamProblem } from './iam-problem.ts'
import { sharedOf } from './shared.ts'
import { reachWorkers } from './workers.ts'

/**
 * Moves the window or changes the source of a live grant by one PutUserPolicy; the key stays. The change is committed before the
 * provider is asked. After a crash in between, the sweeper gives the provider the policy that the ledger has. A session keeps the policy
 * that it was given; the next one of its grant gets the new policy. The window of a job of workers is brought to each worker.
 * @returns the grant; a job of workers is due before its end while some workers still have their earlier window
 * @throws ProblemError
 */
export const extend = async (deps: GrantDeps, caller: Caller, id: string, change: Change): Promise<Grant> => {
  requireClock(deps)
  const grant = await claimLive(deps, await grantOfTeam(deps, caller, id, 'extend'))
  if (!isScheduled(grant)) await requireActive(deps, grant)
  await deps.turn(caller.id, { holds: true })
  const access = await accessOrRelease(deps, caller, grant, change)
  const wanted = wantedOf(access)
  const detail = { notAfter: access.spec.window.notAfter, previousHash: grant.policyHash }
  const done = event(caller, 'extended', detail, wanted.policyHash)
  const started = event(caller, 'extending', detail, wanted.policyHash)
  if (grant.maxWorkers !== null) {
    return extendWorkers(deps, caller, await extendJob(deps, caller, grant, wanted, started))
  }
  return replacePolicy(deps, caller, grant, { wanted, policy: access.policy, started, done })
}

/** Nothing of it exists at the provider yet. */
const isScheduled = ({ state, issueAt }: Grant): boolean => state === 'pending' && issueAt !== null

/** Commits the window of a job, of which no worker has heard yet. When it cannot be audited, it must not stand. */
const extendJob = async (deps: GrantDeps, actor: Actor, job: Grant, wanted: Wanted, started: NewGrantEvent): Promise<Grant> => {
  try {
    return await commit(deps, job, { ...wanted, attempts: 0, dueAt: deps.now() + deps.leaseMs }, started)
  } catch (cause) {
    await compensate(deps, actor, job, { made: null, keep: null, back: accessOf(job), action: 'extend-failed' })
    throw cause
  }
}

/**
 * Brings the window of a claimed job to its workers. Those that cannot be reached now keep the job due, and the sweeper calls this
 * again: until then a worker's key works in its earlier window.
 */
export const extendWorkers = async (deps: GrantDeps, actor: Actor, job: Grant): Promise<Grant> => {
  if (!job.spec.shared) return extendRows(deps, actor, job)
  try {
    return await extendShared(deps, actor, job)
  } catch (cause) {
    // A call of this operation may have come after one of the operation that holds the job now, with an older text.
    if (cause instanceof StaleGrantError) await removeOvertaken(deps, actor, job, null)
    throw cause
  }
}

/** One policy is changed for all workers, however many there are; then the ledger says so of each of them. */
const extendShared = async (deps: GrantDeps, actor: Actor, job: Grant): Promise<Grant> => {
  try {
    const shared = sharedOf(deps)
    const policy = await proveStored(deps, actor, job)
    // A try before may have done it, and left workers: then the ledger alone is behind. A text that came late is found, too.
    const done = job.attempts > 0 && await shared.has(job.principal, policy, assertLease(deps, job))
    if (!done) await shared.replace(job.principal, policy, assertLease(deps, job))
  } catch (error) {
    if (!isIamError(error)) throw error
    deps.log.warn({ grantId: job.id, attempts: job.attempts + 1, err: error }, 'the policy of a job was not changed; trying again later')
    return postponed(deps, actor, job, 'attempt-failed', { operation: error.operation, kind: error.kind, code: error.providerCode })
  }
  return extendRows(deps, actor, job)
}

const extendRows = async (deps: GrantDeps, actor: Actor, job: Grant): Promise<Grant> => {
  const isReached = (worker: Grant) => hasWindowOf(job, worker)
  const { workers, progress } = await reachWorkers(deps, job, isReached, worker => extendWorker(deps, actor, job, worker))
  const left = workers.filter(worker => !isReached(worker))
  if (left.length > 0) return workersLeft(deps, actor, job, { left, progress })
  return commit(deps, job, { dueAt: job.expiresAt, attempts: 0, claimedUntil: null },
    event(actor, 'extended', { notAfter: job.spec.window.notAfter }, job.policyHash))
}

/** Or it is ending, and its window does not matter any more. An operation that holds the worker may still restore its earlier window. */
const hasWindowOf = ({ spec: { window } }: Grant, { state, dueAt, claimedUntil, spec }: Grant): boolean =>
  dueAt === null || state === 'revoking' || (claimedUntil === null && isSameWindow(spec.window, window))

const extendWorker = async (deps: GrantDeps, actor: Actor, job: Grant, worker: Grant): Promise<Grant> => {
  // Its issue died; it is not extended but torn down by the sweeper.
  if (worker.state !== 'active') return release(deps, worker)
  const spec = inWindowOf(job.spec, worker.spec)
  const policy = spec.shared ? together(job.policy, render(spec)) : render(spec)
  const wanted = wantedOf({ spec, policy, measure: measure(policy) })
  const done = event(actor, 'extended', { notAfter: spec.window.notAfter, previousHash: worker.policyHash }, wanted.policyHash)
  const started = { ...done, action: 'extending' } as const
  return replacePolicy(deps, actor, worker, { wanted, policy: await proveStored(deps, actor, { spec, policy }), started, done })
}

/** The worker's access in the job's window. */
const inWindowOf = ({ window }: AccessSpec, worker: AccessSpec): AccessSpec => ({ ...worker, window })

interface Replacement { wanted: Wanted, policy: Proven<PolicyDocument>, started: NewGrantEvent, done: NewGrantEvent }

/**
 * Commits the intent, which must be audited, then calls the provider where that has the policy. After a failure it may have either one: the
 * sweeper restores the old one.
 */
const replacePolicy = async (deps: GrantDeps, actor: Actor, grant: Grant, { done, ...replacement }: Replacement): Promise<Grant> => {
  const { wanted } = replacement
  // The worker has it already from its job, whose change is audited.
  if (grant.spec.shared) {
    return commit(deps, grant, { ...wanted, dueAt: dueAfter(grant, { ...grant, ...wanted }), claimedUntil: null }, done)
  }
  const extending = await replaced(deps, actor, grant, replacement)
  return commit(deps, extending, { principal: extending.principal, dueAt: dueAfter(grant, extending), claimedUntil: null }, done)
}

const replaced = async (
  deps: GrantDeps, actor: Actor, grant: Grant, { wanted, policy, started }: Omit<Replacement, 'done'>
): Promise<Grant> => {
  let extending: Grant | undefined
  // The sweeper must not make the key before its time.
  const { dueAt } = grant
  const scheduled = isScheduled(grant)
  try {
    extending = await commit(deps, grant, { ...wanted, dueAt: scheduled ? dueAt : deps.now() + deps.leaseMs }, started)
    // The key, or the next session, gets the policy.
    if (scheduled || grant.attach === 'session') return extending
    const until = assertLease(deps, extending)
    return { ...extending, principal: await deps.provisioners[grant.attach].replacePolicy(grant.principal, grant.attach, policy, until) }
  } catch (cause) {
    const back = { ...accessOf(grant), ...(scheduled && { dueAt }) }
    await compensate(deps, actor, extending ?? grant, { made: null, keep: null, back, action: 'extend-failed' })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

/** A change that is refused releases the grant: nothing has changed yet. */
const accessOrRelease = async (
  deps: GrantDeps, caller: Caller, grant: Grant, change: Change
): Promise<ProvenAccess> => {
  try {
    const access = changedAccess(deps, caller, grant, change)
    if (isScheduled(grant)) refuseEndBefore(grant.issueAt, access.spec)
    if (grant.maxWorkers !== null) await refuseForWorkers(deps, caller, grant, access.spec)
    return access
  } catch (problem) {
    await release(deps, grant)
    throw problem
  }
}

/** The stages of issue(), for the spec of the grant with the change in it. */
export const changedAccess = (deps: GrantDeps, caller: Caller, grant: Grant, change: Change): ProvenAccess => {
  const normalised = normalisedChange(deps, grant, change)
  // The guardrails see what was requested, as at the issue. What is rendered must fit into the attachment that the grant has.
  const { attach, profile } = grant.spec
  const authorised = authorise(deps, caller, 'extend', { ...normalised, spec: { ...normalised.spec, attach } }, grant.owner, undefined,
    grant.principal.account)
  if (grant.attach === 'session') refuseLess(grant, authorised.spec)
  const access = proveAccess(renderAccess(deps.deployment, { ...authorised, spec: { ...authorised.spec, attach: grant.attach } }))
  return { ...access, spec: { ...access.spec, attach, ...(profile !== undefined && { profile }) } }
}

const normalisedChange = (deps: GrantDeps, grant: Grant, change: Change): NormalisedRequest => {
  const profile = requireProfile(deps, grant)
  const firstIssuedAt = firstIssueOf(grant)
  const ofWorkers = grant.maxWorkers !== null
  const findings = unfitFor(grant, change)
  if (findings.length > 0) throw ProblemError.of(findings)
  // The attachment stays the same: a policy that has become too long for it is refused.
  const current = { spec: { ...grant.spec, attach: grant.attach }, firstIssuedAt, active: !isScheduled(grant) }
  const normalised = normaliseChange(current, change, limitsOf(deps.deployment, ofWorkers), new Date(deps.now()))
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  const { spec, warnings } = normalised
  return { spec, warnings, profileName: profile?.name, firstIssuedAt, ...(grant.maxWorkers !== null && { workers: grant.maxWorkers }) }
}

/** The role profile that the grant was permitted with; a session of another role is another access. @throws ProblemError */
export const requireProfile = (deps: GrantDeps, { attach, principal, spec }: Grant): RoleProfile | undefined => {
  const profile = profileOfGrant(deps.deployment.profiles, principal.roleArn, spec.profile)
  if (attach !== 'session' || profile) return profile
  throw new ProblemError('session-unfit', {
    detail: 'The role profile of this grant is not in the configuration any more, so that it gets no further session.',
    hint: 'Complete the grant, and ask for a new one.'
  })
}

/** A job of workers has a window, and its workers have the sources. */
const unfitFor = ({ maxWorkers, parentId }: Grant, change: Change): Finding[] => {
  const finding = (field: keyof Change, detail: string, hint: string): Finding =>
    ({ code: 'workers-unfit', pointer: `/${field}`, detail, hint })
  const given = (['window', 'sourceIps', 'vpc'] as const).filter(field => change[field] !== undefined)
  if (maxWorkers !== null) {
    return given.filter(field => field !== 'window').map(field =>
      finding(field, 'Each worker of this job has a source of its own.', 'Let the worker join again, with another attempt.'))
  }
  if (parentId === null) return []
  return given.map(field => field === 'window'
    ? finding(field, 'A worker’s window is its job’s.', `Change the window of grant ${parentId}.`)
    : finding(field, 'A worker has the source with which it joined.', 'Join again under its name, with another attempt.'))
}

/** What cannot be brought to some worker is said before anything changes. A longer statement may not fit where the shorter one did. */
const refuseForWorkers = async (deps: GrantDeps, caller: Caller, job: Grant, spec: AccessSpec): Promise<void> => {
  for (const worker of await deps.ledger.workersOf(job.id)) {
    const wanted = { ...inWindowOf(spec, worker.spec), attach: worker.attach }
    await deps.turn(caller.id, { holds: true })
    const { finding } = attachmentFor(wanted, measure(render(wanted)), deps.deployment.dialect)
    if (finding) throw ProblemError.of([{ ...finding, detail: `Of worker ${worker.worker}: ${finding.detail}` }])
    if (worker.attach === 'session') refuseLess(worker, wanted)
  }
}

/** A session keeps its policy, so what the ledger says of the window must not be less than what a living session still allows. */
const refuseLess = (grant: Grant, { window }: AccessSpec): void => {
  const lastEnd = sessionEnd(grant)
  const [before, after] = [instantsOf(grant.spec.window), instantsOf(window)]
  const startsLater = after.start > before.start && lastEnd > before.start
  const grace = after.outputEnd - after.end
  const soonest = Math.max(Math.min(before.end, lastEnd), Math.min(before.outputEnd, lastEnd) - grace)
  if (!startsLater && after.end >= soonest) return
  throw ProblemError.of([{
    code: 'session-unfit',
    pointer: '/window',
    detail: `A session of this grant works until ${toIso(lastEnd)}, in the window that it was given, and cannot be changed.`,
    hint: startsLater
      ? 'Leave notBefore out, or complete the grant and ask for a new one.'
      : `End the window at or after ${toIso(Math.ceil(soonest / 1000) * 1000)}, or complete the grant and ask for a new one.`
  }])
}

const instantsOf = ({ notBefore, notAfter, outputNotAfter }: Window) =>
  ({ start: Date.parse(notBefore), end: Date.parse(notAfter), outputEnd: Date.parse(outputNotAfter) })

const refuseEndBefore = (issueAt: number | null, { window }: AccessSpec): void => {
  if (issueAt === null || issueAt < Date.parse(window.outputNotAfter)) return
  throw ProblemError.of([{
    code: 'window-invalid',
    pointer: '/window',
    detail: 'The window would end before its key is minted.',
    hint: 'End it after the grant’s issueAt, or complete the grant.'
  }])
}
