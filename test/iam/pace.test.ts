import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { createIam } from '../../src/iam/client.ts'
import { createPacer, inTurn, type Pacer } from '../../src/iam/pace.ts'
import type { PrincipalPlan, PrincipalProvisioner } from '../../src/iam/provisioner.ts'
import type { Clock } from '../../src/iam/retry.ts'

/** Time that passes when everybody waits for it. */
const virtual = (): Clock & { run: (work: Promise<unknown>) => Promise<void> } => {
  let now = 0
  const timers: Array<{ at: number, fire: () => void }> = []
  return {
    now: () => now,
    pause: ms => new Promise(resolve => { timers.push({ at: now + ms, fire: resolve }) }),
    async run (work) {
      const over = new AbortController()
      void work.finally(() => over.abort())
      for (;;) {
        await setImmediate()
        await setImmediate()
        if (over.signal.aborted) break
        timers.sort((a, b) => b.at - a.at)
        const next = timers.pop()
        if (!next) continue
        now = Math.max(now, next.at)
        next.fire()
      }
      await work
    }
  }
}

/** A provider that takes some calls at once and `perSecond` after that, each in 20 ms. */
const provider = (clock: Clock, perSecond: number) => {
  let tokens = perSecond
  let at = 0
  const it = {
    asked: 0,
    refused: 0,
    async call () {
      tokens = Math.min(perSecond, tokens + (clock.now() - at) * perSecond / 1000)
      at = clock.now()
      it.asked++
      const throttled = tokens < 1
      if (throttled) it.refused++
      else tokens--
      await clock.pause(20)
      return throttled
    }
  }
  return it
}

/** As the client does it: tried again until it is done. False: not before the deadline. */
const done = async (pacer: Pacer, clock: Clock, iam: ReturnType<typeof provider>, until: number): Promise<boolean> => {
  for (;;) {
    const answered = await pacer.take(until)
    if (!answered) return false
    const throttled = await iam.call()
    answered(throttled)
    if (!throttled) return true
    await clock.pause(50)
  }
}

const scene = (perSecond: number) => {
  const clock = virtual()
  const pacer = createPacer(clock)
  const iam = provider(clock, perSecond)
  const call = (until: number) => done(pacer, clock, iam, until)
  const principals = inTurn({
    create: async (_plan: PrincipalPlan, until: number) => {
      const made = await call(until) && (await Promise.all([call(until), call(until)])).every(Boolean)
      return { made, at: clock.now() } as never
    },
    teardown: async (_target: unknown, until: number) => {
      for (let i = 0; i < 3; i++) if (!await call(until)) return { gone: false, at: clock.now() } as never
      return { gone: true, at: clock.now() } as never
    }
  } as unknown as PrincipalProvisioner)
  const issue = (team: string, until = 60_000) => principals.create({ tags: { 'job-access:team': team } } as unknown as PrincipalPlan, until) as
    unknown as Promise<{ made: boolean, at: number }>
  const revoke = (until: number) => principals.teardown({} as never, until) as unknown as Promise<{ gone: boolean, at: number }>
  return { clock, pacer, iam, issue, revoke }
}

const planOf = (team: string) => ({ tags: { 'job-access:team': team } }) as unknown as PrincipalPlan

const last = (answers: Array<{ at: number }>): number => Math.max(...answers.map(({ at }) => at))

t.test('throttled at 10 calls a second, at least eight of ten calls are useful', async t => {
  for (const issues of [50, 200]) {
    const { clock, iam, issue } = scene(10)
    await clock.run(Promise.all(Array.from({ length: issues }, () => issue('nlp', Infinity))))
    t.equal(iam.asked - iam.refused, issues * 3)
    t.ok(iam.refused / iam.asked <= 0.2, `${iam.refused} of ${iam.asked} refused`)
    t.ok(clock.now() < issues * 3 * 100 * 1.5, `and the limit is used: ${clock.now()} ms`)
  }
})

t.test('revocations overtake issues, and a team does not wait behind another’s', async t => {
  const { clock, issue, revoke } = scene(10)
  const many = Promise.all(Array.from({ length: 50 }, () => issue('nlp')))
  const few = Promise.all(Array.from({ length: 3 }, () => issue('vision')))
  const ends = clock.pause(2_000).then(() => Promise.all(Array.from({ length: 5 }, () => revoke(60_000))))
  await clock.run(Promise.all([many, few, ends]))
  t.ok(last(await few) < 8_000, `the small team: ${last(await few)} ms`)
  t.ok(last(await ends) < 5_000, `revocations: ${last(await ends)} ms`)
  t.ok(last(await many) > 12_000)
})

t.test('no call waits longer than its deadline', async t => {
  const { clock, issue } = scene(10)
  const answers = Promise.all(Array.from({ length: 100 }, () => issue('nlp', 5_000)))
  await clock.run(answers)
  t.ok(last(await answers) <= 5_020, `${last(await answers)} ms`)
  t.ok((await answers).some(({ made }) => made) && (await answers).some(({ made }) => !made))
})

