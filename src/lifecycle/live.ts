import type { Grant } from '../ledger/grant.ts'
import { Problem } from '../problems.ts'
import { found, held, release, type Desk } from './desk.ts'

/** Takes a grant that has not ended; asked before it is claimed, so that nothing is written after its end. @throws Problem */
export const heldLive = async (desk: Desk, id: string): Promise<Grant> => {
  const grant = await found(desk, id)
  if (grant.dueAt === null) throw inactive(grant)
  return held(desk, id)
}

/** Takes a grant that is active and whose window is not over. @throws Problem */
export const heldActive = async (desk: Desk, id: string): Promise<Grant> => orGiveBack(desk, await heldLive(desk, id))

/** Gives back a held grant that is not active, or whose window is over. @throws Problem then */
export const orGiveBack = async (desk: Desk, grant: Grant): Promise<Grant> => {
  if (grant.state === 'active' && desk.now() < grant.expiresAt) return grant
  await release(desk, grant)
  throw inactive(grant)
}

const inactive = ({ state }: Grant): Problem => new Problem('grant-state', {
  detail: state === 'active' ? 'The grant’s window is over.' : `The grant is ${state}.`,
  hint: 'Only active grants can be changed; ask for a new one with POST /v1/grants.'
})
