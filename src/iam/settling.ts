import { isIamError } from './errors.ts'

/** What IAM's eventual consistency and lost answers ask of every caller. Deadlines are epoch ms of the clock that waits. */
export interface Waiting {
  now: () => number
  pause: (ms: number) => Promise<void>
}

export const realTime: Waiting = { now: Date.now, pause: ms => new Promise(resolve => setTimeout(resolve, ms)) }

const pauseMs = 250
const hasTime = (until: number, { now }: Waiting) => now() + pauseMs < until

/** "Denied" may also be our role's fault: that must not take the whole deadline to tell. */
const deniedMs = 3_000

/**
 * A user made a moment ago may still be unknown to the next call: "gone" is asked again until the deadline, and so for a while
 * is "denied", as which a missing user shows under rights that are bound to a path.
 */
export const settling = async <T>(call: () => Promise<T>, until: number, waiting = realTime): Promise<T> => {
  const untilDenied = Math.min(until, waiting.now() + deniedMs)
  for (;;) {
    try {
      return await call()
    } catch (error) {
      const again = (isIamError(error, 'gone') && hasTime(until, waiting)) || (isIamError(error, 'denied') && hasTime(untilDenied, waiting))
      if (!again) throw error
      await waiting.pause(pauseMs)
    }
  }
}

/**
 * One fresh key. A lost answer may have made a key whose secret nobody has, and a user holds two (IAM quotas page):
 * before the next try, `prune` deletes the keys that we do not know.
 */
export const mintOne = async <T>(
  create: () => Promise<T>, prune: () => Promise<string[]>, until: number, waiting = realTime
): Promise<T> => {
  for (;;) {
    try {
      return await settling(create, until, waiting)
    } catch (error) {
      const lost = isIamError(error, 'unavailable')
      if (!(lost || isIamError(error, 'limit')) || !hasTime(until, waiting)) throw error
      const pruned = await prune()
      if (!lost && pruned.length === 0) throw error
      // Without it a provider that is down would be asked as fast as it refuses.
      if (lost) await waiting.pause(pauseMs)
    }
  }
}

/** True as soon as `probe` succeeds; false when it has not by the deadline. A provider that cannot be asked is no answer either. */
export const poll = async (probe: () => Promise<unknown>, until: number, waiting = realTime): Promise<boolean> => {
  for (;;) {
    try {
      await probe()
      return true
    } catch (error) {
      if (!isIamError(error, 'credentials', 'denied', 'unavailable', 'throttled', 'conflict')) throw error
      if (!hasTime(until, waiting)) return false
      await waiting.pause(pauseMs)
    }
  }
}
