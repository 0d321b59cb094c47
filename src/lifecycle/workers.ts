import type { Grant } from '../domain/grant.ts'
import type { GrantDeps } from './deps.ts'
import { claimLease, release } from './lease.ts'

/** How many workers one operation on their job works on at a time. */
const concurrency = 16

/**
 * Brings a change or the end of a job to its workers. Each is claimed for itself; one that another operation holds, that fails, or
 * that is not begun before the deadline is left. The job stays due then, and the sweeper calls this again.
 *
 * @param isReached whether nothing is left to do for a worker; never so of one that has not ended and that an operation holds
 * @returns the workers that are left
 */
export const reachWorkers = async (
  deps: GrantDeps, job: Grant, isReached: (worker: Grant) => boolean, reach: (claimed: Grant) => Promise<Grant>
): Promise<Grant[]> => {
  const until = deps.waitingNow() + deps.deadlineMs
  const queue = (await deps.ledger.workersOf(job.id)).filter(worker => !isReached(worker))
  const left: Grant[] = []
  const next = async () => {
    for (let worker = queue.shift(); worker !== undefined; worker = queue.shift()) {
      const after = deps.waitingNow() < until ? await reached(worker) : worker
      if (!isReached(after)) left.push(after)
    }
  }
  const reached = async (worker: Grant): Promise<Grant> => {
    try {
      const claimed = await claimLease(deps, worker.id)
      if (!isReached(claimed)) return await reach(claimed)
      if (claimed.dueAt !== null) await release(deps, claimed)
      return claimed
    } catch (error) {
      deps.log.warn({ grantId: worker.id, jobGrantId: job.id, err: error }, 'a worker was not reached; left to the sweeper')
      return worker
    }
  }
  await Promise.all(Array.from({ length: concurrency }, next))
  return left
}
