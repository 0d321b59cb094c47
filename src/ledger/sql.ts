import { sql, type ExpressionBuilder, type Kysely } from 'kysely'
import { transitions, type Grant, type GrantState } from '../domain/grant.ts'
import {
  IllegalTransitionError, LedgerError, LedgerUnavailableError, StaleGrantError, mostSkewMs,
  type BeginResult, type GrantChange, type JobOfWorkers, type Ledger, type NewEvent, type NewGrant
} from './ledger.ts'
import { checkLimit, pageOf } from './page.ts'
import {
  allOwners, columnsOf, countNames, eventOf, grantOf, hasManagedPolicy, inAccount, managedPolicies, writeGrant, type Counts, type Dialect,
  type GrantRow, type Tables
} from './rows.ts'

type Db = Kysely<Tables>
type Limits = Parameters<Ledger['begin']>[2]

const states = Object.keys(transitions) as GrantState[]
const isEnd = (state: GrantState) => transitions[state].length === 0

/** How many names one statement looks up. Both databases accept tens of thousands of parameters. */
const namesPerStatement = 1000

/** What differs between the two databases. Everything else is in this file. */
export interface Store {
  dialect: Dialect
  db: Kysely<Tables>
  /**
   * Runs `work` as one transaction and resolves when it is durable. An error of `work` rolls the transaction back and is
   * thrown unchanged. `work` must await only queries on the `tx` it is given.
   */
  write<T>(work: (tx: Kysely<Tables>) => Promise<T>): Promise<T>
  /** The same for `work` with at most one writing statement: PostgreSQL then needs no transaction around it, which saves round trips. */
  statement<T>(work: (tx: Kysely<Tables>) => Promise<T>): Promise<T>
  /** The clock of a database on another machine, epoch ms. */
  time?(): Promise<number>
  /** Throws when what is written would be lost with this process. */
  requireKept?(): void
  close(): Promise<void>
}

