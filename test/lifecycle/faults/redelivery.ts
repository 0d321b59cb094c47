import type { PolicyAttachment } from '../../../src/domain/access-spec.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import type { Delivery } from '../../../src/lifecycle/provision.ts'
import type { GrantRequest } from '../../../src/request.ts'
import { whole } from '../order.ts'
import { identityOf, orderOf, jobRequest, leaseMs, never, owner, rows, type Replica, type World } from '../world.ts'
import type { Operation } from './table.ts'

type Ask = (r: Replica) => Promise<Delivery>

/** The attempt says that it is a retry. */
export const asking = (attach: PolicyAttachment, change: Partial<GrantRequest> = {}): Ask => ({ deps }) =>
  issue(deps, owner, orderOf(jobRequest({ attach, attempt: '1', ...change })))

/** A request for a grant that is there. */
export const redelivery = (name: string, ask: Ask, arrange: (w: World) => Promise<Delivery | null>): Operation => ({
  name,
  arrange,
  act: ask,
  rival: ask,
  async after (t, w, { before }) {
    const grants = await rows(w)
    const live = grants.filter(({ dueAt }) => dueAt !== null)
    t.ok(live.length <= 1 && live.every(({ state }) => state === 'active'), 'another grant only after the first has ended')
    // A session before it lives on.
    if (before && before.grant.attach !== 'session' && live[0]?.policyHash !== before.grant.policyHash) {
      t.equal(await identityOf(w, before.credentials), undefined, 'no key outlives the policy with which it was delivered')
    }
    const again = await ask(w.healthy)
    await whole(t, w, again)
    t.equal((await w.store.get(again.grant.id))?.policyHash, again.grant.policyHash)
    t.equal(w.iam.state.userCount, again.grant.attach === 'session' ? 0 : 1)
  }
})

/** A replica made the user and died before it could say so. */
export const crashed = (attach: PolicyAttachment, call: string) => async (w: World): Promise<null> => {
  const dying = await w.replica()
  w.iam.faults.on({ action: call, nth: 1 }, { kind: 'run', after: () => dying.die() })
  await Promise.race([asking(attach)(dying).then(never, never), dying.died])
  w.iam.faults.clear()
  w.clock.advance(leaseMs + 1)
  return null
}
