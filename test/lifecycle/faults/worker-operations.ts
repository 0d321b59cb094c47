import type { PolicyAttachment } from '../../../src/domain/access-spec.ts'
import { end } from '../../../src/lifecycle/end.ts'
import { extend } from '../../../src/lifecycle/extend.ts'
import { issue } from '../../../src/lifecycle/issue.ts'
import { endWorker, join } from '../../../src/lifecycle/join.ts'
import type { JoinRequest } from '../../../src/request.ts'
import { whole } from '../order.ts'
import { identityOf, jobRequest, orderOf, owner, rows, type Replica, type World } from '../world.ts'
import type { Operation } from './table.ts'

const { sourceIps: _, ...sourceless } = jobRequest()

const open = async (w: World, attach: PolicyAttachment) => {
  const { grant } = await issue(w.healthy.deps, owner, orderOf({ ...sourceless, attach, workers: { max: 2 } }))
  return grant.id
}

/** The grant of the only job. */
const jobIn = async (w: World) => (await rows(w)).find(({ maxWorkers }) => maxWorkers !== null)

const joins = async ({ deps }: Replica, name: string, request: Partial<JoinRequest> = {}, jobId?: string) => {
  const [job] = jobId === undefined ? (await deps.ledger.list({}, { limit: 200 })).filter(({ maxWorkers }) => maxWorkers !== null) : []
  return join(deps, owner, jobId ?? job?.id ?? '', { name, attempt: '0', sourceIps: ['203.0.113.1'], ...request })
}

/** A worker joins for the first time, while another one is at work. */
export const joining = (attach: PolicyAttachment): Operation => ({
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
export const rejoining = (attach: PolicyAttachment): Operation => ({
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

export const twoWorkers = (attach: PolicyAttachment) => async (w: World) => {
  await open(w, attach)
  await joins(w.healthy, 'b')
  return joins(w.healthy, 'a')
}

/** A job's one managed policy is made before anybody joins. */
export const issuing: Operation = {
  name: 'issue a job whose workers share a policy',
  arrange: async () => null,
  act: async r => (await issue(r.deps, owner, sharing)).grant,
  rival: async r => (await issue(r.deps, owner, sharing)).grant,
  async after (t, w) {
    const { grant } = await issue(w.healthy.deps, owner, sharing)
    t.match(grant, { state: 'active', attach: 'managed', maxWorkers: 2 }, 'the client comes back')
    t.equal(w.iam.state.policies.filter(({ name }) => name === grant.principal.name).length, 1)
    await whole(t, w, await joins(w.healthy, 'a', {}, grant.id))
    t.match(await end(w.healthy.deps, owner, grant.id, 'completed'), { state: 'revoked' })
    t.same([w.iam.state.userCount, w.iam.state.policies.length], [0, 0], 'nothing is left')
  }
}
const sharing = orderOf({ ...sourceless, attach: 'managed', workers: { max: 2 } })

export const extending = (attach: PolicyAttachment, arrange = twoWorkers(attach)): Operation => ({
  name: `extend two workers ${attach}`,
  arrange,
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
})

export const completing = (attach: PolicyAttachment): Operation => ({
  name: `complete two workers ${attach}`,
  arrange: twoWorkers(attach),
  act: async r => end(r.deps, owner, (await onlyWorker(r)).parentId ?? '', 'completed'),
  async after (t, w, { before }) {
    const job = await jobIn(w)
    const workers = await w.store.workersOf(job?.id ?? '')
    t.ok(job?.state === 'revoked' ? workers.length === 0 : job?.state === 'active' && workers.length === 2, 'all, or none of it was taken')
    t.equal(await identityOf(w, before?.credentials ?? null) !== undefined, job?.state === 'active')
    await end(w.healthy.deps, owner, job?.id ?? '', 'completed')
    t.match((await rows(w)).map(({ state }) => state), ['revoked', 'revoked', 'revoked'])
    t.same([w.iam.state.userCount, w.iam.state.policies.length], [0, 0])
  }
})

export const endingOne = (attach: PolicyAttachment): Operation => ({
  name: `end one worker ${attach}`,
  arrange: twoWorkers(attach),
  act: async r => endWorker(r.deps, owner, (await onlyWorker(r)).parentId ?? '', 'b'),
  keepsKey: true,
  async after (t, w, { before }) {
    const job = await jobIn(w)
    await endWorker(w.healthy.deps, owner, job?.id ?? '', 'b')
    t.same((await w.store.workersOf(job?.id ?? '')).map(({ worker }) => worker), ['a'])
    if (before) await whole(t, w, before)
  }
})

const onlyWorker = async ({ deps }: Replica) => {
  const [worker] = (await deps.ledger.list({ worker: 'a' }, { limit: 1 }))
  if (!worker) throw new Error('nobody has joined')
  return worker
}
