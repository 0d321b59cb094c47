import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { quantile, simulate, tokenBucket, type Job, type World } from '../../bench/simulate.ts'
import { serve } from '../../bench/whole-service.ts'
import { createPacer } from '../../src/iam/pace.ts'

/** Without limits, each call 20 ms. */
const world = (given: Partial<World> = {}): World => ({
  buckets: {},
  accounts: 1,
  users: 5_000,
  policies: 1_500,
  callMs: 20,
  propagationMs: [0, 0],
  replicas: 1,
  workMs: 0,
  deadlineMs: 15_000,
  sessionSeconds: 3_600,
  ...given
})

const job = (given: Partial<Job> = {}): Job => ({
  asksAt: 0, asksFor: 0, startsAt: 0, endsAt: 3_600_000, workers: 1, attach: 'inline', patches: [], rotations: [], ...given
})

const times = <T>(count: number, value: T): T[] => Array<T>(count).fill(value)

t.test('a bucket holds its burst, and fills with its rate', async t => {
  const bucket = tokenBucket({ perSecond: 10, burst: 3 })
  const asked = (now: number) => {
    const has = bucket.has(now)
    if (has) bucket.take()
    return has
  }
  t.same([0, 0, 0, 0, 99, 100, 100, 10_000, 10_000, 10_000, 10_000].map(asked),
    [true, true, true, false, false, true, false, true, true, true, false])
})

t.test('by hand', async t => {
  t.match(simulate(world(), [job()]), {
    calls: { CreateUser: 1, PutUserPolicy: 1, CreateAccessKey: 1, DeleteAccessKey: 1, DeleteUserPolicy: 1, DeleteUser: 1 },
    asked: 6,
    refused: 0,
    joined: 1,
    waitMs: [40],
    deadMs: [20],
    mostUsers: 1,
    users: 0,
    lastAt: 3_600_060
  }, 'a user: two round trips, then the key is deleted first')
  t.match(simulate(world(), [job({ attach: 'session', endsAt: 8_000_000 })]), {
    calls: { AssumeRole: 3 }, waitMs: [20], mostUsers: 0
  }, 'a session: one call, and the next one each hour')
  t.match(simulate(world({ propagationMs: [500, 500] }), [job({ startsAt: 30 }), job({ startsAt: 400 })]), {
    waitMs: [10, 0], usableMs: [510, 140]
  }, 'a key before the window is early')
  t.same(simulate(world({ workMs: 10 }), times(3, job())).waitMs, [50, 60, 70], 'a replica has one core')
  t.same(simulate(world({ workMs: 10, replicas: 3 }), times(3, job())).waitMs, [50, 50, 50])
  t.same(simulate(world(), [job({ workers: 4, asksFor: 100, patches: [5_000] })]).waitMs, times(4, 40))
  t.match(simulate(world({ users: 2 }), times(3, job({ endsAt: 30_000 })).with(2, job())), {
    joined: 3, full: 1, waitMs: [40, 40, 60_040], mostUsers: 2
  }, 'a full account answers 429, and the request is sent again after a minute')
  t.match(simulate(world({ buckets: { AssumeRole: { perSecond: 1, burst: 2 } } }), times(2, job({ attach: 'session', endsAt: 9_000 }))), {
    refused: 0, waitMs: [20, 20]
  })
  const late = simulate(world({ buckets: { CreateUser: { perSecond: 0.01, burst: 1 } } }), times(2, job({ endsAt: 10_000 })))
  t.match(late, { joined: 1, late: 1 }, 'the deadline passes, and after the end nobody asks again')
  t.ok(late.refused > 3, `${late.refused} refused within 15 s`)
})

