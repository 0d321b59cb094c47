import t, { type Test } from 'tap'
import { issue } from '../../../src/lifecycle/issue.ts'
import { whole } from '../order.ts'
import { jobRequest, orderOf, owner, rows, type Replica, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

// Two accounts: whatever fails, an issue ends in a complete grant in exactly one of them, or with no live key in any.

t.setTimeout(300_000)

const issuing = (attach: 'inline' | 'managed', pool: 'a' | 'b'): Operation => {
  const ask = ({ deps }: Replica) => issue(deps, owner, orderOf(jobRequest({ attach, attempt: '1' })))
  const counted = (w: World) => w.accounts.map(account => w.at(account).iam.state)
    .map(({ users, policies }) => [users.length, users.flatMap(({ keys }) => keys).length, policies.length])
  return {
    name: pool === 'a' ? `issue ${attach} in a pool` : `issue ${attach} in the second account`,
    world: { pool },
    async arrange (w) {
      // The first account has a quota of its own that the service does not know of.
      if (pool === 'b') w.at('a').iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'LimitExceeded' })
      return null
    },
    act: ask,
    rival: ask,
    async after (t: Test, w, { outcome, last }) {
      const active = (await rows(w)).filter(({ state }) => state === 'active')
      // Killed after the ledger knew: the grant stands, and the retry below gets its key.
      if (outcome.kind === 'killed') t.ok(active.length <= 1)
      else t.equal(active.length, last ? 1 : 0, 'active: what was answered, nothing else')
      const only = (name: string | undefined, kind: 'inline' | 'managed') =>
        w.accounts.map(account => account === name ? [1, 1, kind === 'managed' ? 1 : 0] : [0, 0, 0])
      t.same(counted(w), only(active[0]?.principal.account, attach), 'users, keys and policies of each account')
      // The client comes back.
      const again = await ask(w.healthy)
      await whole(t, w, again)
      t.same(counted(w), only(again.grant.principal.account, attach))
    }
  }
}

for (const [attach, pool] of [['inline', 'a'], ['managed', 'a'], ['inline', 'b']] as const) {
  const operation = issuing(attach, pool)
  await t.test(operation.name, t => faultsOf(t, operation))
}
