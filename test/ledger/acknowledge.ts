import { openLedger } from '../../src/ledger/open.ts'
import { event, newGrant, unlimited } from './grants.ts'

/** A process that the test kills. Begins grants concurrently, as fast as it can, and prints the id of each acknowledged one. */
const [url = '', prefix = ''] = process.argv.slice(2)
const ledger = await openLedger({ url })

async function beginForever (lane: number): Promise<void> {
  for (let number = 0; ; number++) {
    const id = `${prefix}-${lane}-${String(number).padStart(6, '0')}`
    const begun = await ledger.begin(newGrant({ id }), event('pending'), unlimited)
    if (begun.outcome !== 'created') throw new Error(begun.outcome)
    process.stdout.write(`${id}\n`)
  }
}

await Promise.all([1, 2, 3, 4].map(beginForever))