t.test('the calls are those of docs/workers.md', async t => {
  const patches = Array.from({ length: 5 }, (_, n) => 10_000 * (n + 1))
  const inline = simulate(world(), [job({ workers: 3, patches, rotations: [100_000] })])
  t.match(inline.calls, { CreateUser: 3, PutUserPolicy: 3 + 3 * 5, CreateAccessKey: 3 + 3, DeleteAccessKey: 3 + 3, DeleteUser: 3 })
  t.equal(inline.patchMs.length, 5)
  const shared = simulate(world(), [job({ workers: 3, attach: 'managed', patches })])
  t.match(shared.calls, {
    CreatePolicy: 1,
    CreateUser: 3,
    PutUserPolicy: 3,
    AttachUserPolicy: 3,
    CreateAccessKey: 3,
    CreatePolicyVersion: 4 + 2,
    ListPolicyVersions: 1,
    DeletePolicyVersion: 4,
    DetachUserPolicy: 3,
    DeletePolicy: 1
  })
  t.same([shared.mostPolicies, shared.policies], [1, 0])
})

const jobs = fc.array(fc.record({
  asksAt: fc.integer({ min: 0, max: 60_000 }),
  asksFor: fc.integer({ min: 0, max: 5_000 }),
  lasts: fc.integer({ min: 1, max: 200_000 }),
  workers: fc.integer({ min: 1, max: 8 }),
  attach: fc.constantFrom('inline' as const, 'managed' as const, 'session' as const),
  patch: fc.integer({ min: 0, max: 200_000 })
}), { minLength: 1, maxLength: 12 }).map(drawn => drawn.map(({ lasts, patch, ...given }) =>
  job({ ...given, startsAt: given.asksAt, endsAt: given.asksAt + lasts, patches: [given.asksAt + patch] })))
const limits = fc.record({
  perSecond: fc.integer({ min: 1, max: 50 }),
  burst: fc.integer({ min: 1, max: 20 }),
  users: fc.integer({ min: 1, max: 60 }),
  policies: fc.integer({ min: 1, max: 6 }),
  replicas: fc.integer({ min: 1, max: 3 })
}).map(({ perSecond, burst, ...given }) => world({ ...given, buckets: { '*': { perSecond, burst }, AssumeRole: { perSecond, burst } } }))

t.test('what was made is deleted, no quota is exceeded, and each bucket gives what it has', async t => {
  fc.assert(fc.property(limits, jobs, fc.integer(), (world, jobs, seed) => {
    const outcome = simulate(world, jobs, seed)
    if (outcome.users !== 0 || outcome.policies !== 0) throw new Error(`${outcome.users} users, ${outcome.policies} policies left`)
    if (outcome.mostUsers > world.users || outcome.mostPolicies > world.policies) throw new Error('over the quota')
    if (outcome.joined > jobs.reduce((sum, { workers }) => sum + workers, 0)) throw new Error('more keys than workers')
    if (outcome.waitMs.length !== outcome.joined || outcome.usableMs.length !== outcome.joined) throw new Error('a wait for each key')
    if (outcome.asked !== Object.values(outcome.calls).reduce((sum, count) => sum + count, 0)) throw new Error('calls')
    const { perSecond, burst } = world.buckets['*']!
    // From the first call to the last: the bucket of the action that was asked most.
    const given = burst + perSecond * outcome.lastAt / 1000
    const useful = outcome.asked - outcome.refused
    if (useful > Object.keys(outcome.calls).length * given + 1) throw new Error(`${useful} of at most ${given} an action`)
    if (JSON.stringify(simulate(world, jobs, seed)) !== JSON.stringify(outcome)) throw new Error('another outcome')
  }), { numRuns: 100 })
})

t.test('all get their key, where nothing ends before', async t => {
  const [counts, sizes, rates] = [40, 4, 20].map(max => fc.integer({ min: 1, max }))
  fc.assert(fc.property(counts!, sizes!, rates!, (count, workers, perSecond) => {
    const outcome = simulate(world({ buckets: { '*': { perSecond, burst: 1 } } }), times(count, job({ workers })))
    if (outcome.joined !== count * workers) throw new Error(`${outcome.joined} of ${count * workers}`)
  }), { numRuns: 50 })
})

t.test('a bucket that fills faster gives at least as many', async t => {
  const asks = fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 200 })
  const rate = fc.integer({ min: 1, max: 100 })
  fc.assert(fc.property(asks, rate, rate, fc.integer({ min: 1, max: 10 }), (pauses, one, more, burst) => {
    const given = (perSecond: number) => {
      const bucket = tokenBucket({ perSecond, burst })
      let now = 0
      return pauses.filter(pause => {
        const has = bucket.has(now += pause)
        if (has) bucket.take()
        return has
      }).length
    }
    if (given(one + more) < given(one)) throw new Error(`${given(one + more)} < ${given(one)}`)
  }))
})

