import { once } from 'node:events'
import { openLedger } from '../../src/ledger/open.ts'
import { start } from './grants.ts'

/** One of several processes on a ledger. Says so, waits for a word, then claims each of these grants, and prints those that it got. */
const [url = '', way = '', ...ids] = process.argv.slice(2)
const ledger = await openLedger({ url })
process.stdout.write('ready\n')
await once(process.stdin, 'data')
process.stdin.destroy()
const until = start + 120_000
const claimed = way === 'due'
  ? await ledger.claimDue(start + 60_000, until, ids.length)
  : await Promise.all(ids.map(id => ledger.claim(id, start, until)))
process.stdout.write(claimed.flatMap(grant => grant ? [`${grant.id}\n`] : []).join(''))
await ledger.close()
