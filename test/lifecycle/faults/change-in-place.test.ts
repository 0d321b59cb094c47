import t from 'tap'
import { asking, crashed, redelivery } from './redelivery.ts'
import { faultsOf } from './table.ts'

t.setTimeout(600_000)

/** Another start, from elsewhere and for longer. */
const elsewhere = { attempt: '2', sourceIps: ['203.0.113.43'], window: { durationSeconds: 14_400 } }

const operations = [
  redelivery('change in place inline', asking('inline', elsewhere), w => asking('inline')(w.healthy)),
  redelivery('change in place managed', asking('managed', elsewhere), w => asking('managed')(w.healthy)),
  redelivery('change a crashed issue in place, managed', asking('managed', elsewhere), crashed('managed', 'CreatePolicy'))
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
