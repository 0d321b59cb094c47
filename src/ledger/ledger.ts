import type { GrantEvent } from '../domain/events.ts'
import type { Grant, GrantState } from '../domain/grant.ts'

/**
 * The ledger: every grant and its history, in SQLite or PostgreSQL.
 * Each method is one transaction. When the database fails, it rejects with LedgerUnavailableError: it is then unknown whether a
 * write took effect. Any other rejection, except those named below, is a bug.
 */
export interface Ledger {
  /**
   * Writes the intent: a `pending` grant and its first event, in one transaction with the check of the limits.
   * When the owner already has a grant with the same idempotency key, that one is returned (`existing`) and nothing is written.
   * `limits` are for outstanding grants (pending, active, revoking); `managed` for those of them that have a managed policy, and `users`
   * for those that have a user: both in the grant's account. When one is reached: `limited`, and nothing is written.
   * A worker's grant names its job's, and is written only while that is active, has the same policy and window as `job`, and has room. So
   * whatever changes or ends the job sees every worker that was written before, and none with what the job was is written after.
   */
  begin(grant: NewGrant, event: NewEvent, limits: OutstandingLimits, job?: JobOfWorkers): Promise<BeginResult>

  get(id: string): Promise<Grant | undefined>

  /** The grants of a job's workers that have not ended. */
  workersOf(jobId: string): Promise<Grant[]>

  /** Newest first. `after` is the id of the last grant of the previous page. */
  list(filter: GrantFilter, page: { limit: number, after?: string }): Promise<Grant[]>

  /**
   * Claims the grant for an operation until `until`. Undefined when there is no such grant, or another claim on it is valid at
   * `now`: it has not lapsed, and is not of a clock that was ahead (see mostSkewMs).
   * A claim raises the version, so that update() with an older version fails.
   */
  claim(id: string, now: number, until: number): Promise<Grant | undefined>

  /**
   * Changes a grant and appends its event, in one transaction. Returns `grant` with the change. That is what is
   * stored, so `grant` must be as it was read.
   * `grant.version` must be the stored version (else StaleGrantError). `change.state`, when given, must be a legal next state
   * (else IllegalTransitionError). A change to an end state must also set dueAt to null. Setting claimedUntil to null releases
   * the claim.
   */
  update(grant: Grant, change: GrantChange, event: NewEvent, at: number): Promise<Grant>

  /**
   * Claims up to `limit` unclaimed grants with dueAt <= now, oldest due first: those of an account of the pool, or those of none.
   * Two replicas never get the same grant (FOR UPDATE SKIP LOCKED on PostgreSQL).
   */
  claimDue(now: number, until: number, limit: number, account?: string): Promise<Grant[]>

  /**
   * What outstanding grants have in each of these accounts, as of the last commit. '' is the one without a name: its users are not counted.
   */
  accounts(names: string[]): Promise<AccountUse[]>
  /** The earliest end of an outstanding grant with a user, or with a managed policy, in one of these accounts; null: there is none. */
  firstEnd(accounts: string[], what: 'users' | 'managed'): Promise<number | null>
  /** The accounts with something of an outstanding grant, and of how many; without a name: from when there was no pool. */
  inhabited(): Promise<Array<{ account: string | undefined, grants: number }>>

  /** The names, among these, of principals of outstanding grants. */
  known(names: string[]): Promise<Set<string>>

  events(grantId: string): Promise<GrantEvent[]>

  /**
   * The number of grants by state; the earliest expiresAt <= now of an outstanding grant; and the earliest dueAt <= now of an
   * unclaimed grant, which shows how far the sweeper is behind.
   */
  stats(now: number): Promise<{ byState: Record<GrantState, number>, oldestOverdueExpiry: number | null, oldestDue: number | null }>

  /** The database's clock, epoch ms; null: it has none of its own. */
  time(): Promise<number | null>
  /** Writes something and removes it again: rejects when a grant could not be stored. */
  ping(): Promise<void>
  close(): Promise<void>
}

/**
 * How far the clocks of two replicas may be apart. A claim that lasts longer than a new one by more than this was made by a clock that
 * has been set back since: it counts as lapsed, so that a grant is not held for as long as the clock was ahead.
 */
export const mostSkewMs = 2 * 60_000

export interface OutstandingLimits { perOwner: number, total: number, managed?: number | undefined, users?: number | undefined }
export interface AccountUse { account: string, users: number, sessions: number, managed: number }
export type NewGrant = Omit<Grant, 'version' | 'state' | 'updatedAt'>
export type NewEvent = Omit<GrantEvent, 'grantId' | 'at'>
export type BeginResult =
  | { outcome: 'created', grant: Grant }
  | { outcome: 'existing', grant: Grant }
  | { outcome: 'limited', limit: 'perOwner' | 'total' | 'managed' | 'users', outstanding: number }
  | { outcome: 'limited', limit: 'workers', outstanding: number, ended: EndedWorkers }
  /** The job has ended or has another policy since it was read. */
  | { outcome: 'job-changed' }

/** Of the workers that count: those that are being ended, and those whose session cannot be revoked, until the first of these ends. */
export interface EndedWorkers { ending: number, irrevocable: number, sessionEndsAt: number | null }

export type JobOfWorkers = Pick<Grant, 'id' | 'policyHash' | 'notBefore' | 'expiresAt' | 'maxWorkers'>

/** What may change of a grant; the database refuses the rest. */
export type GrantChange = Partial<Omit<
  Grant, 'id' | 'owner' | 'team' | 'jobId' | 'maxWorkers' | 'parentId' | 'worker' | 'createdAt' | 'version' | 'updatedAt'
>>

export interface GrantFilter {
  /** Only grants of these teams; undefined: of all teams. By an index where `parentId` is null. */
  teams?: string[]
  states?: GrantState[]
  /** By an index where `parentId` is null. */
  jobId?: string
  /** Only the workers of this grant; null: no workers; undefined: all. */
  parentId?: string | null
  /** Only the workers of this name. */
  worker?: string
  /** Only those with a principal in this account of the pool. Filters what the others find. */
  account?: string
}

export class LedgerError extends Error { override name = 'LedgerError' }
/** The database cannot be reached, or failed. */
export class LedgerUnavailableError extends LedgerError { override name = 'LedgerUnavailableError' }
export class StaleGrantError extends LedgerError { override name = 'StaleGrantError' }
export class IllegalTransitionError extends LedgerError { override name = 'IllegalTransitionError' }
/** The URL of the database cannot be used. Its message never contains the URL, which may have a password. */
export class LedgerUrlError extends LedgerError { override name = 'LedgerUrlError' }
/** A newer version of this service has migrated the database. An older one would lose what it does not know. */
export class SchemaTooNewError extends LedgerError { override name = 'SchemaTooNewError' }
