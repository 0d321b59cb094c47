import type { Test } from 'tap'
import type { Grant } from '../../../src/domain/grant.ts'
import type { Delivery } from '../../../src/lifecycle/provision.ts'
import { disorder, noSecret, watchSources, watchUsers, whole } from '../order.ts'
import { leaseMs, reconciled, role, swept, world, type Replica, type World, type WorldOptions } from '../world.ts'
import { waysAt, type Point, type Way } from './ways.ts'

export interface Operation {
  name: string
  /** Where it runs, in the place of one account. */
  world?: WorldOptions
  /** Leads to where the operation begins. The delivery, if any, is one that a job holds. */
  arrange: (w: World) => Promise<Delivery | null>
  /** The operation itself. `before` is what arrange() gave. */
  act: (r: Replica, before: Delivery | null) => Promise<Delivery | Grant | null>
  /** What the same client asks of another replica when this one does not answer. */
  rival?: (r: Replica, before: Delivery | null) => Promise<Delivery | Grant | null>
  /** A failure that is told as one leaves the key of arrange() alive. */
  keepsKey?: true
  /** What holds after every fault, once the sweepers had their time, besides order. */
  after: (t: Test, w: World, seen: Seen) => Promise<void>
}

export interface Seen {
  before: Delivery | null
  outcome: Outcome
  /** The last grant or delivery that was answered by anyone. */
  last: Delivery | Grant | null
}

export type Outcome =
  | { kind: 'answered', answer: Delivery | Grant | null }
  | { kind: 'refused', error: unknown }
  | { kind: 'killed' }

/**
 * Runs the operation once in peace and notes its calls; then once for every call and every way to fail there, each a subtest
 * that names them. `only`: a part of a subtest's name, to look at one.
 */
export const faultsOf = async (t: Test, operation: Operation, only = process.env.FAULTS_ONLY ?? ''): Promise<void> => {
  const points = await pointsOf(t, operation)
  t.ok(points.some(({ to }) => to === 'iam') && points.some(({ to }) => to === 'ledger'), `${operation.name}: ${points.length} calls`)
  t.jobs = 4
  for (const point of points) {
    for (const way of waysAt(point)) {
      for (const rival of way.stalls && operation.rival ? [false, true] : [false]) {
        const meanwhile = way.stalls ? `, ${rival ? 'retried' : 'swept'} meanwhile` : ''
        const name = `${operation.name}: ${point.call}${point.nth > 1 ? ` (${point.nth})` : ''}: ${way.name}${meanwhile}`
        if (!name.includes(only)) continue
        t.test(name, { buffered: true }, t => runCase(t, operation, point, way, rival))
      }
    }
  }
}

const pointsOf = async (t: Test, operation: Operation): Promise<Point[]> => {
  const w = await world(t, operation.world ?? { profiles: { default: role } })
  const before = await operation.arrange(w)
  const replica = await w.replica()
  const seen = w.iam.calls.length
  const answer = await operation.act(replica, before)
  const counts = new Map<string, number>()
  const point = (to: Point['to'], call: string): Point => {
    const nth = (counts.get(`${to} ${call}`) ?? 0) + 1
    counts.set(`${to} ${call}`, nth)
    return { to, call, nth }
  }
  const points = [
    ...w.iam.calls.slice(seen).map(({ action }) => point('iam', action)),
    ...replica.calls.map(call => point('ledger', call))
  ]
  await settled(w)
  t.same(await disorder(w), [], `${operation.name}: in order when nothing fails`)
  await operation.after(t, w, { before, outcome: { kind: 'answered', answer }, last: answer })
  return points
}

const runCase = async (t: Test, operation: Operation, point: Point, way: Way, withRival: boolean): Promise<void> => {
  const w = await world(t, operation.world ?? { profiles: { default: role } })
  const watch = watchUsers(w)
  const sources = watchSources(w)
  const before = await operation.arrange(w)
  const replica = await w.replica(way.attemptMs === undefined ? {} : { attemptMs: way.attemptMs })
  let elsewhere: Seen['last'] = null
  const meanwhile = async () => {
    w.clock.advance(leaseMs + 1)
    if (withRival && operation.rival) elsewhere = await operation.rival(w.healthy, before)
    else await swept(w.healthy)
  }
  const fault = way.set(w, replica, point, meanwhile)
  const outcome = await Promise.race([
    operation.act(replica, before)
      .then((answer): Outcome => ({ kind: 'answered', answer }), (error): Outcome => ({ kind: 'refused', error })),
    replica.died.then((): Outcome => ({ kind: 'killed' }))
  ])
  t.ok(fault.struck(), 'the fault struck')
  if (way.kills) t.equal(outcome.kind, 'killed')
  w.iam.faults.clear()
  watch.rearm()
  sources.rearm()
  await settled(w)
  if (way.reconciles) {
    await reconciled(w.healthy)
    await settled(w)
  }
  t.same(await disorder(w), [], `in order after it was ${outcome.kind}`)
  const last = await valid(w, [elsewhere, outcome.kind === 'answered' ? outcome.answer : null]) ?? before
  const keptKey = outcome.kind === 'refused' && operation.keepsKey && !way.stalls && !way.reconciles
  if (keptKey && before) await whole(t, w, await asStored(w, before))
  else if (last !== before && last && 'credentials' in last && last.credentials) await whole(t, w, last)
  await operation.after(t, w, { before, outcome, last })
  t.same(sources.unbound(), [], 'no key that is held works without its own source')
  t.ok(watch.most() <= 1, `one user a job, not ${watch.most()}`)
  await noSecret(t, w)
}

/**
 * The answer that must hold: where one came late and another replica answered meanwhile, the one that the ledger knows. Where
 * it knows neither, the later one, and whoever looks will find it broken.
 */
const valid = async (w: World, answers: Array<Seen['last']>): Promise<Seen['last']> => {
  const given = answers.filter(answer => answer !== null)
  for (const answer of given) {
    const grant = 'grant' in answer ? answer.grant : answer
    const stored = await w.store.get(grant.id)
    if (stored?.accessKeyId === grant.accessKeyId && stored.policyHash === grant.policyHash) return answer
  }
  return given.at(-1) ?? null
}

const asStored = async (w: World, { grant, credentials }: Delivery): Promise<Delivery> =>
  ({ grant: await w.store.get(grant.id) ?? grant, credentials })

/** The lease of whoever was at work lapses, the five minutes of the age rule pass, and every backoff gets its turn. */
export const settled = async (w: World): Promise<void> => {
  for (const seconds of [46, 60, 60, 60, 60, 60, 60, 120, 200]) await w.pass(seconds * 1000)
}
