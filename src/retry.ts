/** What a wait needs; tests bring a clock of their own. */
export interface Clock {
  /** Epoch ms. */
  now: () => number
  pause: (ms: number) => Promise<void>
}

export const systemClock: Clock = { now: Date.now, pause: ms => new Promise(resolve => setTimeout(resolve, ms)) }

export interface RetryOptions {
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
