import t from 'tap'
import { issue } from '../../../src/lifecycle/issue.ts'
import { rotate } from '../../../src/lifecycle/rotate.ts'
import { whole } from '../order.ts'
import { identityOf, orderOf, jobRequest, owner, rows, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const give = (w: World) => issue(w.healthy.deps, owner, orderOf(jobRequest()))

const rotation = (name: string, overlapSeconds: number, arrange: Operation['arrange']): Operation => ({
  name,
  arrange,
  act: ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', overlapSeconds),
  rival: ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', overlapSeconds),
  keepsKey: true,
  async after (t, w, { before, outcome }) {
    const [grant] = await rows(w)
    t.equal(grant?.state, 'active')
    t.equal(grant?.previousKeyId, null, 'the overlap is over')
    if (outcome.kind === 'answered') t.equal(await identityOf(w, before?.credentials ?? null), undefined, 'the old key is dead')
    await whole(t, w, await rotate(w.healthy.deps, owner, grant?.id ?? '', overlapSeconds))
  }
})

/** The next session. The one before cannot be ended, so the ledger must know it as well, whatever failed. */
const nextSession: Operation = {
  name: 'next session',
  arrange: w => issue(w.healthy.deps, owner, orderOf(jobRequest({ attach: 'session', window: { durationSeconds: 86_400 } }))),
  act: ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', 0),
  rival: ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', 0),
  async after (t, w, { before, last }) {
    const [grant] = await rows(w)
    t.equal(grant?.state, 'active')
    t.ok(await identityOf(w, before?.credentials ?? null), 'the session before works on')
    const given = [before, last].map(delivery => delivery && 'credentials' in delivery ? delivery.credentials?.expiresAt ?? 0 : 0)
    t.ok((grant?.sessionsEndAt ?? 0) >= Math.max(...given), 'the ledger knows until when')
    await whole(t, w, await rotate(w.healthy.deps, owner, grant?.id ?? '', 0))
  }
}

const operations = [
  rotation('rotate at once', 0, give),
  rotation('rotate with overlap', 60, give),
  rotation('rotate within an overlap', 60, async w => rotate(w.healthy.deps, owner, (await give(w)).grant.id, 600)),
  nextSession
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
