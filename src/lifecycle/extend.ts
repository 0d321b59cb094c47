import { isIamError } from '../iam/errors.ts'
import type { Grant } from '../ledger/grant.ts'
import type { NewEvent } from '../ledger/ledger.ts'
import { readmit, type Change } from '../policy/admit.ts'
import { Problem } from '../problems.ts'
import { commit, dueAfter, event, planOf, release, type Actor, type Desk } from './desk.ts'
import { fenced, undo } from './fence.ts'
import { iamProblem } from './iam-problem.ts'
import { heldLive, orGiveBack } from './live.ts'
import { limitsOf, settle, type Guard, type Prepared } from './prepare.ts'

type Wanted = Pick<Grant, 'admitted' | 'policy' | 'policyHash' | 'notBefore' | 'expiresAt'>

/**
 * Moves the window or changes the source of a live grant: one PutUserPolicy, the key stays. The ledger holds what is
 * wanted before the provider is asked; a crash in between is mended by the sweeper towards the ledger.
 */
export const extend = async (
  desk: Desk, actor: Actor, id: string, change: Change, guard: Guard
): Promise<{ grant: Grant, prepared: Prepared }> => {
  const grant = await heldLive(desk, id)
  const scheduled = grant.state === 'pending' && grant.issueAt !== null
  if (!scheduled) await orGiveBack(desk, grant)
  let prepared: Prepared
  try {
    prepared = preparedChange(desk, grant, change, guard)
    if (scheduled) refuseEndBefore(grant.issueAt, prepared)
  } catch (problem) {
    await release(desk, grant)
    throw problem
  }
  const wanted: Wanted = {
    admitted: prepared.admitted,
    policy: prepared.policy,
    policyHash: prepared.measure.sha256,
    notBefore: Date.parse(prepared.admitted.window.notBefore),
    expiresAt: Date.parse(prepared.admitted.window.outputNotAfter)
  }
  const detail = { notAfter: prepared.admitted.window.notAfter, previousHash: grant.policyHash }
  if (scheduled) {
    const changed = await commit(desk, grant, { ...wanted, claimedUntil: null }, event(actor, 'extended', detail, wanted.policyHash))
    return { grant: changed, prepared }
  }
  const extending = await replaced(desk, actor, grant, wanted, event(actor, 'extending', detail, wanted.policyHash))
  const { principal } = extending
  const extended = await commit(desk, extending, { principal, dueAt: dueAfter(grant, extending), claimedUntil: null },
    event(actor, 'extended', detail, wanted.policyHash))
  return { grant: extended, prepared }
}

/** Intent, then effect. A failure takes both back: the provider may hold either policy, so the sweeper puts the old one again. */
const replaced = async (desk: Desk, actor: Actor, grant: Grant, wanted: Wanted, what: NewEvent): Promise<Grant> => {
  let extending: Grant | undefined
  try {
    extending = await commit(desk, grant, { ...wanted, dueAt: desk.now() + desk.leaseMs }, what)
    const { carrier, policy } = planOf(extending)
    const principal = await desk.principals(grant.attach).replacePolicy(grant.principal, carrier, policy, fenced(desk, extending))
    return { ...extending, principal }
  } catch (cause) {
    const { admitted, policy, policyHash, notBefore, expiresAt } = grant
    await undo(desk, actor, extending ?? grant, {
      made: null, keep: null, back: { admitted, policy, policyHash, notBefore, expiresAt }, action: 'extend-failed'
    })
    throw isIamError(cause) ? iamProblem(cause) : cause
  }
}

const refuseEndBefore = (issueAt: number | null, { admitted }: Prepared): void => {
  if (issueAt === null || issueAt < Date.parse(admitted.window.outputNotAfter)) return
  throw Problem.of([{
    code: 'window-invalid',
    pointer: '/window',
    detail: 'The window would end before its key is minted.',
    hint: 'End it after the grant’s issueAt, or complete the grant.'
  }])
}

const preparedChange = (desk: Desk, grant: Grant, change: Change, guard: Guard): Prepared => {
  if (grant.attach === 'session') {
    throw new Problem('session-unfit', {
      detail: 'A role session cannot be changed.',
      hint: 'Ask for a new grant; a grant with attach auto can be extended.'
    })
  }
  // The carrier stays what it is: a policy that outgrew it is refused, not moved.
  const admission = readmit({ ...grant.admitted, attach: grant.attach }, change, limitsOf(desk.rules()), new Date(desk.now()))
  const prepared = settle(desk.rules(), admission, guard, desk.now())
  return { ...prepared, admitted: { ...prepared.admitted, attach: grant.admitted.attach } }
}