/** The ledger on a store whose schema is up to date. */
export function sqlLedger (store: Store): Ledger {
  const { db, dialect } = store
  const read = withLedgerErrors
  const statement = <T>(work: (tx: Db) => Promise<T>) => withLedgerErrors(() => store.statement(work))

  return {
    begin: (grant, event, limits, job) => withLedgerErrors(async () => {
      store.requireKept?.()
      // Most refused and repeated requests end here, without a write and without the lock on the counts.
      const answer = await answerWithoutWriting(db, grant, limits)
      if (answer) return answer
      try {
        return await store.write(async (tx) => (job && await refusedByJob(tx, dialect, job)) ?? begin(tx, dialect, grant, event, limits))
      } catch (error) {
        if (error instanceof LimitReachedError) return error.result
        throw error
      }
    }),

    get: (id) => read(() => get(db, id)),

    workersOf: (jobId) => read(async () => {
      const rows = await db.selectFrom('grants').selectAll()
        .where('parent_id', '=', jobId)
        .where('due_at', 'is not', null)
        .orderBy('id')
        .execute()
      return rows.map(grantOf)
    }),

    list: (filter, page) => read(async () => (await pageOf(db, filter, page)).map(grantOf)),

    claim: (id, now, until) => statement(async (tx) => {
      const row = await tx.updateTable('grants')
        .set((eb) => ({ claimed_until: until, updated_at: now, version: eb('version', '+', 1) }))
        .where('id', '=', id)
        .where(unclaimed(now, until))
        .returningAll()
        .executeTakeFirst()
      return row && grantOf(row)
    }),

    update: (grant, change, event, at) => statement((tx) => update(tx, dialect, grant, change, event, at)),

    claimDue: (now, until, limit, account = '') => statement(async (tx) => {
      checkLimit(limit)
      // Materialized, or the planner could run the subquery more than once, and so lock and return more than `limit` rows.
      const rows = await tx
        .with((cte) => cte('due').materialized(), (due) => {
          const oldest = due.selectFrom('grants').select('id')
            .where('due_at', '<=', now)
            .where('account', '=', account)
            .where(unclaimed(now, until))
            .orderBy('due_at').orderBy('id')
            .limit(limit)
          return dialect === 'postgres' ? oldest.forUpdate().skipLocked() : oldest
        })
        .updateTable('grants')
        .from('due')
        .whereRef('grants.id', '=', 'due.id')
        .set((eb) => ({ claimed_until: until, updated_at: now, version: eb('grants.version', '+', 1) }))
        .returningAll()
        .execute()
      return rows.map(grantOf).sort(oldestDueFirst)
    }),

    accounts: (names) => read(async () => {
      const counted = names.map((account) => ({
        account,
        users: inAccount({ attach: 'inline', maxWorkers: null }, account) ?? '',
        sessions: inAccount({ attach: 'session', maxWorkers: null }, account) ?? '',
        managed: managedPolicies(account)
      }))
      const owners = counted.flatMap(({ users, sessions, managed }) => [users, sessions, managed]).filter((owner) => owner !== '')
      const rows = await db.selectFrom('grant_counts').selectAll().where('owner', 'in', owners).execute()
      const countOf = (name: string) => rows.find(({ owner }) => owner === name)?.outstanding ?? 0
      return counted.map(({ account, users, sessions, managed }) =>
        ({ account, users: countOf(users), sessions: countOf(sessions), managed: countOf(managed) }))
    }),

    firstEnd: (accounts, what) => read(async () => {
      // The concatenation keeps the planner from another index than that of the ends.
      const first = await db.selectFrom('grants').select('expires_at')
        .where('due_at', 'is not', null)
        .where(sql<string>`account || ''`, 'in', accounts)
        .where(what === 'managed' ? countNames.hasManaged : sql<boolean>`(${countNames.hasPlace} and attach <> 'session')`)
        .orderBy('expires_at').limit(1)
        .executeTakeFirst()
      return first?.expires_at ?? null
    }),

    inhabited: () => read(async () => {
      const rows = await db.selectFrom('grants').select((eb) => ['account', eb.fn.countAll<number>().as('grants')])
        .where('due_at', 'is not', null)
        .where(sql<boolean>`(max_workers is null or minted_at is not null)`)
        .groupBy('account').orderBy('account')
        .execute()
      return rows.map(({ account, grants }) => ({ account: account === '' ? undefined : account, grants: Number(grants) }))
    }),

    known: (names) => read(async () => {
      const known = new Set<string>()
      for (let start = 0; start < names.length; start += namesPerStatement) {
        const rows = await db.selectFrom('grants').select('principal_name')
          .where('principal_name', 'in', names.slice(start, start + namesPerStatement))
          .where('due_at', 'is not', null)
          .execute()
        for (const row of rows) known.add(row.principal_name)
      }
      return known
    }),

    events: (grantId) => read(async () => {
      const rows = await db.selectFrom('grant_events').selectAll()
        .where('grant_id', '=', grantId)
        .orderBy('version')
        .execute()
      return rows.map(eventOf)
    }),

    stats: (now) => read(async () => {
      const counted = await db.selectFrom('grants')
        .select((eb) => ['state', eb.fn.countAll<number>().as('grants')])
        .groupBy('state')
        .execute()
      const overdue = await db.selectFrom('grants')
        .select((eb) => eb.fn.min('expires_at').as('expiry'))
        .where('expires_at', '<=', now)
        .where('due_at', 'is not', null)
        .executeTakeFirst()
      const waiting = await db.selectFrom('grants')
        .select((eb) => eb.fn.min('due_at').as('due'))
        .where('due_at', '<=', now)
        .where(unclaimed(now))
        .executeTakeFirst()
      const byState = Object.fromEntries(states.map((state) => [state, 0])) as Record<GrantState, number>
      for (const row of counted) byState[row.state] = row.grants
      return { byState, oldestOverdueExpiry: overdue?.expiry ?? null, oldestDue: waiting?.due ?? null }
    }),

    time: () => read(async () => await store.time?.() ?? null),

    ping: () => withLedgerErrors(async () => {
      store.requireKept?.()
      // A full disk and a standby still answer reads.
      await store.write(async (tx) => {
        await tx.insertInto('grant_counts').values({ owner: probeOwner, outstanding: 0 })
          .onConflict((conflict) => conflict.doNothing())
          .execute()
        await tx.deleteFrom('grant_counts').where('owner', '=', probeOwner).execute()
      })
    }),

    close: () => store.close()
  }
}

/** No identity has a blank in its id. */
const probeOwner = 'readiness probe'

