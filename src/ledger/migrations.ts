import { LedgerUrlError, SchemaTooNewError } from './ledger.ts'
import { countNames, everyone, raw, sql, type Dialect, type Query } from './rows.ts'

type Migration = (query: Query, dialect: Dialect) => Promise<unknown>

/**
 * Brings the schema up to date and the counts right, in a transaction that `query` runs in. Replicas that start at the same time wait for
 * each other: on SQLite for the transaction, on PostgreSQL for a lock. Rejects also with the errors of the database.
 * @throws SchemaTooNewError
 * @throws LedgerUrlError if `mustExist`, where this would make a new ledger
 */
export async function prepareLedger (query: Query, dialect: Dialect, mustExist: boolean): Promise<void> {
  if (mustExist) await requireLedger(query, dialect)
  // The number that earlier releases, whose migrations were run by Kysely, lock as well.
  if (dialect === 'postgres') await query(sql`select pg_advisory_xact_lock(3853314791062309107)`)
  await query(sql`
    create table if not exists ledger_migration (name varchar(255) not null primary key, timestamp varchar(255) not null)`)
  const applied = new Set((await query<{ name: string }>(sql`select name from ledger_migration order by name`)).map(({ name }) => name))
  const unknown = [...applied].filter((name) => !Object.hasOwn(migrations, name))
  if (unknown.length > 0) {
    throw new SchemaTooNewError(`The ledger’s schema is newer than this version of the service: it has ${unknown.join(', ')}. ` +
      'Start the newer version, or restore a backup from before its migration.')
  }
  for (const [name, migrate] of Object.entries(migrations)) {
    if (applied.has(name)) continue
    await migrate(query, dialect)
    await query(sql`insert into ledger_migration (name, timestamp) values (${name}, ${new Date().toISOString()})`)
  }
  await recount(query, dialect)
}

async function requireLedger (query: Query, dialect: Dialect): Promise<void> {
  const [there] = await query(dialect === 'sqlite'
    ? sql`select 1 from sqlite_master where type = 'table' and name = 'ledger_migration'`
    : sql`select 1 where to_regclass('ledger_migration') is not null`)
  if (there) return
  throw new LedgerUrlError('There is no ledger in this database. Run this where the service runs, with its ' +
    `${dialect === 'sqlite' ? 'JOB_ACCESS_LEDGER' : 'DATABASE_URL'}.`)
}

/**
 * Counts the outstanding grants again, at start, so that wrong counts (rows changed by hand, a restored table) do not refuse
 * grants forever. The lock waits for transactions that are counting, and makes later ones wait until all outstanding grants are
 * counted.
 */
async function recount (query: Query, dialect: Dialect): Promise<void> {
  if (dialect === 'postgres') await query(sql`lock table grant_counts in exclusive mode`)
  await query(sql`delete from grant_counts`)
  await query(sql`
    insert into grant_counts (owner, outstanding)
    select owner, count(*) from grants where due_at is not null group by owner
    union all select ${everyone}, count(*) from grants where due_at is not null
    union all select ${countNames.managed}, count(*) from grants where due_at is not null and ${countNames.hasManaged} group by 1
    union all select ${countNames.inAccount}, count(*) from grants where due_at is not null and ${countNames.hasPlace} group by 1`)
}

const integerOf = (dialect: Dialect) => raw(dialect === 'sqlite' ? 'integer' : 'bigint')

