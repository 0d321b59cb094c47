/** Runs `work` repeatedly: each run starts `everyMs` after the end of the last one. */
export const periodic = (
  everyMs: number, work: (stop: AbortSignal) => Promise<unknown>, onError: (error: unknown) => void
): { stop: () => Promise<void> } => {
  const stopping = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> = Promise.resolve()
  const run = async () => {
    try {
      await work(stopping.signal)
    } catch (error) {
      onError(error)
    }
    if (!stopping.signal.aborted) schedule()
  }
  const schedule = () => { timer = setTimeout(() => { running = run() }, everyMs) }
  schedule()
  return {
    /** Resolves when the run under way has ended. */
    async stop () {
      stopping.abort()
      clearTimeout(timer)
      await running
    }
  }
}
