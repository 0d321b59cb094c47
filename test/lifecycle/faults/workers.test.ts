import t from 'tap'
import { faultsOf } from './table.ts'
import { completing, endingOne, extending, joining, rejoining } from './worker-operations.ts'

t.setTimeout(600_000)

const operations = [
  joining('inline'),
  joining('session'),
  rejoining('inline'),
  rejoining('session'),
  extending('inline'),
  completing('inline'),
  endingOne('inline')
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
