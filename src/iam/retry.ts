import { isIamError, type IamErrorKind } from './errors.ts'

/** What a wait needs; tests bring a clock of their own. */
export interface Clock {
  /** Epoch ms. */
  now: () => number
  pause: (ms: number) => Promise<void>
}

/**
 * Epoch ms at the start of the process, and counted on since then. Not Date.now(): when the machine's clock is set, a deadline must not
 * pass early, nor let an operation go on after its lease, which other replicas judge by their clocks.
 */
export const systemClock: Clock = {
  now: () => Math.floor(performance.timeOrigin + performance.now()),
  pause: ms => new Promise(resolve => setTimeout(resolve, ms))
}

/**
 * A call with a time limit, whose timer ends with it. That of AbortSignal.timeout() stays: each call that is long done would still wake the
 * process, and build an error. The limit holds for what does not heed the signal as well, such as the SDK's search for our credentials.
 */
export const timed = async <T>(ms: number, call: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const limit = new AbortController()
  const passed = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const late = new DOMException(`No answer within ${ms} ms.`, 'TimeoutError')
    limit.abort(late)
    passed.reject(late)
  }, ms)
  try {
    return await Promise.race([call(limit.signal), passed.promise])
  } finally {
    clearTimeout(timer)
  }
}

interface RetryOptions {
  /** Deadline of the whole, in ms of the clock. */
  until: number
  clock?: Clock
  /** The wait in ms before the next try; undefined: this error is final. `failures` counts from 1. */
  waitAfter: (error: unknown, failures: number) => number | undefined | Promise<number | undefined>
}

/** Tries until it succeeds, the error is final, or the deadline leaves no time for another try. Rejects with the last error. */
export const retry = async <T>(attempt: () => Promise<T>, { until, clock = systemClock, waitAfter }: RetryOptions): Promise<T> => {
  for (let failures = 1; ; failures++) {
    try {
      return await attempt()
    } catch (error) {
      const ms = await waitAfter(error, failures)
      if (ms === undefined || clock.now() + ms >= until) throw error
      await clock.pause(ms)
      // A timer may fire late. Then this error is the reason, and not that there is no time for another try.
      if (clock.now() >= until) throw error
    }
  }
}

/** What IAM's eventual consistency and lost answers ask of every caller. Deadlines (`until`) are epoch ms of the given clock. */

const pauseMs = 250
const hasTime = (until: number, clock: Clock) => clock.now() + pauseMs < until

/** "denied" may also be an error of our role, which must not take the whole deadline to tell. */
const deniedMs = 3_000

/**
 * A user made a moment ago may still be unknown to the next call. So "gone" is tried again until the deadline, and "denied" for a
 * while: with rights that are bound to a path, IAM answers "denied" for a missing user.
 */
export const retryUntilVisible = <T>(call: () => Promise<T>, until: number, clock = systemClock): Promise<T> => {
  const untilDenied = Math.min(until, clock.now() + deniedMs)
  return retry(call, {
    until,
    clock,
    waitAfter: error => isIamError(error, 'gone') || (isIamError(error, 'denied') && hasTime(untilDenied, clock)) ? pauseMs : undefined
  })
}

/**
 * Creates one key. A lost answer may have created a key whose secret nobody has, and a user can have two keys (IAM quotas page):
 * before the next try, `prune` deletes the keys that we do not know.
 */
export const createOneKey = async <T>(
  create: () => Promise<T>, prune: () => Promise<string[]>, until: number, clock = systemClock
): Promise<{ key: T, lost: boolean }> => {
  let anyLost = false
  const waitAfter = async (error: unknown) => {
    const lost = isIamError(error, 'unavailable')
    anyLost ||= lost
    if (!(lost || isIamError(error, 'limit')) || !hasTime(until, clock)) return undefined
    const pruned = await prune()
    if (lost) return pauseMs
    return pruned.length > 0 ? 0 : undefined
  }
  const key = await retry(() => retryUntilVisible(create, until, clock), { until, clock, waitAfter })
  return { key, lost: anyLost }
}

/** A provider that cannot be asked leaves it open whether it knows the key. */
const unknownYet: IamErrorKind[] = ['credentials', 'skewed', 'denied', 'unavailable', 'throttled', 'conflict']

/** True as soon as `probe` succeeds; false when it has not by the deadline. */
export const poll = async (probe: () => Promise<unknown>, until: number, clock = systemClock): Promise<boolean> => {
  try {
    await retry(probe, { until, clock, waitAfter: error => isIamError(error, ...unknownYet) ? pauseMs : undefined })
    return true
  } catch (error) {
    if (isIamError(error, ...unknownYet)) return false
    throw error
  }
}

/** The call's answer; undefined where it fails as `kind`. */
export const ignoring = async <T>(kind: IamErrorKind, call: Promise<T>): Promise<T | undefined> => {
  try {
    return await call
  } catch (error) {
    if (isIamError(error, kind)) return undefined
    throw error
  }
}

/** Whether the provider did it; false: it says that there is no such entity. */
export const didDelete = async (call: Promise<void>): Promise<boolean> =>
  await ignoring('gone', call.then(() => true)) ?? false

/** Where the call fails as `kind`: removes the cause by `remedy`, and calls once more. */
export const remedied = async (kind: IamErrorKind, call: () => Promise<void>, remedy: () => Promise<unknown>): Promise<void> => {
  try {
    await call()
  } catch (error) {
    if (!isIamError(error, kind)) throw error
    await remedy()
    await call()
  }
}

/** Like Promise.all, but waits for the others, too, when one failed: nothing is under way when it rejects. */
export const allDone = async <T extends readonly unknown[] | []>(promises: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> => {
  await Promise.allSettled(promises)
  return Promise.all(promises)
}
