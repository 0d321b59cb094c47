import t from 'tap'
import { faultsOf } from './table.ts'
import { issuing, joining, rejoining } from './worker-operations.ts'

t.setTimeout(600_000)

const operations = [issuing, joining('managed'), rejoining('managed')]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
