/** Does `work` at most once per `ms`. Calls in between get the answer of the last time, or wait for it. */
export const atMostEvery = <T>(ms: number, now: () => number, work: () => Promise<T>): (() => Promise<T>) => {
  let last: { at: number, answer: Promise<T> } | undefined
  return () => {
    const at = now()
    // When the clock is set back, an old answer must not stay for longer.
    if (!last || at - last.at >= ms || at < last.at) last = { at, answer: work() }
    return last.answer
  }
}