/** The answer of begin() when it needs no write. */
async function answerWithoutWriting (db: Db, grant: NewGrant, limits: Limits): Promise<BeginResult | undefined> {
  const place = inAccount(grant, grant.principal.account)
  const { existing, own, all, policies, there } = await db.selectNoFrom((eb) => [
    eb.selectFrom('grants').select('id')
      .where('owner', '=', grant.owner)
      .where('idempotency_key', '=', grant.idempotencyKey)
      .as('existing'),
    outstandingOf(db, grant.owner).as('own'),
    outstandingOf(db, allOwners).as('all'),
    outstandingOf(db, managedPolicies(grant.principal.account)).as('policies'),
    outstandingOf(db, place ?? '').as('there')
  ]).executeTakeFirstOrThrow()
  if (existing !== null) {
    const stored = await get(db, existing)
    if (stored) return { outcome: 'existing', grant: stored }
  }
  const managed = hasManagedPolicy(grant) ? (policies ?? 0) + 1 : null
  return limitReached({ own: (own ?? 0) + 1, all: (all ?? 0) + 1, managed, placed: place === null ? null : (there ?? 0) + 1 }, limits)
}

/** As of the last commit, without a lock. */
const outstandingOf = (db: Db, owner: string) =>
  db.selectFrom('grant_counts').select('outstanding').where('owner', '=', owner)

/** Locks the job until the worker is written, so that no change of the job and no other worker comes in between. */
async function refusedByJob (tx: Db, dialect: Dialect, job: JobOfWorkers): Promise<BeginResult | undefined> {
  const same = tx.selectFrom('grants').select('id')
    .where('id', '=', job.id).where('state', '=', 'active').where('policy_hash', '=', job.policyHash)
    .where('not_before', '=', job.notBefore).where('expires_at', '=', job.expiresAt)
  if (!await (dialect === 'postgres' ? same.forUpdate() : same).executeTakeFirst()) return { outcome: 'job-changed' }
  const { live } = await tx.selectFrom('grants').select((eb) => eb.fn.countAll<number>().as('live'))
    .where('parent_id', '=', job.id).where('due_at', 'is not', null).executeTakeFirstOrThrow()
  if (Number(live) < (job.maxWorkers ?? 0)) return undefined
  const revoking = await tx.selectFrom('grants').select(['attach', 'idempotency_key', 'due_at'])
    .where('parent_id', '=', job.id).where('state', '=', 'revoking').execute()
  // An end that the provider did not confirm frees the name as well, but is tried again in minutes.
  const irrevocable = revoking.filter((row) => row.attach === 'session' && row.idempotency_key === null)
  const sessionEndsAt = irrevocable.length === 0 ? null : Math.min(...irrevocable.map((row) => row.due_at ?? Infinity))
  const ended = { ending: revoking.length - irrevocable.length, irrevocable: irrevocable.length, sessionEndsAt }
  return { outcome: 'limited', limit: 'workers', outstanding: Number(live), ended }
}

async function begin (
  tx: Db, dialect: Dialect, grant: NewGrant, event: NewEvent, limits: Limits
): Promise<BeginResult> {
  // On PostgreSQL this waits for a transaction that is inserting the same key.
  const statement = tx.insertInto('grants')
    .values(newRow(grant))
    .onConflict((conflict) => conflict.columns(['owner', 'idempotency_key']).doNothing())
    .returningAll()
  const written = await writeGrant(tx, dialect, { statement, event, at: grant.createdAt, countChange: 1 })
  if (!written) return { outcome: 'existing', grant: await grantWithKey(tx, grant) }
  const limited = written.counts && limitReached(written.counts, limits)
  if (limited) throw new LimitReachedError(limited)
  return { outcome: 'created', grant: grantOf(written.row) }
}

function newRow (grant: NewGrant): GrantRow {
  const row = columnsOf({ ...grant, state: 'pending', updatedAt: grant.createdAt, version: 1 })
  return row as GrantRow
}

async function grantWithKey (tx: Db, { owner, idempotencyKey }: NewGrant): Promise<Grant> {
  const row = await tx.selectFrom('grants').selectAll()
    .where('owner', '=', owner)
    .where('idempotency_key', '=', idempotencyKey)
    .executeTakeFirst()
  if (!row) throw new LedgerUnavailableError('The grant with the same idempotency key released the key at this moment.')
  return grantOf(row)
}