t.test('at twice the rate all hold a key sooner', async t => {
  for (const attach of ['inline', 'managed', 'session'] as const) {
    const all = (perSecond: number) => {
      const bucket = { perSecond, burst: perSecond }
      const { waitMs } = simulate(world({ buckets: { '*': bucket, AssumeRole: bucket } }), [job({ workers: 512, attach })])
      t.equal(waitMs.length, 512)
      return quantile(waitMs, 1)
    }
    const waits = [2, 4, 8, 16, 32].map(all)
    for (const [index, wait] of waits.slice(1).entries()) t.ok(wait < waits[index]!, `${attach}: ${waits.map(Math.round).join(' > ')}`)
  }
})

t.test('it paces as the service does', async t => {
  for (const [count, perSecond] of [[100, 5], [400, 20], [400, 80]] as const) {
    const bucket = tokenBucket({ perSecond, burst: perSecond })
    const clock = virtual()
    const pacer = createPacer(clock)
    let asked = 0
    const sessions = Array.from({ length: count }, async () => {
      for (let failures = 0; ; failures++) {
        const answered = await pacer.take(Infinity)
        await clock.pause(10)
        asked++
        const has = bucket.has(clock.now())
        if (has) bucket.take()
        await clock.pause(10)
        answered?.(!has)
        if (has) return
        await clock.pause(0.5 * Math.min(2_000, 50 * 2 ** failures))
      }
    })
    const lasted = await clock.run(Promise.all(sessions))
    const endsAt = 1e9
    const buckets = { AssumeRole: { perSecond, burst: perSecond } }
    const patient = world({ buckets, deadlineMs: endsAt, sessionSeconds: endsAt / 1000 })
    const simulated = simulate(patient, times(count, job({ attach: 'session', endsAt })))
    const ratio = simulated.lastAt / lasted
    t.ok(ratio > 0.9 && ratio < 1.1, `${perSecond} a second: ${simulated.lastAt} ms, with src/iam/pace.ts ${lasted} ms`)
    const refused = [simulated.refused / simulated.asked, (asked - count) / asked] as const
    t.ok(Math.abs(refused[0] - refused[1]) < 0.05, `refused: ${refused.join(' and ')}`)
  }
})

t.test('the whole service gives the same answers at the same times', async t => {
  const limited = world({ accounts: 2, users: 8, buckets: { '*': { perSecond: 2, burst: 4 } } })
  const jobs = Array.from({ length: 3 }, (_, index) => {
    const asksAt = 1_000 * index
    return job({ asksAt, asksFor: 1_000, startsAt: asksAt, workers: 6, ...(index === 0 && { endsAt: 20_000 }) })
  })
  const said = simulate(limited, jobs, 1, now => now > 70_000)
  const seen = await serve(limited, jobs, 70_000)
  t.match(seen, { full: said.full, late: said.late, others: [] })
  t.equal(said.full, 2)
  t.equal(seen.keyAt.length, said.keyAt.length)
  for (const [index, at] of said.keyAt.entries()) {
    const really = seen.keyAt[index]!
    t.ok(Math.abs(really - at) < 250 + at / 10, `key ${index}: after ${Math.round(at)} ms, and really ${Math.round(really)}`)
  }
})

/** Time that passes when everybody waits for it. */
function virtual () {
  let now = 0
  const timers: Array<{ at: number, fire: () => void }> = []
  return {
    now: () => now,
    pause: (ms: number) => new Promise<void>(resolve => { timers.push({ at: now + ms, fire: resolve }) }),
    async run (work: Promise<unknown>): Promise<number> {
      const over = new AbortController()
      let endedAt = 0
      void work.finally(() => {
        endedAt = now
        over.abort()
      })
      while (!over.signal.aborted) {
        await setImmediate()
        await setImmediate()
        const next = timers.sort((a, b) => a.at - b.at).shift()
        if (!next) continue
        now = Math.max(now, next.at)
        next.fire()
      }
      return endedAt
    }
  }
}
