import type { AccessSpec, Window } from '../domain/access-spec.ts'
import type { NewGrantEvent } from '../domain/events.ts'
import type { Grant } from '../domain/grant.ts'
import { isIamError } from '../iam/errors.ts'
import { profileOfGrant, sessionEnd } from '../iam/role-profile.ts'
import { normaliseChange, type Change } from '../policy/normalise.ts'
import { firstIssueOf, toIso } from '../policy/window.ts'
import { ProblemError } from '../problems.ts'
import { authorise, limitsOf, proveAccess, renderAccess, type NormalisedRequest, type ProvenAccess } from './access.ts'
import { grantOfTeam } from './authorise.ts'
import { assertLease, claimLive, commit, dueAfter, event, release, requireActive } from './lease.ts'
import { compensate } from './compensate.ts'
import type { Actor, Caller, GrantDeps } from './deps.ts'
import { iamProblem } from './iam-problem.ts'

type Wanted = Pick<Grant, 'spec' | 'policy' | 'policyHash' | 'notBefore' | 'expiresAt'>

/**
 * Moves the window or changes the source of a live grant by one PutUserPolicy; the key stays. The change is committed before the
 * provider is asked. After a crash in between, the sweeper gives the provider the policy that the ledger has. A session keeps the policy
 * that it was given; the next one of its grant gets the new policy.
 * @throws ProblemError
 */
export const extend = async (deps: GrantDeps, caller: Caller, id: string, change: Change): Promise<Grant> => {
  const grant = await claimLive(deps, await grantOfTeam(deps, caller, id, 'extend'))
  const scheduled = isScheduled(grant)
  if (!scheduled) await requireActive(deps, grant)
  const access = await accessOrRelease(deps, caller, grant, change)
  const wanted: Wanted = {
    spec: access.spec,
    policy: access.policy,
    policyHash: access.measure.sha256,
    notBefore: Date.parse(access.spec.window.notBefore),
    expiresAt: Date.parse(access.spec.window.outputNotAfter)
  }
  const detail = { notAfter: access.spec.window.notAfter, previousHash: grant.policyHash }
  const done = event(caller, 'extended', detail, wanted.policyHash)
  if (scheduled) return commit(deps, grant, { ...wanted, claimedUntil: null }, done)
  if (grant.attach === 'session') {
    return commit(deps, grant, { ...wanted, dueAt: dueAfter(grant, { ...grant, ...wanted }), claimedUntil: null }, done)
  }
  const extending = await replacePolicy(deps, caller, grant, access, wanted, event(caller, 'extending', detail, wanted.policyHash))
  const { principal } = extending
  return commit(deps, extending, { principal, dueAt: dueAfter(grant, extending), claimedUntil: null }, done)
}

/** Nothing of it exists at the provider yet. */
const isScheduled = ({ state, issueAt }: Grant): boolean => state === 'pending' && issueAt !== null

/** Commits the intent, then calls the provider. After a failure the provider may have either policy: the sweeper restores the old one. */
const replacePolicy = async (
  deps: GrantDeps, actor: Actor, grant: Grant, access: ProvenAccess, wanted: Wanted, what: NewGrantEvent
): Promise<Grant> => {
  let extending: Grant | undefined
  try {
    extending = await commit(deps, grant, { ...wanted, dueAt: deps.now() + deps.leaseMs }, what)
    const until = assertLease(deps, extending)
    const principal = await deps.provisioners[grant.attach].replacePolicy(grant.principal, grant.attach, access.policy, until)
    return { ...extending, principal }
  } catch (cause) {
    const { spec, policy, policyHash, notBefore, expiresAt } = grant
    await compensate(deps, actor, extending ?? grant, {
      made: null, keep: null, back: { spec, policy, policyHash, notBefore, expiresAt }, action: 'extend-failed'
    })
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
    if (grant.attach === 'session') refuseLess(grant, access.spec)
    return access
  } catch (problem) {
    await release(deps, grant)
    throw problem
  }
}

/** The stages of issue(), for the spec of the grant with the change in it. */
const changedAccess = (deps: GrantDeps, caller: Caller, grant: Grant, change: Change): ProvenAccess => {
  const normalised = normalisedChange(deps, grant, change)
  const authorised = authorise(deps, caller, 'extend', normalised, grant.owner)
  const access = proveAccess(renderAccess(deps.deployment, authorised))
  const { attach, profile } = grant.spec
  return { ...access, spec: { ...access.spec, attach, ...(profile !== undefined && { profile }) } }
}

const normalisedChange = (deps: GrantDeps, grant: Grant, change: Change): NormalisedRequest => {
  const profile = profileOfGrant(deps.deployment.profiles, grant.principal.roleArn, grant.spec.profile)
  if (grant.attach === 'session' && !profile) {
    throw new ProblemError('session-unfit', {
      detail: 'The role profile of this grant is not in the configuration any more, so that it gets no further session.',
      hint: 'Complete the grant, and ask for a new one.'
    })
  }
  const firstIssuedAt = firstIssueOf(grant)
  // The attachment stays the same: a policy that has become too long for it is refused.
  const current = { spec: { ...grant.spec, attach: grant.attach }, firstIssuedAt, active: !isScheduled(grant) }
  const normalised = normaliseChange(current, change, limitsOf(deps.deployment), new Date(deps.now()))
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  return { spec: normalised.spec, warnings: normalised.warnings, profileName: profile?.name, firstIssuedAt }
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