t.test('where ten times more is asked for than can be done, what is begun is finished', async t => {
  const { clock, issue } = scene(10)
  const made: boolean[] = []
  const work = Promise.all(Array.from({ length: 500 }, async (_, i) => {
    await clock.pause(i * 20)
    made.push((await issue('a', clock.now() + 5_000)).made)
  }))
  await clock.run(work)
  const keys = made.filter(Boolean).length
  t.ok(keys >= 40, `${keys} of 500 in 15 s at 10 calls a second, three calls each`)
})

t.test('what was refused is sent again only with as much time left as any other has', async t => {
  const { clock, pacer } = scene(10)
  const principals = inTurn({
    async create (_plan: PrincipalPlan, until: number) {
      (await pacer.take(until))?.(true)
      await clock.pause(8_500)
      return await pacer.take(until) as never
    }
  } as unknown as PrincipalProvisioner)
  const second = principals.create(planOf('nlp'), 10_000)
  await clock.run(second)
  t.equal(await second, undefined)
})

t.test('a call that the pacer drops is not tried again', async t => {
  let [now, asked] = [0, 0]
  const pacer: Pacer = {
    async take () {
      asked++
      return undefined
    }
  }
  const iam = createIam({
    region: 'us-east-1', now: () => now, sleep: async ms => { now += Math.max(1, ms) }, pacers: { iam: pacer, sts: pacer }
  })
  await t.rejects(iam.deleteUser('a', 10_000), { message: 'DeleteUser: throttled (DeadlinePassed)' })
  t.equal(asked, 1)
  iam.close()
})

t.test('without throttling nothing is paced, and after throttling the rate comes back', async t => {
  const { clock, pacer, issue } = scene(100_000)
  await clock.run(Promise.all(Array.from({ length: 200 }, () => issue('nlp'))))
  t.ok(clock.now() < 1_000, `${clock.now()} ms`)
  await clock.run(pacer.take(Infinity).then(answered => answered?.(true)))
  const throttledAt = clock.now()
  await clock.run(clock.pause(120_000))
  await clock.run(Promise.all(Array.from({ length: 200 }, () => issue('nlp', Infinity))))
  t.ok(clock.now() - throttledAt < 125_000, `${clock.now() - throttledAt} ms`)
})

/** A pacer that is full: the order in which those who wait are served when its calls come back. */
const served = async (ask: (principals: PrincipalProvisioner) => void) => {
  const clock = virtual()
  const pacer = createPacer(clock)
  const order: string[] = []
  const take = (name: string) => async () => {
    const answered = await pacer.take(Infinity)
    order.push(name)
    answered?.(false)
    return undefined as never
  }
  const methods = ['create', 'mintKey', 'deleteKey', 'pruneKeys', 'teardown', 'discard', 'keys', 'policyEnd', 'ready', 'replacePolicy'] as const
  const principals = inTurn(Object.fromEntries(methods.map(name => [name, take(name)])) as unknown as PrincipalProvisioner)
  const under = []
  for (let i = 0; i < 300; i++) {
    const permit = await Promise.race([pacer.take(1), setImmediate(undefined)])
    if (!permit) break
    under.push(permit)
  }
  ask(principals)
  for (const answered of under) answered(false)
  for (let i = 0; i < 50; i++) await setImmediate()
  return order
}

t.test('deletions come first, then issues and changes, then what has time', async t => {
  const order = await served(principals => {
    const ref = {} as never
    void principals.ready(ref, ref, 0)
    void principals.policyEnd(ref, 0)
    void principals.keys(ref, 0)
    void principals.discard(ref, 0)
    void principals.replacePolicy(ref, 'inline', ref, 0)
    void principals.mintKey(planOf('nlp'), [], 0)
    void principals.create(planOf('nlp'), 0)
    void principals.pruneKeys(ref, ref, 0)
    void principals.deleteKey(ref, '', [], 0)
    void principals.teardown(ref, 0)
  })
  t.same([order.slice(0, 3).sort(), order.slice(3, 6).sort(), order.slice(6).sort()], [
    ['deleteKey', 'pruneKeys', 'teardown'], ['create', 'mintKey', 'replacePolicy'], ['discard', 'keys', 'policyEnd', 'ready']
  ])
})

t.test('a rotation counts for its team', async t => {
  const order = await served(principals => {
    void principals.create({ tags: {} } as unknown as PrincipalPlan, 0)
    void principals.mintKey(planOf('nlp'), [], 0)
  })
  t.same(order, ['mintKey', 'create'], 'its team was not served yet')
})

t.test('what was not asked for in a pause is not asked for at once after it', async t => {
  const clock = virtual()
  const pacer = createPacer(clock)
  await clock.run(pacer.take(Infinity).then(answered => answered?.(true)))
  await clock.run(clock.pause(20_000))
  const until = clock.now() + 1_000
  const granted = Promise.all(Array.from({ length: 30 }, async () => {
    const answered = await pacer.take(until)
    answered?.(false)
    return answered !== undefined
  }))
  await clock.run(granted)
  t.ok((await granted).filter(Boolean).length <= 3, 'throttled at one call a second')
})
