import t from 'tap'
import { extend } from '../../../src/lifecycle/extend.ts'
import { leaseMs, owner, swept } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'
import { completing, endingOne, extending, twoWorkers } from './worker-operations.ts'

t.setTimeout(1_200_000)

/** The policy has all its versions, so that one more needs calls before it. */
const extendingAgain: Operation = {
  ...extending('managed', async w => {
    const delivery = await twoWorkers('managed')(w)
    for (let hours = 1; hours <= 4; hours++) {
      await extend(w.healthy.deps, owner, delivery.grant.parentId ?? '', { window: { durationSeconds: hours * 3600 } })
    }
    return { ...delivery, grant: await w.store.get(delivery.grant.id) ?? delivery.grant }
  }),
  name: 'extend two workers managed for the fifth time'
}

/** The policy is changed already, and a worker was held by another operation: only the ledger is behind. */
const extendingRest: Operation = {
  ...extending('managed', async w => {
    const delivery = await twoWorkers('managed')(w)
    await w.store.claim(delivery.grant.id, w.clock.now, w.clock.now + leaseMs)
    await extend(w.healthy.deps, owner, delivery.grant.parentId ?? '', { window: { durationSeconds: 20_000 } })
    w.clock.advance(leaseMs + 1)
    return { ...delivery, grant: await w.store.get(delivery.grant.id) ?? delivery.grant }
  }),
  name: 'extend the worker that was left',
  async act (r, before) {
    await swept(r)
    return await r.deps.ledger.get(before?.grant.id ?? '') ?? null
  }
}

const operations = [
  extending('managed'),
  extendingAgain,
  extendingRest,
  completing('managed'),
  endingOne('managed')
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
