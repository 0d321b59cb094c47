import { transitions, type Grant, type GrantState } from '../domain/grant.ts'
import {
  IllegalTransitionError, LedgerError, LedgerUnavailableError, StaleGrantError, mostSkewMs,
  type BeginResult, type GrantChange, type JobOfWorkers, type Ledger, type NewEvent, type NewGrant
} from './ledger.ts'
import { checkLimit, pageOf } from './page.ts'
import {
  allOwners, columnsOf, countNames, eventOf, grantOf, hasManagedPolicy, inAccount, joined, list, managedPolicies, raw, sql, writeGrant,
  type CountRow, type Counts, type Dialect, type EventRow, type GrantRow, type Query, type Sql
} from './rows.ts'

type Limits = Parameters<Ledger['begin']>[2]

const states = Object.keys(transitions) as GrantState[]
const isEnd = (state: GrantState) => transitions[state].length === 0

/** How many names one statement looks up. Both databases accept tens of thousands of parameters. */
const namesPerStatement = 1000

/** What differs between the two databases. Everything else is in this file. */
export interface Store {
  dialect: Dialect
  /** Runs a statement that writes nothing. It sees what is committed. */
  query: Query
  /**
   * Runs `work` as one transaction and resolves when it is durable. An error of `work` rolls the transaction back and is
   * thrown unchanged. `work` must await only queries of the `tx` it is given.
   */
  write<T>(work: (tx: Query) => Promise<T>): Promise<T>
  /** The same for `work` with at most one writing statement: PostgreSQL then needs no transaction around it, which saves round trips. */
  statement<T>(work: (tx: Query) => Promise<T>): Promise<T>
  /** The clock of a database on another machine, epoch ms. */
  time?(): Promise<number>
  /** Throws when what is written would be lost with this process. */
  requireKept?(): void
  close(): Promise<void>
}

