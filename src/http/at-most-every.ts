/** `work`, done at most once per `ms`: who asks in between gets the answer of the last time, or waits for it. */
export const atMostEvery = <T>(ms: number, now: () => number, work: () => Promise<T>): (() => Promise<T>) => {
  let last: { at: number, answer: Promise<T> } | undefined
  return () => {
    const at = now()
    // A clock set back must not keep an old answer.
    if (!last || at - last.at >= ms || at < last.at) last = { at, answer: work() }
    return last.answer
  }
}
