import t from 'tap'
import { extend } from '../../../src/lifecycle/extend.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import { rotate } from '../../../src/lifecycle/rotate.ts'
import { whole } from '../order.ts'
import { orderOf, jobRequest, leaseMs, never, owner, rows, swept, type Replica, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const give = (w: World) => issue(w.healthy.deps, owner, orderOf(jobRequest()))

const sweeping = (name: string, arrange: Operation['arrange'], after: Operation['after'], rival?: Operation['rival']): Operation => ({
  name, arrange, after, ...(rival && { rival }), act: async r => { await swept(r); return null }
})

const died = async (w: World, call: string, act: (w: Replica) => Promise<unknown>) => {
  const dying = await w.replica()
  w.iam.faults.on({ action: call, nth: 1 }, { kind: 'run', after: () => dying.die() })
  await Promise.race([act(dying).then(never, never), dying.died])
  w.iam.faults.clear()
  w.clock.advance(leaseMs + 1)
}

const over: Operation['after'] = async (t, w) => {
  t.match(await rows(w), [{ state: 'expired', idempotencyKey: null }])
  t.equal(w.iam.state.userCount, 0)
}

const alive: Operation['after'] = async (t, w, { before, last }) => {
  const [grant] = await rows(w)
  if (grant && before) await whole(t, w, { ...before, ...(last && 'credentials' in last && last), grant })
  t.equal(grant?.dueAt, grant?.expiresAt)
}

const operations = [
  sweeping('sweep what has expired', async w => {
    const before = await give(w)
    w.clock.advance(10_800_000)
    return before
  }, over),
  sweeping('sweep a key after its overlap', async w => {
    const rotated = await rotate(w.healthy.deps, owner, (await give(w)).grant.id, 60)
    w.clock.advance(60_000)
    return rotated
  }, alive, ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', 0)),
  sweeping('mend a crashed rotation', async w => {
    const before = await give(w)
    await died(w, 'CreateAccessKey', ({ deps }) => rotate(deps, owner, before.grant.id, 60))
    return before
  }, alive, ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', 60)),
  sweeping('mend a crashed rotation whose predecessor’s overlap is over', async w => {
    const before = await rotate(w.healthy.deps, owner, (await give(w)).grant.id, 10)
    await died(w, 'CreateAccessKey', ({ deps }) => rotate(deps, owner, before.grant.id, 0))
    return before
  }, alive),
  sweeping('mend a crashed extension', async w => {
    const before = await give(w)
    await died(w, 'PutUserPolicy', ({ deps }) => extend(deps, owner, before.grant.id, { window: { durationSeconds: 20_000 } }))
    return before
  }, alive)
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