/** The ledger on a store whose schema is up to date. */
export function sqlLedger (store: Store): Ledger {
  const { query, dialect } = store
  let closed: Promise<void> | undefined
  const read = withLedgerErrors
  const statement = <T>(work: (tx: Query) => Promise<T>) => withLedgerErrors(() => store.statement(work))

  return {
    begin: (grant, event, limits, job) => withLedgerErrors(async () => {
      store.requireKept?.()
      // Most refused and repeated requests end here, without a write and without the lock on the counts.
      const answer = await answerWithoutWriting(query, grant, limits)
      if (answer) return answer
      try {
        return await store.write(async (tx) => (job && await refusedByJob(tx, dialect, job)) ?? begin(tx, dialect, grant, event, limits))
      } catch (error) {
        if (error instanceof LimitReachedError) return error.result
        throw error
      }
    }),

    get: (id) => read(() => get(query, id)),

    workersOf: (jobId) => read(async () =>
      (await query<GrantRow>(sql`select * from grants where parent_id = ${jobId} and due_at is not null order by id`)).map(grantOf)),

    list: (filter, page) => read(async () => (await pageOf(query, filter, page)).map(grantOf)),

    claim: (id, now, until) => statement(async (tx) => {
      const [row] = await tx<GrantRow>(sql`
        update grants set claimed_until = ${until}, updated_at = ${now}, version = version + 1
        where id = ${id} and ${unclaimed(now, until)} returning *`)
      return row && grantOf(row)
    }),

    update: (grant, change, event, at) => statement((tx) => update(tx, dialect, grant, change, event, at)),

    claimDue: (now, until, limit, account = '') => statement(async (tx) => {
      checkLimit(limit)
      // Materialized, or the planner could run the subquery more than once, and so lock and return more than `limit` rows.
      const rows = await tx<GrantRow>(sql`
        with due as materialized (
          select id from grants where due_at <= ${now} and account = ${account} and ${unclaimed(now, until)}
          order by due_at, id limit ${limit} ${raw(dialect === 'postgres' ? 'for update skip locked' : '')}
        )
        update grants set claimed_until = ${until}, updated_at = ${now}, version = grants.version + 1
        from due where grants.id = due.id returning *`)
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
      const rows = await query<CountRow>(sql`select owner, outstanding from grant_counts where owner in (${list(owners)})`)
      const countOf = (name: string) => rows.find(({ owner }) => owner === name)?.outstanding ?? 0
      return counted.map(({ account, users, sessions, managed }) =>
        ({ account, users: countOf(users), sessions: countOf(sessions), managed: countOf(managed) }))
    }),

    firstEnd: (accounts, what) => read(async () => {
      // The concatenation keeps the planner from another index than that of the ends.
      const [first] = await query<Pick<GrantRow, 'expires_at'>>(sql`
        select expires_at from grants where due_at is not null and account || '' in (${list(accounts)})
        and ${what === 'managed' ? countNames.hasManaged : sql`(${countNames.hasPlace} and attach <> 'session')`}
        order by expires_at limit 1`)
      return first?.expires_at ?? null
    }),

    inhabited: () => read(async () => {
      const rows = await query<{ account: string, grants: number }>(sql`
        select account, count(*) as grants from grants
        where due_at is not null and (max_workers is null or minted_at is not null)
        group by account order by account`)
      return rows.map(({ account, grants }) => ({ account: account === '' ? undefined : account, grants }))
    }),

    known: (names) => read(async () => {
      const known = new Set<string>()
      for (let start = 0; start < names.length; start += namesPerStatement) {
        const rows = await query<Pick<GrantRow, 'principal_name'>>(sql`
          select principal_name from grants
          where principal_name in (${list(names.slice(start, start + namesPerStatement))}) and due_at is not null`)
        for (const row of rows) known.add(row.principal_name)
      }
      return known
    }),

    events: (grantId) => read(async () =>
      (await query<EventRow>(sql`select * from grant_events where grant_id = ${grantId} order by version`)).map(eventOf)),

    stats: (now) => read(async () => {
      const counted = await query<{ state: GrantState, grants: number }>(sql`select state, count(*) as grants from grants group by state`)
      const [overdue] = await query<{ expiry: number | null }>(sql`
        select min(expires_at) as expiry from grants where expires_at <= ${now} and due_at is not null`)
      const [waiting] = await query<{ due: number | null }>(sql`
        select min(due_at) as due from grants where due_at <= ${now} and ${unclaimed(now)}`)
      const byState = Object.fromEntries(states.map((state) => [state, 0])) as Record<GrantState, number>
      for (const row of counted) byState[row.state] = row.grants
      return { byState, oldestOverdueExpiry: overdue?.expiry ?? null, oldestDue: waiting?.due ?? null }
    }),

    time: () => read(async () => await store.time?.() ?? null),

    ping: () => withLedgerErrors(async () => {
      store.requireKept?.()
      // A full disk and a standby still answer reads.
      await store.write(async (tx) => {
        await tx(sql`insert into grant_counts (owner, outstanding) values (${probeOwner}, 0) on conflict do nothing`)
        await tx(sql`delete from grant_counts where owner = ${probeOwner}`)
      })
    }),

    close () {
      closed ??= store.close()
      return closed
    }
  }
}

/** No identity has a blank in its id. */
const probeOwner = 'readiness probe'

interface Before extends Record<'own' | 'all' | 'policies' | 'there', number | null> { existing: string | null }

/** The answer of begin() when it needs no write. */
async function answerWithoutWriting (query: Query, grant: NewGrant, limits: Limits): Promise<BeginResult | undefined> {
  const place = inAccount(grant, grant.principal.account)
  const [before] = await query<Before>(sql`
    select (select id from grants where owner = ${grant.owner} and idempotency_key = ${grant.idempotencyKey}) as existing,
      ${outstandingOf(grant.owner)} as own, ${outstandingOf(allOwners)} as "all",
      ${outstandingOf(managedPolicies(grant.principal.account))} as policies, ${outstandingOf(place ?? '')} as there`)
  if (!before) return undefined
  const { existing, own, all, policies, there } = before
  const stored = existing === null ? undefined : await get(query, existing)
  if (stored) return { outcome: 'existing', grant: stored }
  const managed = hasManagedPolicy(grant) ? (policies ?? 0) + 1 : null
  return limitReached({ own: (own ?? 0) + 1, all: (all ?? 0) + 1, managed, placed: place === null ? null : (there ?? 0) + 1 }, limits)
}

/** As of the last commit, without a lock. */
const outstandingOf = (owner: string) => sql`(select outstanding from grant_counts where owner = ${owner})`

