import t from 'tap'
import type { PolicyAttachment } from '../../../src/domain/access-spec.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import type { Delivery } from '../../../src/lifecycle/provision.ts'
import { whole } from '../order.ts'
import { orderOf, jobRequest, leaseMs, never, owner, rows, type Replica, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const ask = (attach: PolicyAttachment) => ({ deps }: Replica): Promise<Delivery> => issue(deps, owner, orderOf(jobRequest({ attach })))

const redelivery = (name: string, attach: PolicyAttachment, arrange: (w: World) => Promise<Delivery | null>): Operation => ({
  name,
  arrange,
  act: ask(attach),
  rival: ask(attach),
  async after (t, w) {
    const grants = await rows(w)
    const live = grants.filter(({ dueAt }) => dueAt !== null)
    t.ok(live.length <= 1 && live.every(({ state }) => state === 'active'), 'another grant only after the first has ended')
    await whole(t, w, await ask(attach)(w.healthy))
    t.equal(w.iam.state.userCount, attach === 'session' ? 0 : 1)
  }
})

/** A replica made the user and died before it could say so. */
const crashed = (attach: PolicyAttachment, call: string) => async (w: World): Promise<null> => {
  const dying = await w.replica()
  w.iam.faults.on({ action: call, nth: 1 }, { kind: 'run', after: () => dying.die() })
  await Promise.race([ask(attach)(dying).then(never, never), dying.died])
  w.iam.faults.clear()
  w.clock.advance(leaseMs + 1)
  return null
}

const operations = [
  redelivery('redeliver inline', 'inline', w => ask('inline')(w.healthy)),
  redelivery('redeliver managed', 'managed', w => ask('managed')(w.healthy)),
  redelivery('take up a crashed issue', 'inline', crashed('inline', 'CreateAccessKey')),
  redelivery('take up a crashed issue, managed', 'managed', crashed('managed', 'CreatePolicy')),
  redelivery('redeliver session', 'session', w => ask('session')(w.healthy)),
  redelivery('take up a crashed issue, session', 'session', crashed('session', 'AssumeRole'))
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
