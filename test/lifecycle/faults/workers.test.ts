import t from 'tap'
import type { PolicyAttachment } from '../../../src/domain/access-spec.ts'
import { end } from '../../../src/lifecycle/end.ts'
import { extend } from '../../../src/lifecycle/extend.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import { endWorker, join } from '../../../src/lifecycle/join.ts'
import type { JoinRequest } from '../../../src/request.ts'
import { whole } from '../order.ts'
import { identityOf, jobRequest, orderOf, owner, rows, type Replica, type World } from '../world.ts'
import { faultsOf, type Operation } from './table.ts'

t.setTimeout(600_000)

const { sourceIps: _, ...sourceless } = jobRequest()

const open = async (w: World, attach: PolicyAttachment) => {
  const { grant } = await issue(w.healthy.deps, owner, orderOf({ ...sourceless, attach, workers: { max: 2 } }))
  return grant.id
}

/** The grant of the only job. */
const jobIn = async (w: World) => (await rows(w)).find(({ maxWorkers }) => maxWorkers !== null)

const joins = async ({ deps }: Replica, name: string, request: Partial<JoinRequest> = {}) => {
  const [job] = (await deps.ledger.list({}, { limit: 200 })).filter(({ maxWorkers }) => maxWorkers !== null)
  return join(deps, owner, job?.id ?? '', { name, attempt: '0', sourceIps: ['203.0.113.1'], ...request })
}

/** A worker joins for the first time, while another one is at work. */
const joining = (attach: PolicyAttachment): Operation => ({
  name: `join ${attach}`,
  async arrange (w) {
    await open(w, attach)
    return null
  },
  act: r => joins(r, 'a'),
  rival: r => joins(r, 'a'),
  async after (t, w) {
    // The client comes back, and there is room for one more.
    await whole(t, w, await joins(w.healthy, 'a'))
    await whole(t, w, await joins(w.healthy, 'b'))
    t.equal((await w.store.workersOf((await jobIn(w))?.id ?? '')).length, 2)
  }
})

/** It comes back from another address, as another attempt. */
const rejoining = (attach: PolicyAttachment): Operation => ({
  name: `join again ${attach}`,
  async arrange (w) {
    await open(w, attach)
    return joins(w.healthy, 'a')
  },
  act: r => joins(r, 'a', { attempt: '1', sourceIps: ['203.0.113.2'] }),
  rival: r => joins(r, 'a', { attempt: '1', sourceIps: ['203.0.113.2'] }),
  async after (t, w, { before, outcome }) {
    if (outcome.kind === 'answered' && attach !== 'session') t.equal(await identityOf(w, before?.credentials ?? null), undefined)
    const again = await joins(w.healthy, 'a', { attempt: '1', sourceIps: ['203.0.113.2'] })
    await whole(t, w, again)
    t.match(again.grant, { attempt: '1', spec: { source: { cidrs: ['203.0.113.2/32'] } } })
  }
})

const twoWorkers = async (w: World) => {
  await open(w, 'inline')
  await joins(w.healthy, 'b')
  return joins(w.healthy, 'a')
}

const operations: Operation[] = [
  joining('inline'),
  joining('managed'),
  joining('session'),
  rejoining('inline'),
  rejoining('managed'),
  rejoining('session'),
  {
    name: 'extend two workers',
    arrange: twoWorkers,
    act: async r => extend(r.deps, owner, (await r.deps.ledger.get((await onlyWorker(r)).parentId ?? ''))?.id ?? '',
      { window: { durationSeconds: 20_000 } }),
    keepsKey: true,
    async after (t, w, { before }) {
      const job = await jobIn(w)
      const workers = await w.store.workersOf(job?.id ?? '')
      t.equal(workers.length, 2)
      for (const worker of workers) t.equal(worker.expiresAt, job?.expiresAt, 'every worker has the window of the job')
      const mine = workers.find(({ id }) => id === before?.grant.id)
      if (before && mine) await whole(t, w, { ...before, grant: mine })
    }
  },
  {
    name: 'complete two workers',
    arrange: twoWorkers,
    act: async r => end(r.deps, owner, (await onlyWorker(r)).parentId ?? '', 'completed'),
    async after (t, w, { before }) {
      const job = await jobIn(w)
      const workers = await w.store.workersOf(job?.id ?? '')
      t.ok(job?.state === 'revoked' ? workers.length === 0 : job?.state === 'active' && workers.length === 2, 'all, or none of it was taken')
      t.equal(await identityOf(w, before?.credentials ?? null) !== undefined, job?.state === 'active')
      await end(w.healthy.deps, owner, job?.id ?? '', 'completed')
      t.match((await rows(w)).map(({ state }) => state), ['revoked', 'revoked', 'revoked'])
      t.equal(w.iam.state.userCount, 0)
    }
  },
  {
    name: 'end one worker',
    arrange: twoWorkers,
    act: async r => endWorker(r.deps, owner, (await onlyWorker(r)).parentId ?? '', 'b'),
    keepsKey: true,
    async after (t, w, { before }) {
      const job = await jobIn(w)
      await endWorker(w.healthy.deps, owner, job?.id ?? '', 'b')
      t.same((await w.store.workersOf(job?.id ?? '')).map(({ worker }) => worker), ['a'])
      if (before) await whole(t, w, before)
    }
  }
]

const onlyWorker = async ({ deps }: Replica) => {
  const [worker] = (await deps.ledger.list({ worker: 'a' }, { limit: 1 }))
  if (!worker) throw new Error('nobody has joined')
  return worker
}

for (const operation of operations) await t.test(operation.name, t => faultsOf(t, operation))
