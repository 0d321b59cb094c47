/** Resolves when this identity may compute something expensive: `holds`, within an operation that holds a grant. */
export type Turn = (id: string, how?: { holds?: boolean }) => Promise<void>

/**
 * Gives expensive computations their turns on the one thread that serves all callers. `await turn(id)` comes before work that holds the
 * thread for long. The next turn begins when that work is done and the thread has been free for twice as long as it took. So probes and
 * ends never wait for more than one such piece of work, however many requests for grants there are. Identities take turns one after the
 * other: who sends many requests waits for itself. Of one identity, work that holds a grant comes first, since its lease runs.
 */
export const fairTurns = (): Turn => {
  // By identity, the one whose turn is next comes first.
  const waiting = new Map<string, Array<{ begin: () => void, holds: boolean }>>()
  let busy = false

  const following = (): void => {
    const [first] = waiting
    busy = first !== undefined
    if (!first) return
    const [id, queue] = first
    const next = queue.splice(Math.max(0, queue.findIndex(({ holds }) => holds)), 1)[0]
    waiting.delete(id)
    if (queue.length > 0) waiting.set(id, queue)
    const began = performance.now()
    next?.begin()
    // The work runs before any immediate, as it goes on from a promise that is resolved now.
    setImmediate(() => {
      const took = performance.now() - began
      if (took < cheapMs) following()
      else setTimeout(following, 2 * took)
    })
  }

  return (id, { holds = false } = {}) => new Promise(resolve => {
    waiting.set(id, [...waiting.get(id) ?? [], { begin: resolve, holds }])
    if (!busy) following()
  })
}

/** A pause has a millisecond at least: after work that took little more, there is none. */
const cheapMs = 3
