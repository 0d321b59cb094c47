import t from 'tap'
import { mostSkewMs } from '../../src/ledger/ledger.ts'
import { assertLease } from '../../src/lifecycle/lease.ts'
import type { GrantDeps } from '../../src/lifecycle/deps.ts'
import type { Grant } from '../../src/domain/grant.ts'

const [claimedAt, leaseMs] = [1_000_000_000, 45_000]
const grant = { id: 'a', claimedUntil: claimedAt + leaseMs } as Grant
const asserted = (now: number) => assertLease({ now: () => now, waitingNow: () => 0, leaseMs, deadlineMs: 15_000 } as GrantDeps, grant)

t.test('a lease holds until its end, and not after the clock was set back so far that the ledger gives it to another', async t => {
  for (const now of [claimedAt, claimedAt + leaseMs - 1, claimedAt - mostSkewMs]) t.equal(asserted(now), 15_000, `${now - claimedAt}`)
  for (const now of [claimedAt + leaseMs, claimedAt - mostSkewMs - 1, claimedAt - 7_200_000]) {
    t.throws(() => asserted(now), { name: 'StaleGrantError' }, `${now - claimedAt}`)
  }
})
