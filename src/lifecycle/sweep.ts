import { isIamError } from '../iam/errors.ts'
import { settleMs } from '../iam/principal.ts'
import type { Grant } from '../ledger/grant.ts'
import { commit, dueOf, event, planOf, type Actor, type Desk } from './desk.ts'
import { finish, postponed, startEnding } from './end.ts'
import { mint, startMinting } from './issue.ts'
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
export const sweep = async (desk: Desk, options: SweepOptions, stop: AbortSignal): Promise<SweepReport> => {
  const report = { handled: 0, failed: 0 }
  while (!stop.aborted) {
    const now = desk.now()
    const due = await desk.ledger.claimDue(now, now + desk.leaseMs, options.batch)
    await paced(due, options, async grant => {
      if (stop.aborted) return // its claim lapses, another replica goes on
      report.handled++
      try {
        await handle(desk, grant)
      } catch (error) {
        report.failed++
        desk.log.error({ grantId: grant.id, state: grant.state, err: error }, 'sweep of a grant failed')
        await postponed(desk, sweeper, grant, 'attempt-failed', { error: error instanceof Error ? error.name : 'unknown' })
          .catch(() => {}) // the ledger is down or another took over: the claim lapses
      }
    })
    if (due.length < options.batch) break
  }
  return report
}

const handle = async (desk: Desk, grant: Grant): Promise<unknown> => {
  const now = desk.now()
  switch (grant.state) {
    case 'pending': {
      const scheduled = grant.issueAt !== null && grant.mintedAt === null && now < grant.expiresAt
      // The principal now, its key when the owner fetches it: a secret cannot be kept.
      if (scheduled) return mint(desk, sweeper, await startMinting(desk, sweeper, grant), false)
      return finish(desk, sweeper, await startEnding(desk, sweeper, grant, 'failed', 'stale'))
    }
    case 'active':
      if (now >= grant.expiresAt) return finish(desk, sweeper, await startEnding(desk, sweeper, grant, 'expired', 'window over'))
      return mend(desk, grant)
    case 'revoking': return finish(desk, sweeper, grant)
    default: return undefined
  }
}

/** After an operation that died: the provider holds what the ledger says, and no key that it does not know. */
const mend = async (desk: Desk, grant: Grant): Promise<Grant> => {
  const now = desk.now()
  const principals = desk.principals(grant.attach)
  const overlapOver = grant.previousKeyDiesAt !== null && now >= grant.previousKeyDiesAt
  if (overlapOver) return dropPrevious(desk, sweeper, grant)
  try {
    const until = desk.deadline()
    const keep = [grant.accessKeyId, grant.previousKeyId].filter(id => id !== null)
    const pruned = await principals.pruneKeys(grant.principal, keep, until)
    const plan = planOf(grant)
    const principal = grant.attach === 'session' ? grant.principal : await principals.replacePolicy(grant.principal, plan.carrier, plan.policy, until)
    return await commit(desk, grant, { principal, dueAt: dueOf(grant), claimedUntil: null, attempts: 0 },
      event(sweeper, 'mended', { deletedKeys: pruned.join(' ') }))
  } catch (error) {
    if (!isIamError(error)) throw error
    if (isIamError(error, 'gone') && now - (grant.mintedAt ?? now) >= settleMs) {
      return finish(desk, sweeper, await startEnding(desk, sweeper, grant, 'revoked', 'the principal is gone'))
    }
    return postponed(desk, sweeper, grant, 'attempt-failed', { operation: error.operation, kind: error.kind })
  }
}

/** Runs `work` over the items, at most `concurrency` at once and `perSecond` begun per second. */
export const paced = async <T>(items: T[], { concurrency, perSecond }: Omit<SweepOptions, 'batch'>, work: (item: T) => Promise<void>): Promise<void> => {
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
