import { isIamError } from '../iam/errors.ts'
import { settleMs } from '../iam/provisioner.ts'
import type { Grant } from '../domain/grant.ts'
import { proveStored } from './access.ts'
import { commit, deadline, dueOf, event } from './lease.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { finish, postponed, startEnding } from './end.ts'
import { resume } from './redeliver.ts'
import { dropPrevious } from './rotate.ts'

export interface SweepOptions {
  /** Grants claimed at a time. */
  batch: number
  /** Grants worked on at a time. */
  concurrency: number
  /** Grants begun per second, so that a sweep leaves IAM's rate to the jobs that start. */
  perSecond: number
}

export interface SweepReport { handled: number, failed: number }

const sweeper: Actor = { id: 'sweeper', requestId: null }

/**
 * One pass over everything that is due: expired, scheduled, stale pending, stuck revoking, keys past their overlap, operations
 * that died. Safe beside other replicas: a grant is claimed before it is touched. A failing grant backs off alone.
 */
export const sweep = async (deps: GrantDeps, options: SweepOptions, stop: AbortSignal): Promise<SweepReport> => {
  const report = { handled: 0, failed: 0 }
  // No more than can be begun in the first third of the lease.
  const batch = Math.max(1, Math.min(options.batch, Math.floor(options.perSecond * deps.leaseMs / 3000)))
  while (!stop.aborted) {
    const now = deps.now()
    const due = await deps.ledger.claimDue(now, now + deps.leaseMs, batch)
    await paced(due, options, async grant => {
      // Its claim lapses, another replica goes on.
      if (stop.aborted || !hasTime(deps, grant)) return
      report.handled++
      try {
        await handle(deps, grant)
      } catch (error) {
        report.failed++
        deps.log.error({ grantId: grant.id, state: grant.state, err: error }, 'sweep of a grant failed')
        await postponed(deps, sweeper, grant, 'attempt-failed', { error: error instanceof Error ? error.name : 'unknown' })
          .catch(() => {}) // the ledger is down or another took over: the claim lapses
      }
    })
    if (due.length < batch) break
  }
  return report
}

/**
 * What was claimed in a batch may have to wait while the provider is slow. Handling takes two deadlines at the most, and the
 * lease is three: begun later than that, it might meet another replica that holds the grant by then.
 */
const hasTime = (deps: GrantDeps, { claimedUntil }: Grant): boolean =>
  claimedUntil !== null && claimedUntil - deps.now() >= deps.leaseMs * 2 / 3

const handle = async (deps: GrantDeps, grant: Grant): Promise<unknown> => {
  const now = deps.now()
  switch (grant.state) {
    case 'pending':
      // The principal now, its key when the owner fetches it: a secret cannot be kept.
      if (grant.issueAt !== null && now < grant.expiresAt) return resume(deps, sweeper, grant, false)
      return finish(deps, sweeper, await startEnding(deps, sweeper, grant, 'failed', 'stale'))
    case 'active':
      if (now >= grant.expiresAt) return finish(deps, sweeper, await startEnding(deps, sweeper, grant, 'expired', 'window over'))
      if (isOverlapOnly(grant)) return dropPrevious(deps, sweeper, grant, grant.expiresAt)
      return repair(deps, grant)
    case 'revoking': return finish(deps, sweeper, grant)
    // Ended: nothing is due.
    case 'expired': case 'failed': case 'revoked': return undefined
  }
}

/** Nothing but the end of an overlap is due. */
const isOverlapOnly = ({ dueAt, previousKeyDiesAt }: Grant): boolean => previousKeyDiesAt !== null && dueAt === previousKeyDiesAt

/** After an operation that died: the provider holds what the ledger says, and no key that it does not know. */
const repair = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  const now = deps.now()
  const provisioner = deps.provisioners[grant.attach]
  const overlapOver = grant.previousKeyDiesAt !== null && now >= grant.previousKeyDiesAt
  const previous = overlapOver ? { previousKeyId: null, previousKeyDiesAt: null } : {}
  const repaired = { ...grant, ...previous }
  try {
    const until = deadline(deps)
    const keep = [repaired.accessKeyId, repaired.previousKeyId].filter(id => id !== null)
    const pruned = await provisioner.pruneKeys(grant.principal, keep, until)
    const policy = proveStored(grant)
    const principal = grant.attach === 'session'
      ? grant.principal
      : await provisioner.replacePolicy(grant.principal, grant.attach, policy, until)
    return await commit(deps, grant, { ...previous, principal, dueAt: dueOf(repaired), claimedUntil: null, attempts: 0 },
      event(sweeper, 'repaired', { deletedKeys: pruned.join(' ') }))
  } catch (error) {
    if (!isIamError(error)) throw error
    if (isIamError(error, 'gone', 'denied') && await isGone(deps, grant)) {
      return finish(deps, sweeper, await startEnding(deps, sweeper, grant, 'revoked', 'the principal is gone'))
    }
    return postponed(deps, sweeper, grant, 'attempt-failed', { operation: error.operation, kind: error.kind })
  }
}

/** Certainly: the provider does not know it, and it is old enough for that to be believed. */
const isGone = async (deps: GrantDeps, grant: Grant): Promise<boolean> =>
  deps.now() - (grant.mintedAt ?? deps.now()) >= settleMs &&
    !(await deps.provisioners[grant.attach].exists(grant.principal, deadline(deps)))

/** Runs `work` over the items, at most `concurrency` at once and `perSecond` begun per second. */
export const paced = async <T>(
  items: T[], { concurrency, perSecond }: Omit<SweepOptions, 'batch'>, work: (item: T) => Promise<void>
): Promise<void> => {
  const queue = [...items]
  const spacingMs = 1000 / perSecond
  let next = Date.now()
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      const wait = next - Date.now()
      next = Math.max(next, Date.now()) + spacingMs
      if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait))
      await work(item)
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker))
}