const grants: Migration = async (query, dialect) => {
  const integer = integerOf(dialect)
  const strict = raw(dialect === 'sqlite' ? 'strict' : '')
  const strictWithoutRowid = raw(dialect === 'sqlite' ? 'strict, without rowid' : '')
  // Ids sort by their bytes, whatever the locale of the database.
  const bytewise = raw(dialect === 'sqlite' ? '' : 'collate "C"')

  // The last check: an outstanding grant always has a time at which the sweeper looks at it again.
  // So `due_at is not null` means outstanding, and both databases can use it in partial indexes.
  await query(sql`
    create table grants (
      id text ${bytewise} primary key not null check (id <> ''),
      state text not null check (state in ('pending', 'active', 'revoking', 'revoked', 'expired', 'failed')),
      ending text check (ending in ('revoked', 'expired', 'failed')),
      owner text not null check (owner <> ''),
      team text not null,
      job_id text not null,
      idempotency_key text,
      request_hash text not null,
      admitted text not null,
      policy text not null,
      policy_hash text not null,
      attach text not null check (attach in ('inline', 'managed', 'session')),
      principal_name text not null,
      principal_path text not null,
      principal_policy_arn text,
      principal_role_arn text,
      access_key_id text,
      previous_key_id text,
      previous_key_dies_at ${integer},
      issue_at ${integer},
      minted_at ${integer},
      delivered_at ${integer},
      not_before ${integer} not null,
      expires_at ${integer} not null,
      created_at ${integer} not null,
      updated_at ${integer} not null,
      due_at ${integer},
      attempts ${integer} not null,
      claimed_until ${integer},
      version ${integer} not null default 1,
      check ((due_at is null) = (state in ('revoked', 'expired', 'failed')))
    ) ${strict}`)
  await query(sql`create unique index grants_by_idempotency_key on grants (owner, idempotency_key)`)
  await query(sql`create index grants_by_team on grants (team, id)`)
  await query(sql`create index grants_by_team_and_state on grants (team, state, id)`)
  await query(sql`create index grants_by_state on grants (state, id)`)
  await query(sql`create index grants_by_job on grants (job_id, id)`)
  await query(sql`create index grants_due on grants (due_at, id) where due_at is not null`)
  await query(sql`create index grants_by_principal on grants (principal_name) where due_at is not null`)
  await query(sql`create index grants_by_expiry on grants (expires_at) where due_at is not null`)

  await query(sql`
    create table grant_events (
      grant_id text ${bytewise} not null references grants (id),
      version ${integer} not null,
      at ${integer} not null,
      actor text not null,
      action text not null,
      request_id text,
      policy_hash text,
      detail text not null,
      primary key (grant_id, version)
    ) ${strictWithoutRowid}`)

  await query(sql`
    create table grant_counts (
      owner text primary key not null,
      outstanding ${integer} not null
    ) ${strict}`)
}

/** A list as JSON text: it is read and written with its grant alone. */
const dyingKeys: Migration = (query) => query(sql`alter table grants add column dying_keys text not null default '[]'`)

/** So that a list need not read the history of each grant. Of the reasons so far only this one says more than the state. */
const endReason: Migration = async (query) => {
  await query(sql`alter table grants add column end_reason text`)
  await query(sql`
    update grants set end_reason = 'completed' where id in
      (select grant_id from grant_events where action = 'revoking' and detail like '%"reason":"completed"%')`)
}

/** Lists of grants have no workers, and a job may have thousands of those: they must not be read to be passed over. */
const indexesOfJobs: Migration = async (query) => {
  for (const name of ['grants_by_team', 'grants_by_team_and_state', 'grants_by_job']) await query(sql`drop index ${raw(name)}`)
  await query(sql`create index jobs_by_team on grants (team, id) where parent_id is null`)
  await query(sql`create index jobs_by_team_and_state on grants (team, state, id) where parent_id is null`)
  await query(sql`create index jobs_by_state on grants (state, id) where parent_id is null`)
  await query(sql`create index jobs_by_job_id on grants (job_id, id) where parent_id is null`)
}

/** An account of the pool; '' for the grants from before, and for those without a pool. Where a principal is never changes. */
const account: Migration = async (query, dialect) => {
  await query(sql`alter table grants add column account text not null default ''`)
  const what = 'the account of a grant never changes'
  // Every change of a principal names the column, so that only another value is refused.
  await (dialect === 'sqlite'
    ? sqliteGuard(query, 'grants_account', 'update of account on grants when new.account <> old.account', what)
    : query(raw('create trigger grants_account before update of account on grants for each row ' +
      `when (new.account <> old.account) execute function ledger_refuse('${what}')`)))
}

