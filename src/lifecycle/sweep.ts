import { isIamError } from '../iam/errors.ts'
import { settleMs } from '../iam/provisioner.ts'
import { allDone, systemClock, type Clock } from '../iam/retry.ts'
import type { DyingKey, Grant } from '../domain/grant.ts'
import { proveStored } from './access.ts'
import { assertLease, commit, deadline, dueOf, event, isLeased } from './lease.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { dying, idsOf, stillDying } from './dying-keys.ts'
import { finish, longestBackoffMs, postponed, startEnding } from './end.ts'
import { extendWorkers } from './extend.ts'
import { resume } from './redeliver.ts'
import { dropPrevious } from './rotate.ts'

export interface SweepOptions {
  /** Grants worked on at a time. */
  concurrency: number
  /** Grants started per second: a sweep must leave most of IAM's rate to jobs that start. */
  perSecond: number
  /** Only what is in this account of the pool, or in none. Default: each lane, all at the same time. */
  lane?: Lane
  /** Of the waits between two grants. Default: the real one. */
  clock?: Clock
}

/** Grants that are swept one after the other: those of one account, so that no account waits for another. */
export interface Lane { account: string | undefined }

/** Jobs whose workers have the keys are in no account, and the grants from before there was a pool name none. */
export const lanesOf = ({ pool }: Pick<GrantDeps, 'pool'>): Lane[] =>
  [{ account: undefined }, ...pool?.accounts.map(({ name }) => ({ account: name })) ?? []]

export interface SweepReport { handled: number, failed: number }

const sweeper: Actor = { id: 'sweeper', requestId: null }

/**
 * One pass over all grants that are due: expired, scheduled, pending for too long, still revoking, with a key past its overlap, or
 * left by an operation that died. Several replicas can sweep at once, since each claims a grant before it works on it. Each failing
 * grant has its own backoff.
 */
export const sweep = async (deps: GrantDeps, options: SweepOptions, stop: AbortSignal): Promise<SweepReport> => {
  const lanes = options.lane ? [options.lane] : lanesOf(deps)
  const reports = await Promise.all(lanes.map(lane => sweepLane(deps, lane, options, stop)))
  const sum = (what: keyof SweepReport) => reports.reduce((total, report) => total + report[what], 0)
  return { handled: sum('handled'), failed: sum('failed') }
}

const sweepLane = async (deps: GrantDeps, { account }: Lane, options: SweepOptions, stop: AbortSignal): Promise<SweepReport> => {
  const report = { handled: 0, failed: 0 }
  // A wrong clock would end grants that go on. See clock.ts.
  const goesOn = () => !stop.aborted && !deps.clock.wrong()
  await paced(dueIn(deps, account, goesOn), options, async grant => {
    // The lease lapses, and another pass continues.
    if (!goesOn() || !isLeased(deps, grant)) return
    report.handled++
    try {
      await handle(deps, grant)
    } catch (error) {
      report.failed++
      deps.log.error({ grantId: grant.id, state: grant.state, err: error }, 'sweep of a grant failed')
      await postponed(deps, sweeper, grant, 'attempt-failed', { error: error instanceof Error ? error.name : 'unknown' })
        .catch(() => {}) // the ledger is down, or another operation took over: the lease lapses
    }
  }, options.clock)
  return report
}

/**
 * What is due now, in the order of time; what becomes due meanwhile is of the next pass. A grant is claimed when it is the next one to
 * begin: one that waited for its turn would be held, and nobody else could end it. Its work then ends within the lease, which lasts three
 * deadlines: it takes two at the most.
 */
async function * dueIn (deps: GrantDeps, account: string | undefined, goesOn: () => boolean): AsyncGenerator<Grant> {
  const now = deps.now()
  while (goesOn()) {
    const [grant] = await deps.ledger.claimDue(now, deps.now() + deps.leaseMs, 1, account)
    if (!grant) return
    yield grant
  }
}

const handle = async (deps: GrantDeps, grant: Grant): Promise<unknown> => {
  const now = deps.now()
  switch (grant.state) {
    case 'pending':
      // Make the principal now. The key is made when the owner fetches it, since the service keeps no secret.
      if (grant.issueAt !== null && now < grant.expiresAt) return resume(deps, sweeper, grant, {}, false)
      return finish(deps, sweeper, await startEnding(deps, sweeper, grant, 'failed', 'stale'))
    case 'active':
      if (now >= grant.expiresAt) return expire(deps, grant)
      if (grant.maxWorkers !== null) return extendWorkers(deps, sweeper, grant)
      if (isOverlapOnly(grant)) return dropPrevious(deps, sweeper, grant, grant.expiresAt)
      return repair(deps, grant)
    case 'revoking': return finish(deps, sweeper, grant)
    // Ended: nothing is due.
    case 'expired': case 'failed': case 'revoked': return undefined
  }
}

