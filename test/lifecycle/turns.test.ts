import { setImmediate as immediate } from 'node:timers/promises'
import t from 'tap'
import { end } from '../../src/lifecycle/end.ts'
import { extend } from '../../src/lifecycle/extend.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import { join } from '../../src/lifecycle/join.ts'
import { fetchCredentials, rotate } from '../../src/lifecycle/rotate.ts'
import { fairTurns } from '../../src/lifecycle/turns.ts'
import type { GrantRequest } from '../../src/request.ts'
import { at, jobRequest, orderOf, owner, refusalOf, startOfTime, swept, world, type World } from './world.ts'

t.test('what is ready is served between two turns', async t => {
  const turn = fairTurns()
  const order: string[] = []
  const work = async (name: string, id = 'a') => {
    await turn(id)
    order.push(name)
  }
  const all = Promise.all([work('1'), work('2'), work('3')])
  const probe = immediate().then(() => { order.push('probe') })
  await Promise.all([all, probe])
  t.strictSame(order.filter(name => name !== 'probe'), ['1', '2', '3'])
  t.ok(order.indexOf('probe') < order.indexOf('3'), order.join(' '))
})

t.test('an identity with many requests waits for itself', async t => {
  const turn = fairTurns()
  const order: string[] = []
  const work = async (id: string, name: string) => {
    await turn(id)
    order.push(name)
  }
  await Promise.all([work('many', 'm1'), work('many', 'm2'), work('many', 'm3'), work('one', 'o1'), work('two', 't1')])
  t.strictSame(order, ['m1', 'm2', 'o1', 't1', 'm3'])
})

t.test('of one identity, work that holds a grant comes first; another identity waits no longer for that', async t => {
  const turn = fairTurns()
  const order: string[] = []
  const work = async (id: string, name: string, holds = false) => {
    await turn(id, { holds })
    order.push(name)
  }
  await Promise.all([
    work('many', 'm1'), work('many', 'm2'), work('many', 'm3'), work('many', 'h1', true), work('many', 'h2', true), work('one', 'o1')
  ])
  t.strictSame(order, ['m1', 'h1', 'o1', 'h2', 'm2', 'm3'])
})

t.test('work that fails ends its turn', async t => {
  const turn = fairTurns()
  const failed = turn('a').then(() => { throw new Error('refused') })
  await t.rejects(failed)
  await turn('a')
  t.pass('and the next one has come')
})

// --- the operations ---

const inAnHour = (change: Partial<GrantRequest> = {}) => orderOf(jobRequest({ attempt: '1', ...change }))
const workersOf = async (w: World): Promise<string> => {
  const job = jobRequest({ workers: { max: 2 } })
  const { sourceIps, ...rest } = job
  const { grant } = await issue(w.healthy.deps, owner, { request: rest })
  for (const name of ['a', 'b']) await join(w.healthy.deps, owner, grant.id, { name, sourceIps: ['203.0.113.7'] })
  return grant.id
}
const later = { window: { notAfter: at(startOfTime + 5 * 3_600_000) } }

/** What proves a policy that is stored, and whose turn it takes. Before: makes the grant. */
const proving: Record<string, { before: (w: World) => Promise<string>, work: (w: World, id: string) => Promise<unknown>, as?: string }> = {
  rotate: {
    before: async w => (await issue(w.healthy.deps, owner, inAnHour())).grant.id,
    work: (w, id) => rotate(w.healthy.deps, owner, id, 0)
  },
  redeliver: {
    before: async w => (await issue(w.healthy.deps, owner, inAnHour())).grant.id,
    work: w => issue(w.healthy.deps, owner, inAnHour({ attempt: '2' }))
  },
  'fetch credentials': {
    before: async w => {
      const { grant } = await issue(w.healthy.deps, owner, inAnHour({ issueAt: at(startOfTime + 60_000) }))
      w.clock.advance(61_000)
      return grant.id
    },
    work: (w, id) => fetchCredentials(w.healthy.deps, owner, id)
  },
  'extend workers': { before: workersOf, work: (w, id) => extend(w.healthy.deps, owner, id, later) },
  repair: {
    before: async w => {
      const { grant } = await issue(w.healthy.deps, owner, inAnHour())
      w.iam.faults.on({ action: 'PutUserPolicy', times: 1 }, { kind: 'error', code: 'AccessDenied' })
      await refusalOf(extend(w.healthy.deps, owner, grant.id, later))
      return grant.id
    },
    work: w => swept(w.healthy),
    as: 'sweeper'
  },
  'the sweep of a scheduled grant': {
    before: async w => {
      const { grant } = await issue(w.healthy.deps, owner, inAnHour({ issueAt: at(startOfTime + 60_000) }))
      w.clock.advance(61_000)
      return grant.id
    },
    work: w => swept(w.healthy),
    as: 'sweeper'
  }
}

for (const [name, { before, work, as = owner.id }] of Object.entries(proving)) {
  t.test(`${name} waits for its turn before it proves, and gives nothing before; an end does not wait`, async t => {
    const w = await world(t)
    const other = await issue(w.healthy.deps, owner, inAnHour({ job: { id: 'other', team: 'nlp' } }))
    const id = await before(w)
    const from = w.iam.calls.length
    const taken: Array<[string, boolean | undefined]> = []
    const { promise: open, resolve } = Promise.withResolvers<void>()
    const { turn } = w.healthy.deps
    w.healthy.deps.turn = async (who, how) => {
      taken.push([who, how?.holds])
      if (how?.holds) await open
    }
    const done = work(w, id)
    const isHeld = () => taken.some(([, holds]) => holds)
    for (let turns = 0; turns < 500 && !isHeld(); turns++) await new Promise(resolve => setTimeout(resolve, 10))
    t.ok(isHeld(), 'it asked for a turn')
    t.same(new Set(taken.filter(([, holds]) => holds).map(([who]) => who)), new Set([as]), 'of its identity')
    const giving = ['CreateUser', 'PutUserPolicy', 'CreateAccessKey']
    t.same(w.iam.calls.slice(from).map(({ action }) => action).filter(action => giving.includes(action)), [])
    t.match(await end(w.healthy.deps, owner, other.grant.id, 'completed'), { state: 'revoked' }, 'an end takes none')
    resolve()
    await done
    t.ok(w.iam.calls.slice(from).some(({ action }) => giving.includes(action)), 'and then goes on')
    w.healthy.deps.turn = turn
  })
}
