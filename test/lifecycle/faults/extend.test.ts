import t from 'tap'
import type { PolicyAttachment } from '../../../src/domain/access-spec.ts'
import type { Grant } from '../../../src/domain/grant.ts'
import { extend } from '../../../src/lifecycle/extend.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import { rotate } from '../../../src/lifecycle/rotate.ts'
import { whole } from '../order.ts'
import { orderOf, jobRequest, leaseMs, never, owner, rows, type Replica, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const give = (w: World, attach: PolicyAttachment) => issue(w.healthy.deps, owner, orderOf(jobRequest({ attach })))

const extendTo = async ({ deps }: Replica, id: string, durationSeconds: number): Promise<Grant> =>
  extend(deps, owner, id, { window: { durationSeconds } })

const extension = (name: string, arrange: Operation['arrange']): Operation => ({
  name,
  arrange,
  act: (r, before) => extendTo(r, before?.grant.id ?? '', 20_000),
  rival: (r, before) => extendTo(r, before?.grant.id ?? '', 15_000),
  keepsKey: true,
  async after (t, w, { before, last }) {
    const [grant] = await rows(w)
    if (last && 'expiresAt' in last) t.equal(grant?.expiresAt, last.expiresAt, 'the window is the one that was answered')
    if (before && grant) await whole(t, w, { ...before, grant })
    t.equal(grant?.dueAt, grant?.expiresAt)
  }
})

/** An extension after a rotation that died with a key at the provider that the ledger does not know. */
const withCrashedRotation = async (w: World) => {
  const before = await give(w, 'inline')
  const dying = await w.replica()
  w.iam.faults.on({ action: 'CreateAccessKey', nth: 1 }, { kind: 'run', after: () => dying.die() })
  await Promise.race([rotate(dying.deps, owner, before.grant.id, 0).then(never, never), dying.died])
  w.iam.faults.clear()
  w.clock.advance(leaseMs + 1)
  return before
}

/** A session gets the change with its successor. */
const sessionExtension: Operation = {
  name: 'extend session',
  arrange: w => give(w, 'session'),
  act: async (r, before) => rotate(r.deps, owner, (await extendTo(r, before?.grant.id ?? '', 20_000)).id, 0),
  rival: (r, before) => extendTo(r, before?.grant.id ?? '', 15_000),
  async after (t, w, { last }) {
    const [grant] = await rows(w)
    t.match(grant, { state: 'active', dueAt: grant?.expiresAt })
    if (last && 'credentials' in last) t.ok((grant?.sessionsEndAt ?? 0) >= Math.min(last.grant.expiresAt, last.credentials?.expiresAt ?? 0))
    const next = await rotate(w.healthy.deps, owner, grant?.id ?? '', 0)
    await whole(t, w, next)
    const asked = w.iam.calls.filter(({ action }) => action === 'AssumeRole').at(-1)
    t.equal(asked?.params.Policy, JSON.stringify(grant?.policy), 'the session has the policy of the ledger')
  }
}

const operations = [
  extension('extend inline', w => give(w, 'inline')),
  extension('extend managed', w => give(w, 'managed')),
  extension('extend after a crashed rotation', withCrashedRotation),
  sessionExtension
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
