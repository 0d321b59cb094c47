import t from 'tap'
import { extend } from '../../../src/lifecycle/extend.ts'
import { owner } from '../world.ts'
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

const operations = [
  extending('managed'),
  extendingAgain,
  completing('managed'),
  endingOne('managed')
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
