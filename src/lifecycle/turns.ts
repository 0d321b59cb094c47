/**
 * Gives expensive computations their turns on the one thread that serves all callers. `await turn(id)` comes before work that holds the
 * thread for long. The next turn begins when that work is done and the thread has been free for twice as long as it took. So probes and
 * ends never wait for more than one such piece of work, however many requests for grants there are. Identities take turns one after the
 * other: who sends many requests waits for itself.
 */
export const fairTurns = (): ((id: string) => Promise<void>) => {
  // By identity, the one whose turn is next comes first.
  const waiting = new Map<string, Array<() => void>>()
  let busy = false

  const next = (): void => {
    const [first] = waiting
    busy = first !== undefined
    if (!first) return
    const [id, queue] = first
    const begin = queue.shift()
    waiting.delete(id)
    if (queue.length > 0) waiting.set(id, queue)
    const began = performance.now()
    begin?.()
    // The work runs before any immediate, as it goes on from a promise that is resolved now.
    setImmediate(() => {
      const took = performance.now() - began
      if (took < cheapMs) next()
      else setTimeout(next, 2 * took)
    })
  }

  return id => new Promise(resolve => {
    waiting.set(id, [...waiting.get(id) ?? [], resolve])
    if (!busy) next()
  })
}

/** A pause has a millisecond at least: after work that took little more, there is none. */
const cheapMs = 3
