import type { AccessSpec } from '../domain/access-spec.ts'
import type { NewGrantEvent } from '../domain/events.ts'
import type { Grant } from '../domain/grant.ts'
import { isIamError } from '../iam/errors.ts'
import { normaliseChange, type Change } from '../policy/normalise.ts'
import { firstIssueOf } from '../policy/window.ts'
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
 * provider is asked. After a crash in between, the sweeper gives the provider the policy that the ledger has.
 * @throws ProblemError
 */
export const extend = async (deps: GrantDeps, caller: Caller, id: string, change: Change): Promise<Grant> => {
  const grant = await claimLive(deps, await grantOfTeam(deps, caller, id, 'extend'))
  const scheduled = isScheduled(grant)
  if (!scheduled) await requireActive(deps, grant)
  await deps.turn(caller.id)
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
    return access
  } catch (problem) {
    await release(deps, grant)
    throw problem
  }
}

/** The stages of issue(), for the spec of the grant with the change in it. */
const changedAccess = (deps: GrantDeps, caller: Caller, grant: Grant, change: Change): ProvenAccess => {
  const normalised = normalisedChange(deps, grant, change)
  // The guardrails see what was requested, as at the issue. What is rendered must fit into the attachment that the grant has.
  const { attach } = grant.spec
  const authorised = authorise(deps, caller, 'extend', { ...normalised, spec: { ...normalised.spec, attach } }, grant.owner)
  const fixed = { ...authorised, spec: { ...authorised.spec, attach: grant.attach } }
  const access = proveAccess(renderAccess(deps.deployment, fixed, deps.now()))
  return { ...access, spec: { ...access.spec, attach } }
}

const normalisedChange = (deps: GrantDeps, grant: Grant, change: Change): NormalisedRequest => {
  if (grant.attach === 'session') {
    throw new ProblemError('session-unfit', {
      detail: 'A role session cannot be changed.',
      hint: 'Ask for a new grant; a grant with attach auto can be extended.'
    })
  }
  const firstIssuedAt = firstIssueOf(grant)
  // The attachment stays the same: a policy that has become too long for it is refused.
  const current = { spec: { ...grant.spec, attach: grant.attach }, firstIssuedAt, active: !isScheduled(grant) }
  const normalised = normaliseChange(current, change, limitsOf(deps.deployment), new Date(deps.now()))
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  return { spec: normalised.spec, warnings: normalised.warnings, profileName: undefined, firstIssuedAt }
}

const refuseEndBefore = (issueAt: number | null, { window }: AccessSpec): void => {
  if (issueAt === null || issueAt < Date.parse(window.outputNotAfter)) return
  throw ProblemError.of([{
    code: 'window-invalid',
    pointer: '/window',
    detail: 'The window would end before its key is minted.',
    hint: 'End it after the grant’s issueAt, or complete the grant.'
  }])
}
