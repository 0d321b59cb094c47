import { isIamError } from '../iam/errors.ts'
import type { Grant } from '../domain/grant.ts'
import type { NewEvent } from '../ledger/ledger.ts'
import { normaliseChange, type Change } from '../policy/normalise.ts'
import { ProblemError } from '../problems.ts'
import { commit, dueAfter, event, planOf, release, type Actor, type GrantDeps } from './deps.ts'
import { fenced, undo } from './fence.ts'
import { iamProblem } from './iam-problem.ts'
import { heldLive, orGiveBack } from './live.ts'
import { limitsOf, settle, type Guard, type Prepared } from './prepare.ts'

type Wanted = Pick<Grant, 'spec' | 'policy' | 'policyHash' | 'notBefore' | 'expiresAt'>

/**
 * Moves the window or changes the source of a live grant: one PutUserPolicy, the key stays. The ledger holds what is
 * wanted before the provider is asked; a crash in between is mended by the sweeper towards the ledger.
 */
export const extend = async (
  deps: GrantDeps, actor: Actor, id: string, change: Change, guard: Guard
): Promise<{ grant: Grant, prepared: Prepared }> => {
  const grant = await heldLive(deps, id)
  const scheduled = grant.state === 'pending' && grant.issueAt !== null
  if (!scheduled) await orGiveBack(deps, grant)
  let prepared: Prepared
  try {
    prepared = preparedChange(deps, grant, change, guard)
    if (scheduled) refuseEndBefore(grant.issueAt, prepared)
  } catch (problem) {
    await release(deps, grant)
    throw problem
  }
  const wanted: Wanted = {
    spec: prepared.spec,
    policy: prepared.policy,
    policyHash: prepared.measure.sha256,
    notBefore: Date.parse(prepared.spec.window.notBefore),
    expiresAt: Date.parse(prepared.spec.window.outputNotAfter)
  }
  const detail = { notAfter: prepared.spec.window.notAfter, previousHash: grant.policyHash }
  if (scheduled) {
    const changed = await commit(deps, grant, { ...wanted, claimedUntil: null }, event(actor, 'extended', detail, wanted.policyHash))
    return { grant: changed, prepared }
  }
  const extending = await replaced(deps, actor, grant, wanted, event(actor, 'extending', detail, wanted.policyHash))
  const { principal } = extending
  const extended = await commit(deps, extending, { principal, dueAt: dueAfter(grant, extending), claimedUntil: null },
    event(actor, 'extended', detail, wanted.policyHash))
  return { grant: extended, prepared }
}

/** Intent, then effect. A failure takes both back: the provider may hold either policy, so the sweeper puts the old one again. */
const replaced = async (deps: GrantDeps, actor: Actor, grant: Grant, wanted: Wanted, what: NewEvent): Promise<Grant> => {
  let extending: Grant | undefined
  try {
    extending = await commit(deps, grant, { ...wanted, dueAt: deps.now() + deps.leaseMs }, what)
    const { attachment, policy } = planOf(extending)
    const principal = await deps.principals(grant.attach).replacePolicy(grant.principal, attachment, policy, fenced(deps, extending))
    return { ...extending, principal }
  } catch (cause) {
    const { spec, policy, policyHash, notBefore, expiresAt } = grant
    await undo(deps, actor, extending ?? grant, {
      made: null, keep: null, back: { spec, policy, policyHash, notBefore, expiresAt }, action: 'extend-failed'
    })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

const refuseEndBefore = (issueAt: number | null, { spec }: Prepared): void => {
  if (issueAt === null || issueAt < Date.parse(spec.window.outputNotAfter)) return
  throw ProblemError.of([{
    code: 'window-invalid',
    pointer: '/window',
    detail: 'The window would end before its key is minted.',
    hint: 'End it after the grant’s issueAt, or complete the grant.'
  }])
}

const preparedChange = (deps: GrantDeps, grant: Grant, change: Change, guard: Guard): Prepared => {
  if (grant.attach === 'session') {
    throw new ProblemError('session-unfit', {
      detail: 'A role session cannot be changed.',
      hint: 'Ask for a new grant; a grant with attach auto can be extended.'
    })
  }
  // The carrier stays what it is: a policy that outgrew it is refused, not moved.
  const normalised = normaliseChange({ ...grant.spec, attach: grant.attach }, change, limitsOf(deps.rules()), new Date(deps.now()))
  const prepared = settle(deps.rules(), normalised, guard, deps.now())
  return { ...prepared, spec: { ...prepared.spec, attach: grant.spec.attach } }
}