/** Locks the job until the worker is written, so that no change of the job and no other worker comes in between. */
async function refusedByJob (tx: Query, dialect: Dialect, job: JobOfWorkers): Promise<BeginResult | undefined> {
  const [same] = await tx(sql`
    select id from grants where id = ${job.id} and state = 'active' and policy_hash = ${job.policyHash}
    and not_before = ${job.notBefore} and expires_at = ${job.expiresAt} ${raw(dialect === 'postgres' ? 'for update' : '')}`)
  if (!same) return { outcome: 'job-changed' }
  const [{ live } = { live: 0 }] = await tx<{ live: number }>(sql`
    select count(*) as live from grants where parent_id = ${job.id} and due_at is not null`)
  if (live < (job.maxWorkers ?? 0)) return undefined
  const revoking = await tx<Pick<GrantRow, 'attach' | 'idempotency_key' | 'due_at'>>(sql`
    select attach, idempotency_key, due_at from grants where parent_id = ${job.id} and state = 'revoking'`)
  // An end that the provider did not confirm frees the name as well, but is tried again in minutes.
  const irrevocable = revoking.filter((row) => row.attach === 'session' && row.idempotency_key === null)
  const sessionEndsAt = irrevocable.length === 0 ? null : Math.min(...irrevocable.map((row) => row.due_at ?? Infinity))
  const ended = { ending: revoking.length - irrevocable.length, irrevocable: irrevocable.length, sessionEndsAt }
  return { outcome: 'limited', limit: 'workers', outstanding: live, ended }
}

async function begin (
  tx: Query, dialect: Dialect, grant: NewGrant, event: NewEvent, limits: Limits
): Promise<BeginResult> {
  const begun: Grant = { ...grant, state: 'pending', updatedAt: grant.createdAt, version: 1 }
  const row = columnsOf(begun)
  // On PostgreSQL this waits for a transaction that is inserting the same key.
  const statement = sql`
    insert into grants (${raw(Object.keys(row).join(', '))}) values (${list(Object.values(row))})
    on conflict (owner, idempotency_key) do nothing`
  const written = await writeGrant(tx, dialect, { statement, event, at: grant.createdAt, countChange: 1 })
  if (!written) return { outcome: 'existing', grant: await grantWithKey(tx, grant) }
  const limited = written.counts && limitReached(written.counts, limits)
  if (limited) throw new LimitReachedError(limited)
  return { outcome: 'created', grant: begun }
}

async function grantWithKey (tx: Query, { owner, idempotencyKey }: NewGrant): Promise<Grant> {
  const [row] = await tx<GrantRow>(sql`select * from grants where owner = ${owner} and idempotency_key = ${idempotencyKey}`)
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
  tx: Query, dialect: Dialect, grant: Grant, change: GrantChange, event: NewEvent, at: number
): Promise<Grant> {
  const { state } = change
  const changed = Object.entries({ ...columnsOf(change), updated_at: at }).map(([column, value]) => sql`${raw(column)} = ${value}`)
  const statement = sql`
    update grants set ${joined(changed, ', ')}, version = version + 1 where id = ${grant.id} and version = ${grant.version}
    ${state === undefined ? raw('') : sql`and state in (${list(statesBefore(state))})`}`
  const countChange = state !== undefined && isEnd(state) ? -1 : undefined
  const written = await writeGrant(tx, dialect, { statement, event, at, countChange })
  if (!written) throw await whyNotUpdated(tx, grant, change)
  return { ...grant, ...change, updatedAt: at, version: grant.version + 1 }
}

function statesBefore (state: GrantState): GrantState[] {
  const before = states.filter((from) => transitions[from].includes(state))
  if (before.length === 0) throw new IllegalTransitionError(`No grant can become ${state}.`)
  return before
}

async function whyNotUpdated (tx: Query, { id, version }: Pick<Grant, 'id' | 'version'>, change: GrantChange): Promise<Error> {
  const stored = await get(tx, id)
  if (!stored) return new StaleGrantError(`There is no grant ${id}.`)
  if (stored.version !== version) return new StaleGrantError(`Grant ${id} is at version ${stored.version}, not ${version}.`)
  return new IllegalTransitionError(`Grant ${id} is ${stored.state} and cannot become ${change.state}.`)
}

async function get (query: Query, id: string): Promise<Grant | undefined> {
  const [row] = await query<GrantRow>(sql`select * from grants where id = ${id}`)
  return row && grantOf(row)
}

/** No claim on the grant is valid at `now`, when a claim of now would end at `until`. */
const unclaimed = (now: number, until?: number): Sql => sql`
  (claimed_until is null or claimed_until <= ${now} ${until === undefined ? raw('') : sql`or claimed_until > ${until + mostSkewMs}`})`

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