const expire = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  if (!await isBehind(deps, grant)) return finish(deps, sweeper, await startEnding(deps, sweeper, grant, 'expired', 'window over'))
  // While this pass holds the worker, its job cannot reach it. The job tries again when this lease would have lapsed, at the latest: then
  // the worker must not be held once more.
  const dueAt = deps.now() + Math.max(2 * deps.leaseMs, longestBackoffMs)
  return commit(deps, grant, { dueAt, claimedUntil: null }, event(sweeper, 'behind-job'))
}

/** A worker whose job goes on: the job's longer window has not reached it yet. */
const isBehind = async (deps: GrantDeps, { parentId }: Grant): Promise<boolean> => {
  const job = parentId === null ? undefined : await deps.ledger.get(parentId)
  return job?.state === 'active' && deps.now() < job.expiresAt
}

/** Only the end of an overlap is due. */
const isOverlapOnly = ({ dueAt, previousKeyDiesAt, dyingKeys }: Grant): boolean =>
  previousKeyDiesAt !== null && dueAt === previousKeyDiesAt && dyingKeys.length === 0

/**
 * After an operation that died, and while the death of a key is not certain: gives the provider the policy of the ledger, and deletes
 * every key that the grant does not have.
 */
const repair = async (deps: GrantDeps, grant: Grant): Promise<Grant> => {
  const now = deps.now()
  const provisioner = deps.provisioners[grant.attach]
  const { accessKeyId, previousKeyId } = grant
  const isDying = (id: string | null) => grant.dyingKeys.some(key => key.id === id)
  const overlapOver = previousKeyId !== null && grant.previousKeyDiesAt !== null && now >= grant.previousKeyDiesAt
  const toDie = overlapOver && !isDying(previousKeyId) ? [...grant.dyingKeys, ...dying([previousKeyId], now)] : grant.dyingKeys
  try {
    const keep = [accessKeyId, overlapOver || isDying(previousKeyId) ? null : previousKeyId].filter(id => id !== null)
    const pruned = await provisioner.pruneKeys(grant.principal, { keep, known: idsOf(toDie) }, assertLease(deps, grant))
    const dyingKeys = stillDying(toDie, pruned, now)
    const previous = previousOf(grant, toDie, dyingKeys)
    const repaired = { ...grant, ...previous, dyingKeys }
    const policy = await proveStored(deps, sweeper, grant)
    const principal = grant.attach === 'session'
      ? grant.principal
      : await provisioner.replacePolicy(grant.principal, grant.attach, policy, assertLease(deps, grant))
    return await commit(deps, grant, { ...previous, dyingKeys, principal, dueAt: dueOf(repaired), claimedUntil: null, attempts: 0 },
      event(sweeper, 'repaired', { deletedKeys: pruned.join(' ') }))
  } catch (error) {
    if (!isIamError(error)) throw error
    if (isIamError(error, 'gone', 'denied') && await isGone(deps, grant)) {
      return finish(deps, sweeper, await startEnding(deps, sweeper, grant, 'revoked', 'the principal is gone'))
    }
    return postponed(deps, sweeper, grant, 'attempt-failed', { operation: error.operation, kind: error.kind })
  }
}

/** The key before is named as long as it may live, with the time of the next try to delete it. */
const previousOf = ({ previousKeyId }: Grant, toDie: DyingKey[], dyingKeys: DyingKey[]): Partial<Grant> => {
  if (previousKeyId === null || !toDie.some(({ id }) => id === previousKeyId)) return {}
  const left = dyingKeys.find(({ id }) => id === previousKeyId)
  return left ? { previousKeyDiesAt: left.askAt } : { previousKeyId: null, previousKeyDiesAt: null }
}

/** The provider does not know the principal, and it is old enough for that to be true: see settleMs. */
const isGone = async (deps: GrantDeps, grant: Grant): Promise<boolean> =>
  deps.now() - (grant.mintedAt ?? deps.now()) >= settleMs &&
    !(await deps.provisioners[grant.attach].exists(grant.principal, deadline(deps)))

/**
 * Runs `work` over the items, at most `concurrency` at once and `perSecond` begun per second. An item is taken when it is the next one to
 * begin.
 * @throws the first error of the items or of `work`, when all work that was begun has ended
 */
export const paced = async <T>(
  items: Iterable<T> | AsyncIterable<T>, { concurrency, perSecond }: Pick<SweepOptions, 'concurrency' | 'perSecond'>,
  work: (item: T) => Promise<void>, clock = systemClock
): Promise<void> => {
  // A generator answers one after the other, so all workers keep one pace.
  const queue = spaced(items, 1000 / perSecond, clock)
  const worker = async () => {
    for await (const item of queue) await work(item)
  }
  await allDone(Array.from({ length: concurrency }, worker))
}

async function * spaced<T> (items: Iterable<T> | AsyncIterable<T>, spacingMs: number, clock: Clock): AsyncGenerator<T> {
  let beginAt = clock.now()
  for await (const item of items) {
    const wait = beginAt - clock.now()
    beginAt = Math.max(beginAt, clock.now()) + spacingMs
    if (wait > 0) await clock.pause(wait)
    yield item
  }
}
