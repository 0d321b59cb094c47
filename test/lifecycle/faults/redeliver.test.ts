import t from 'tap'
import { asking, crashed, redelivery } from './redelivery.ts'
import { faultsOf } from './table.ts'

t.setTimeout(600_000)

const operations = [
  redelivery('redeliver inline', asking('inline'), w => asking('inline')(w.healthy)),
  redelivery('redeliver managed', asking('managed'), w => asking('managed')(w.healthy)),
  redelivery('take up a crashed issue', asking('inline'), crashed('inline', 'CreateAccessKey')),
  redelivery('take up a crashed issue, managed', asking('managed'), crashed('managed', 'CreatePolicy')),
  redelivery('redeliver session', asking('session'), w => asking('session')(w.healthy)),
  redelivery('take up a crashed issue, session', asking('session'), crashed('session', 'AssumeRole'))
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