/** `counts` include the requested grant. */
function limitReached (counts: Counts, limits: Limits): BeginResult | undefined {
  if (counts.own > limits.perOwner) return { outcome: 'limited', limit: 'perOwner', outstanding: counts.own - 1 }
  if (counts.all > limits.total) return { outcome: 'limited', limit: 'total', outstanding: counts.all - 1 }
  if (counts.managed !== null && counts.managed > (limits.managed ?? Infinity)) {
    return { outcome: 'limited', limit: 'managed', outstanding: counts.managed - 1 }
  }
  if (counts.placed !== null && counts.placed > (limits.users ?? Infinity)) {
    return { outcome: 'limited', limit: 'users', outstanding: counts.placed - 1 }
  }
  return undefined
}

async function update (
  tx: Db, dialect: Dialect, grant: Pick<Grant, 'id' | 'version'>, change: GrantChange, event: NewEvent, at: number
): Promise<Grant> {
  let statement = tx.updateTable('grants')
    .set((eb) => ({ ...columnsOf(change), updated_at: at, version: eb('version', '+', 1) }))
    .where('id', '=', grant.id)
    .where('version', '=', grant.version)
    .returningAll()
  if (change.state !== undefined) statement = statement.where('state', 'in', statesBefore(change.state))
  const countChange = change.state !== undefined && isEnd(change.state) ? -1 : undefined
  const written = await writeGrant(tx, dialect, { statement, event, at, countChange })
  if (!written) throw await whyNotUpdated(tx, grant, change)
  return grantOf(written.row)
}

function statesBefore (state: GrantState): GrantState[] {
  const before = states.filter((from) => transitions[from].includes(state))
  if (before.length === 0) throw new IllegalTransitionError(`No grant can become ${state}.`)
  return before
}

async function whyNotUpdated (tx: Db, { id, version }: Pick<Grant, 'id' | 'version'>, change: GrantChange): Promise<Error> {
  const stored = await get(tx, id)
  if (!stored) return new StaleGrantError(`There is no grant ${id}.`)
  if (stored.version !== version) return new StaleGrantError(`Grant ${id} is at version ${stored.version}, not ${version}.`)
  return new IllegalTransitionError(`Grant ${id} is ${stored.state} and cannot become ${change.state}.`)
}

async function get (db: Db, id: string): Promise<Grant | undefined> {
  const row = await db.selectFrom('grants').selectAll().where('id', '=', id).executeTakeFirst()
  return row && grantOf(row)
}

/** No claim on the grant is valid at `now`, when a claim of now would end at `until`. */
const unclaimed = (now: number, until?: number) => (eb: ExpressionBuilder<Tables, 'grants'>) => eb.or([
  eb('claimed_until', 'is', null),
  eb('claimed_until', '<=', now),
  ...(until === undefined ? [] : [eb('claimed_until', '>', until + mostSkewMs)])
])

const oldestDueFirst = (a: Grant, b: Grant) => (a.dueAt ?? 0) - (b.dueAt ?? 0) || (a.id < b.id ? -1 : 1)

/** Rolls back what begin() has written. */
class LimitReachedError extends Error {
  readonly result: BeginResult

  constructor (result: BeginResult) {
    super()
    this.result = result
  }
}

/**
 * Runs `work` and turns an error of the database into LedgerUnavailableError. Bugs (wrong SQL, a violated constraint) and the
 * ledger's own errors are thrown unchanged. An unknown error counts as unavailable, so that the caller assumes nothing about
 * what was written.
 */
export async function withLedgerErrors<T> (work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof LedgerError || isBug(error)) throw error
    throw new LedgerUnavailableError('The ledger’s database did not complete the operation.', { cause: error })
  }
}

const isBug = (error: unknown) =>
  error instanceof TypeError || error instanceof RangeError || isSqliteBug(error) || isPostgresBug(error)

/**
 * SQLITE_ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE, RANGE: primary result codes, the low byte of the extended code.
 * Source: sqlite.org/rescode.html
 */
const sqliteBugs = new Set([1, 18, 19, 20, 21, 25])

function isSqliteBug (error: unknown): boolean {
  if (!(error instanceof Error) || !('errcode' in error)) return false
  return typeof error.errcode === 'number' && sqliteBugs.has(error.errcode & 0xff)
}

/**
 * SQLSTATE classes: cardinality, data exception, integrity constraint, syntax or access rule, raised by a trigger.
 * Source: PostgreSQL documentation, appendix A.
 */
const postgresBugs = new Set(['21', '22', '23', '42', 'P0'])

function isPostgresBug (error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  return typeof error.code === 'string' && /^[0-9A-Z]{5}$/.test(error.code) && postgresBugs.has(error.code.slice(0, 2))
}
