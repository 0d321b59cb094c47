import type { Grant } from '../domain/grant.ts'
import type { GrantDeps } from './deps.ts'
import { claimLease, release } from './lease.ts'

/** How many workers of an account one operation on their job works on at a time. */
const concurrency = 16

export interface Reached {
  /**
   * All workers that had not ended, as they are now. No worker joins a job that ends, and a worker that joins one that is changed has the
   * change.
   */
  workers: Grant[]
  /** Whether this try reached at least one that was not reached before. */
  progress: boolean
}

/**
 * Brings a change or the end of a job to its workers. Each is claimed for itself; one that another operation holds, that fails, or
 * that is not begun before the deadline is left. The job stays due then, and the sweeper calls this again.
 *
 * @param isReached whether nothing is left to do for a worker; never so of one that has not ended and that an operation holds
 */
export const reachWorkers = async (
  deps: GrantDeps, job: Grant, isReached: (worker: Grant) => boolean, reach: (claimed: Grant) => Promise<Grant>
): Promise<Reached> => {
  const until = deps.waitingNow() + deps.deadlineMs
  let progress = false
  // Those that failed come last: where the provider does too little in time, the others would never be reached.
  const workers = (await deps.ledger.workersOf(job.id)).sort((a, b) => a.attempts - b.attempts)
  const next = async (queue: Iterator<[number, Grant]> & Iterable<[number, Grant]>) => {
    // All of them take from one iterator, so each worker is taken once.
    for (const [index, worker] of queue) {
      if (!isReached(worker) && deps.waitingNow() < until) workers[index] = await reached(worker)
    }
  }
  const reached = async (worker: Grant): Promise<Grant> => {
    try {
      const claimed = await claimLease(deps, worker.id)
      if (!isReached(claimed)) {
        const done = await reach(claimed)
        // A teardown that failed again is no progress.
        progress ||= done.dueAt === null || (claimed.state !== 'revoking' && isReached(done))
        return done
      }
      return claimed.dueAt === null ? claimed : await release(deps, claimed)
    } catch (error) {
      deps.log.warn({ grantId: worker.id, jobGrantId: job.id, err: error }, 'a worker was not reached; left to the sweeper')
      // As it is now: where another operation holds it, its lease says when to try again.
      return await deps.ledger.get(worker.id).catch(() => undefined) ?? worker
    }
  }
  // An account that does not answer must not keep the workers of the others waiting.
  const queues = [...Map.groupBy(workers.entries(), ([, { principal }]) => principal.account).values()].map(group => group.values())
  await Promise.all(queues.flatMap(queue => Array.from({ length: concurrency }, () => next(queue))))
  return { workers, progress }
}
