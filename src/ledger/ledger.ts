import type { GrantEvent } from '../domain/events.ts'
import type { Grant, GrantState } from '../domain/grant.ts'

/**
 * The ledger: what was promised and what became of it. SQLite and PostgreSQL behind one interface.
 * Every method is one transaction. Errors of the store reject with LedgerUnavailableError: whether a write took effect is then
 * unknown. Anything else that rejects is a bug.
 */
export interface Ledger {
  /**
   * Writes the intent: a `pending` grant and its first event, in one transaction with the limits.
   * A grant of the same owner with the same idempotency key is returned instead (`existing`), nothing is written.
   * `limits` count outstanding grants (pending, active, revoking): over it, `limited`, nothing is written.
   */
  begin(grant: NewGrant, event: NewEvent, limits: { perOwner: number, total: number }): Promise<BeginResult>

  get(id: string): Promise<Grant | undefined>

  /** Newest first. `after` is the id of the last grant of the page before. */
  list(filter: GrantFilter, page: { limit: number, after?: string }): Promise<Grant[]>

  /**
   * Takes the grant for an operation until `until`; undefined when it is unknown or another holds it at `now`.
   * The claim is a version: update() with an older one fails.
   */
  claim(id: string, now: number, until: number): Promise<Grant | undefined>

  /**
   * Changes a grant and appends its event, in one transaction. `grant.version` must be the stored one
   * (else StaleGrantError). `change.state`, when given, must be a legal next state (else IllegalTransitionError); leave it out to keep the
   * state. A change to an end sets dueAt to null too. Returns the grant as stored.
   * `change` may set claimedUntil to null: the operation is over.
   */
  update(grant: Pick<Grant, 'id' | 'version'>, change: GrantChange, event: NewEvent, at: number): Promise<Grant>

  /**
   * Claims up to `limit` grants with dueAt <= now that nobody holds, oldest due first.
   * Replicas side by side never get the same grant (FOR UPDATE SKIP LOCKED on PostgreSQL).
   */
  claimDue(now: number, until: number, limit: number): Promise<Grant[]>

  /** Which of these user names belong to an outstanding grant. */
  known(names: string[]): Promise<Set<string>>

  events(grantId: string): Promise<GrantEvent[]>

  /**
   * Grants by state; the earliest expiresAt, at or before `now`, of an outstanding grant; and the earliest dueAt, at or before
   * `now`, of a grant that nobody holds, which is what the sweeper is behind by.
   */
  stats(now: number): Promise<{ byState: Record<GrantState, number>, oldestOverdueExpiry: number | null, oldestDue: number | null }>

  /** Cheap; rejects when the store does not answer. */
  ping(): Promise<void>
  close(): Promise<void>
}

export type NewGrant = Omit<Grant, 'version' | 'state' | 'updatedAt'>
export type NewEvent = Omit<GrantEvent, 'grantId' | 'at'>
export type BeginResult =
  | { outcome: 'created', grant: Grant }
  | { outcome: 'existing', grant: Grant }
  | { outcome: 'limited', limit: 'perOwner' | 'total', outstanding: number }

export type GrantChange = Partial<Omit<Grant, 'id' | 'owner' | 'team' | 'jobId' | 'requestHash' | 'createdAt' | 'version' | 'updatedAt'>>

export interface GrantFilter {
  /** Teams the caller may see; undefined: all. */
  teams?: string[]
  states?: GrantState[]
  jobId?: string
}

export class LedgerUnavailableError extends Error { override name = 'LedgerUnavailableError' }
export class StaleGrantError extends Error { override name = 'StaleGrantError' }
export class IllegalTransitionError extends Error { override name = 'IllegalTransitionError' }
