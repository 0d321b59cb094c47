import t from 'tap'
import type { PolicyAttachment } from '../../../src/domain/access-spec.ts'
import { end } from '../../../src/lifecycle/end.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import { rotate } from '../../../src/lifecycle/rotate.ts'
import { identityOf, orderOf, jobRequest, owner, rows, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(300_000)

const give = (w: World, attach: PolicyAttachment) => issue(w.healthy.deps, owner, orderOf(jobRequest({ attach })))

const ending = (name: string, reason: 'completed' | 'revoked', arrange: Operation['arrange']): Operation => ({
  name,
  arrange,
  act: ({ deps }, before) => end(deps, owner, before?.grant.id ?? '', reason),
  rival: ({ deps }, before) => end(deps, owner, before?.grant.id ?? '', reason),
  async after (t, w, { before, outcome }) {
    const [grant] = await rows(w)
    if (outcome.kind === 'answered') t.equal(grant?.state, 'revoked')
    // Either the intent was taken, then the grant is over; or it was not, then the job still has its key.
    t.ok(grant?.state === 'revoked' || grant?.state === 'active')
    if (grant?.attach !== 'session') t.equal(await identityOf(w, before?.credentials ?? null) !== undefined, grant?.state === 'active')
    await end(w.healthy.deps, owner, grant?.id ?? '', reason)
    t.match(await rows(w), [{ state: 'revoked', idempotencyKey: null }])
    t.same([w.iam.state.userCount, w.iam.state.policies], [0, []])
    const [denied] = Object.keys(w.iam.state.roles[0]?.inline ?? {})
    if (grant?.attach === 'session') t.equal(denied, grant.principal.name, 'the session is denied everything')
  }
})

const operations = [
  ending('complete inline', 'completed', w => give(w, 'inline')),
  ending('revoke two keys', 'revoked', async w => rotate(w.healthy.deps, owner, (await give(w, 'inline')).grant.id, 600)),
  ending('complete managed', 'completed', w => give(w, 'managed')),
  ending('revoke session', 'revoked', w => give(w, 'session'))
]

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
