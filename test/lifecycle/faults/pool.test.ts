import t, { type Test } from 'tap'
import { issue } from '../../../src/lifecycle/issue.ts'
import { whole } from '../order.ts'
import { jobRequest, orderOf, owner, role, rows, type Replica, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

// Two accounts: whatever fails, an issue ends in a complete grant in exactly one of them, or with no live key of a user in any.

t.setTimeout(450_000)

const issuing = (attach: 'inline' | 'managed' | 'session', pool: 'a' | 'b'): Operation => {
  const ask = ({ deps }: Replica) => issue(deps, owner, orderOf(jobRequest({ attach, attempt: '1' })))
  const counted = (w: World) => w.accounts.map(account => w.at(account).iam.state)
    .map(({ users, policies }) => [users.length, users.flatMap(({ keys }) => keys).length, policies.length])
  return {
    name: pool === 'a' ? `issue ${attach} in a pool` : `issue ${attach} in the second account`,
    world: { pool, profiles: { default: role } },
    async arrange (w) {
      // The first account has a quota of its own that the service does not know of, or does not let the service have the role.
      if (pool === 'b' && attach === 'session') w.at('a').iam.faults.on({ action: 'AssumeRole' }, { kind: 'error', code: 'AccessDenied' })
      else if (pool === 'b') w.at('a').iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'LimitExceeded' })
      return null
    },
    act: ask,
    rival: ask,
    async after (t: Test, w, { outcome, last }) {
      const active = (await rows(w)).filter(({ state }) => state === 'active')
      // Killed after the ledger knew: the grant stands, and the retry below gets its key.
      // So may a session whose end a ledger that was down did not hear of.
      if (outcome.kind === 'killed' || (attach === 'session' && outcome.kind === 'refused')) t.ok(active.length <= 1)
      else t.equal(active.length, last ? 1 : 0, 'active: what was answered, nothing else')
      const only = (name: string | undefined, kind: typeof attach) =>
        w.accounts.map(account => account === name && kind !== 'session' ? [1, 1, kind === 'managed' ? 1 : 0] : [0, 0, 0])
      t.same(counted(w), only(active[0]?.principal.account, attach), 'users, keys and policies of each account')
      // The client comes back.
      const again = await ask(w.healthy)
      await whole(t, w, again)
      t.same(counted(w), only(again.grant.principal.account, attach))
    }
  }
}

for (const [attach, pool] of [['inline', 'a'], ['managed', 'a'], ['session', 'a'], ['inline', 'b'], ['session', 'b']] as const) {
  const operation = issuing(attach, pool)
  await t.test(operation.name, t => faultsOf(t, operation))
}
