import { retry, systemClock, type Clock } from '../retry.ts'
import { isIamError, type IamErrorKind } from './errors.ts'

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
export const createOneKey = <T>(
  create: () => Promise<T>, prune: () => Promise<string[]>, until: number, clock = systemClock
): Promise<T> => {
  const waitAfter = async (error: unknown) => {
    const lost = isIamError(error, 'unavailable')
    if (!(lost || isIamError(error, 'limit')) || !hasTime(until, clock)) return undefined
    const pruned = await prune()
    if (lost) return pauseMs
    return pruned.length > 0 ? 0 : undefined
  }
  return retry(() => retryUntilVisible(create, until, clock), { until, clock, waitAfter })
}

/** A provider that cannot be asked leaves it open whether it knows the key. */
const unknownYet: IamErrorKind[] = ['credentials', 'denied', 'unavailable', 'throttled', 'conflict']

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
