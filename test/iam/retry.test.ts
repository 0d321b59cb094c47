import t from 'tap'
import { IamError, type IamErrorKind } from '../../src/iam/errors.ts'
import { allDone, createOneKey, poll, retry, retryUntilVisible, systemClock, timed, type Clock } from '../../src/iam/retry.ts'

/** Time passes when the code under test waits; `late` is how much later than asked a timer fires. */
const clockOf = (late = 0): Clock => {
  let now = 0
  return { now: () => now, pause: async ms => { now += ms + late } }
}

/** A call that fails so, one time each, and then succeeds. */
const failing = (...kinds: IamErrorKind[]) => {
  const left = [...kinds]
  const it = {
    calls: 0,
    async call () {
      it.calls++
      const kind = left.shift()
      if (kind) throw new IamError(kind, 'CreateAccessKey', kind, undefined)
      return 'done'
    }
  }
  return it
}
const always = (kind: IamErrorKind) => failing(...Array<IamErrorKind>(200).fill(kind))

t.test('setting the machine’s clock neither shortens nor lengthens a wait', async t => {
  const { now } = Date
  t.teardown(() => { Date.now = now })
  for (const hours of [-1, 1]) {
    const before = systemClock.now()
    Date.now = () => now() + hours * 3_600_000
    t.ok(Math.abs(systemClock.now() - before) < 1_800_000, `set by ${hours} h`)
  }
})

t.test('a call ends by its limit, also one that does not heed the signal', async t => {
  let signal: AbortSignal | undefined
  await t.rejects(timed(1, it => { signal = it; return new Promise(() => {}) }), { name: 'TimeoutError' })
  t.ok(signal?.aborted)
})

t.test('no try begins at the deadline or after it', async t => {
  for (const [until, late, calls] of [[250, 0, 1], [251, 0, 2], [251, 1, 1], [1_000, 1, 4]] as const) {
    const it = always('unavailable')
    await t.rejects(retry(it.call, { until, clock: clockOf(late), waitAfter: () => 250 }), { name: 'IamError', kind: 'unavailable' })
    t.equal(it.calls, calls, `${until} ms, timers ${late} ms late`)
  }
})

t.test('a missing user is waited for until the deadline, a denied one for three seconds', async t => {
  for (const [kind, from, to] of [['gone', 14_000, 15_000], ['denied', 2_000, 3_000]] as const) {
    const clock = clockOf()
    await t.rejects(retryUntilVisible(always(kind).call, 15_000, clock), { name: 'IamError', kind })
    t.ok(clock.now() >= from && clock.now() < to, `${kind}: ${clock.now()} ms`)
  }
  t.equal(await retryUntilVisible(failing('gone', 'denied').call, 15_000, clockOf()), 'done')
})

t.test('a key whose answer was lost is looked for before the next try, and told of', async t => {
  const cases: Array<[kinds: IamErrorKind[], pruned: string[], prunes: number, expected: object]> = [
    [[], [], 0, { key: 'done', lost: false }],
    [['unavailable'], [], 1, { key: 'done', lost: true }],
    [['unavailable', 'limit'], ['A'], 2, { key: 'done', lost: true }],
    [['limit'], ['A'], 1, { key: 'done', lost: false }],
    [['limit'], [], 1, { kind: 'limit' }],
    [['denied', 'malformed'], ['A'], 0, { kind: 'malformed' }]
  ]
  for (const [kinds, pruned, prunes, expected] of cases) {
    const it = failing(...kinds)
    let looks = 0
    const prune = async () => {
      looks++
      return pruned
    }
    t.match(await createOneKey(it.call, prune, 15_000, clockOf()).catch((error: unknown) => error), expected, kinds.join(', '))
    t.equal(looks, prunes, `${kinds.join(', ')}: looked ${looks} times`)
  }
})

t.test('a provider that cannot be asked leaves it open whether it knows the key', async t => {
  for (const kind of ['credentials', 'denied', 'unavailable', 'throttled', 'conflict'] as const) {
    t.equal(await poll(failing(kind).call, 15_000, clockOf()), true, kind)
    t.equal(await poll(always(kind).call, 15_000, clockOf()), false, kind)
  }
  await t.rejects(poll(always('unsupported').call, 15_000, clockOf()), { name: 'IamError', kind: 'unsupported' })
})

t.test('a call has a time limit, and leaves no timer', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
  const before = timers()
  t.equal(await timed(60_000, async signal => signal.aborted), false)
  await t.rejects(timed(60_000, async () => { throw new Error('refused') }), { message: 'refused' })
  t.equal(timers(), before)
  const hangs = (signal: AbortSignal) => new Promise((_resolve, reject) => { signal.onabort = () => reject(signal.reason) })
  await t.rejects(timed(1, hangs), { name: 'TimeoutError' })
})

t.test('of two calls none is under way when it rejects', async t => {
  let ended = false
  const slow = new Promise<void>(resolve => setImmediate(resolve)).then(() => { ended = true })
  await t.rejects(allDone([Promise.reject(new Error('first')), slow]), { message: 'first' })
  t.equal(ended, true)
  await t.rejects(allDone([Promise.resolve(1), Promise.reject(new Error('second'))]), { message: 'second' })
  t.same(await allDone([Promise.resolve(1), 2]), [1, 2])
})