/** The database itself ensures that events are append-only, and that the identifying columns of a grant never change. */
const guards: Migration = (query, dialect) => dialect === 'sqlite' ? sqliteGuards(query) : postgresGuards(query)

/** Null for the sessions of earlier releases: see sessionEnd(). */
const sessionsEnd: Migration = (query, dialect) => query(sql`alter table grants add column sessions_end_at ${integerOf(dialect)}`)

const fixedColumns = 'id, owner, team, job_id, request_hash, created_at'
const fixedColumnsWithWorkers = 'id, owner, team, job_id, max_workers, parent_id, worker, created_at'

/** A job of workers is a grant, and each of its workers is one that names it. What a request is compared with is the spec. */
const workers: Migration = async (query, dialect) => {
  await query(dialect === 'sqlite' ? sql`drop trigger grants_fixed` : sql`drop trigger grants_fixed on grants`)
  await query(sql`alter table grants drop column request_hash`)
  await query(sql`alter table grants add column attempt text`)
  await query(sql`alter table grants add column max_workers ${integerOf(dialect)}`)
  await query(sql`alter table grants add column parent_id text references grants (id)`)
  await query(sql`alter table grants add column worker text`)
  await query(sql`create index grants_by_parent on grants (parent_id, id) where parent_id is not null`)
  await (dialect === 'sqlite' ? sqliteGuard : postgresGuard)(
    query, 'grants_fixed', `update of ${fixedColumnsWithWorkers} on grants`, `${fixedColumnsWithWorkers} of a grant never change`
  )
}

const sqliteGuard = (query: Query, name: string, when: string, what: string) =>
  query(raw(`create trigger ${name} before ${when} begin select raise(abort, '${what}'); end`))

const postgresGuard = (query: Query, name: string, when: string, what: string) =>
  query(raw(`create trigger ${name} before ${when} for each statement execute function ledger_refuse('${what}')`))

async function sqliteGuards (query: Query): Promise<void> {
  const guard = (name: string, when: string, what: string) => sqliteGuard(query, name, when, what)
  await guard('grant_events_keep', 'update on grant_events', 'events are append-only')
  await guard('grant_events_stay', 'delete on grant_events', 'events are append-only')
  // INSERT OR REPLACE deletes without firing delete triggers (sqlite.org/lang_conflict.html).
  const taken = 'when exists (select 1 from grant_events e where e.grant_id = new.grant_id and e.version = new.version)'
  await guard('grant_events_append', `insert on grant_events ${taken}`, 'events are append-only')
  await guard('grants_stay', 'delete on grants', 'grants are never deleted')
  await guard('grants_fixed', `update of ${fixedColumns} on grants`, `${fixedColumns} of a grant never change`)
}

async function postgresGuards (query: Query): Promise<void> {
  await query(sql`
    create function ledger_refuse() returns trigger language plpgsql as $$
    begin
      raise exception '% on % refused: %', lower(tg_op), tg_table_name, tg_argv[0] using errcode = 'integrity_constraint_violation';
    end
    $$`)
  const guard = (name: string, when: string, what: string) => postgresGuard(query, name, when, what)
  await guard('grant_events_append_only', 'update or delete or truncate on grant_events', 'events are append-only')
  await guard('grants_stay', 'delete or truncate on grants', 'grants are never deleted')
  await guard('grants_fixed', `update of ${fixedColumns} on grants`, `${fixedColumns} of a grant never change`)
}

/** In order. A new one comes last; an old one is never changed. */
const migrations: Record<string, Migration> = {
  '0001_grants': grants,
  '0002_guards': guards,
  '0003_workers': workers,
  '0004_sessions_end': sessionsEnd,
  '0005_dying_keys': dyingKeys,
  '0006_indexes_of_jobs': indexesOfJobs,
  '0007_end_reason': endReason,
  '0008_account': account
}
