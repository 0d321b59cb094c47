import t from 'tap'
import { issue } from '../../../src/lifecycle/issue.ts'
import { fetchCredentials, rotate } from '../../../src/lifecycle/rotate.ts'
import { whole } from '../order.ts'
import { at, orderOf, jobRequest, owner, rows, startOfTime, swept, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const inTenMinutes = 600_000

const schedule = (w: World) => issue(w.healthy.deps, owner, orderOf(jobRequest({ issueAt: at(startOfTime + inTenMinutes) })))

const due = async (w: World) => {
  const before = await schedule(w)
  w.clock.advance(inTenMinutes)
  return before
}

const minted = async (w: World) => {
  const before = await due(w)
  await swept(w.healthy)
  return before
}

/** What was promised is kept: the owner gets a key, whatever failed. */
const kept: Operation['after'] = async (t, w) => {
  const [grant] = await rows(w)
  t.equal(grant?.state, 'active')
  const id = grant?.id ?? ''
  const fetched = grant?.deliveredAt === null
    ? await fetchCredentials(w.healthy.deps, owner, id)
    : await rotate(w.healthy.deps, owner, id, 0)
  await whole(t, w, fetched)
}

const operations: Operation[] = [
  {
    name: 'mint a scheduled grant',
    arrange: due,
    act: async r => { await swept(r); return null },
    rival: ({ deps }, before) => fetchCredentials(deps, owner, before?.grant.id ?? ''),
    after: kept
  },
  {
    name: 'fetch the credentials',
    arrange: minted,
    act: ({ deps }, before) => fetchCredentials(deps, owner, before?.grant.id ?? ''),
    rival: ({ deps }, before) => rotate(deps, owner, before?.grant.id ?? '', 0),
    after: kept
  },
  {
    name: 'fetch the credentials before the sweeper comes',
    arrange: due,
    act: ({ deps }, before) => fetchCredentials(deps, owner, before?.grant.id ?? ''),
    rival: ({ deps }, before) => fetchCredentials(deps, owner, before?.grant.id ?? ''),
    after: kept
  }
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
