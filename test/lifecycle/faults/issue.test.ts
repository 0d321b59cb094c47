import t from 'tap'
import { issue } from '../../../src/lifecycle/issue.ts'
import { ProblemError } from '../../../src/problems.ts'
import { whole } from '../order.ts'
import { orderOf, jobRequest, owner, rows, type Replica } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const issuing = (attach: 'inline' | 'managed' | 'session'): Operation => {
  // The attempt says that the client comes back: it is the same start.
  const ask = ({ deps }: Replica) => issue(deps, owner, orderOf(jobRequest({ attach, attempt: '1' })))
  return {
    name: `issue ${attach}`,
    arrange: async () => null,
    act: ask,
    rival: ask,
    async after (t, w, { outcome, last }) {
      if (outcome.kind === 'refused') t.ok(outcome.error instanceof Error, String(outcome.error))
      const grants = await rows(w)
      const active = grants.filter(({ state }) => state === 'active').length
      // Killed after the ledger knew: the grant stands, and the retry below gets its key.
      // So may a session whose end a ledger that was down did not hear of: no list of the provider tells.
      if (outcome.kind === 'killed' || (attach === 'session' && outcome.kind === 'refused')) t.ok(active <= 1)
      else t.equal(active, last ? 1 : 0, 'active: what was answered, nothing else')
      // The client comes back.
      await whole(t, w, await ask(w.healthy))
      t.equal(w.iam.state.userCount, attach === 'session' ? 0 : 1)
      t.ok(!(outcome.kind === 'refused' && outcome.error instanceof ProblemError && outcome.error.code === 'internal'), 'no internal error')
    }
  }
}

for (const attach of ['inline', 'managed', 'session'] as const) {
  await t.test(`issue ${attach}`, t => faultsOf(t, issuing(attach)))
}
