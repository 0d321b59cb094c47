import type { Grant } from '../domain/grant.ts'
import { ProblemError } from '../problems.ts'
import { found, held, release, type GrantDeps } from './deps.ts'

/** Takes a grant that has not ended; asked before it is claimed, so that nothing is written after its end. @throws ProblemError */
export const heldLive = async (deps: GrantDeps, id: string): Promise<Grant> => {
  const grant = await found(deps, id)
  if (grant.dueAt === null) throw inactive(grant)
  return held(deps, id)
}

/** Takes a grant that is active and whose window is not over. @throws ProblemError */
export const heldActive = async (deps: GrantDeps, id: string): Promise<Grant> => orGiveBack(deps, await heldLive(deps, id))

/** Gives back a held grant that is not active, or whose window is over. @throws ProblemError then */
export const orGiveBack = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  if (grant.state === 'active' && deps.now() < grant.expiresAt) return grant
  await release(deps, grant)
  throw inactive(grant)
}

const inactive = ({ state }: Grant): ProblemError => new ProblemError('grant-state', {
  detail: state === 'active' ? 'The grant’s window is over.' : `The grant is ${state}.`,
  hint: 'Only active grants can be changed; ask for a new one with POST /v1/grants.'
})
