import { isIamError } from './errors.ts'

/** What IAM's eventual consistency and lost answers ask of every caller. Deadlines are epoch ms of the real clock. */

const pauseMs = 250
const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))
const hasTime = (until: number) => Date.now() + pauseMs < until

/** A user made a moment ago may still be unknown to the next call: "gone" is asked again until the deadline. */
export const settling = async <T>(call: () => Promise<T>, until: number): Promise<T> => {
  for (;;) {
    try {
      return await call()
    } catch (error) {
      if (!isIamError(error, 'gone') || !hasTime(until)) throw error
      await pause(pauseMs)
    }
  }
}

/**
 * One fresh key. A lost answer may have made a key whose secret nobody has, and a user holds two (IAM quotas page):
 * before the next try, `prune` deletes the keys that we do not know.
 */
export const mintOne = async <T>(create: () => Promise<T>, prune: () => Promise<string[]>, until: number): Promise<T> => {
  for (;;) {
    try {
      return await settling(create, until)
    } catch (error) {
      const lost = isIamError(error, 'unavailable')
      if (!(lost || isIamError(error, 'limit')) || !hasTime(until)) throw error
      const pruned = await prune()
      if (!lost && pruned.length === 0) throw error
    }
  }
}

/** True as soon as `probe` succeeds; false when it has not by the deadline. Anything but "unknown key" is thrown. */
export const poll = async (probe: () => Promise<unknown>, until: number): Promise<boolean> => {
  for (;;) {
    try {
      await probe()
      return true
    } catch (error) {
      if (!isIamError(error, 'credentials', 'denied', 'unavailable')) throw error
      if (!hasTime(until)) return false
      await pause(pauseMs)
    }
  }
}
