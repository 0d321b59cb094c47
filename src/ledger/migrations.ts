import { Migrator, sql, type Kysely, type Migration } from 'kysely'
import { LedgerUrlError, SchemaTooNewError } from './ledger.ts'
import { allOwners, countNames, type Dialect, type Tables } from './rows.ts'

const migrationTable = 'ledger_migration'

/**
 * Brings the schema up to date, under a lock, so that replicas that start at the same time wait for each other.
 * Rejects with SchemaTooNewError, or with the error of the database.
 */
export async function migrate (db: Kysely<Tables>, dialect: Dialect): Promise<void> {
  const migrations = {
    '0001_grants': grants(dialect),
    '0002_guards': guards(dialect),
    '0003_workers': workers(dialect),
    '0004_sessions_end': sessionsEnd(dialect),
    '0005_dying_keys': dyingKeys,
    '0006_indexes_of_jobs': indexesOfJobs,
    '0007_end_reason': endReason,
    '0008_account': account(dialect)
  }
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => migrations },
    migrationTableName: migrationTable,
    migrationLockTableName: `${migrationTable}_lock`
  })
  const { error } = await migrator.migrateToLatest()
  if (!error) return
  const unknown = (await appliedMigrations(db)).filter((name) => !Object.hasOwn(migrations, name))
  // Typed as unknown by Kysely; it is what the driver threw.
  if (unknown.length === 0) throw error as Error
  throw new SchemaTooNewError(`The ledger’s schema is newer than this version of the service: it has ${unknown.join(', ')}. ` +
    'Start the newer version, or restore a backup from before its migration.')
}

/** @throws LedgerUrlError where migrate() would make a new ledger */
export async function requireLedger (db: Kysely<Tables>, dialect: Dialect): Promise<void> {
  const { rows } = await (dialect === 'sqlite'
    ? sql`select 1 from sqlite_master where type = 'table' and name = ${migrationTable}`
    : sql`select 1 where to_regclass(${migrationTable}) is not null`).execute(db)
  if (rows.length > 0) return
  throw new LedgerUrlError('There is no ledger in this database. Run this where the service runs, with its ' +
    `${dialect === 'sqlite' ? 'JOB_ACCESS_LEDGER' : 'DATABASE_URL'}.`)
}

/** Empty when the table cannot be read: the error of the migration then says more. */
async function appliedMigrations (db: Kysely<Tables>): Promise<string[]> {
  try {
    const { rows } = await sql<{ name: string }>`select name from ${sql.table(migrationTable)}`.execute(db)
    return rows.map((row) => row.name)
  } catch {
    return []
  }
}

/**
 * Counts the outstanding grants again, at start, so that wrong counts (rows changed by hand, a restored table) do not refuse
 * grants forever. The lock waits for transactions that are counting, and makes later ones wait until all outstanding grants are
 * counted.
 */
export async function recount (db: Kysely<Tables>, dialect: Dialect): Promise<void> {
  await db.transaction().execute(async (tx) => {
    if (dialect === 'postgres') await sql`lock table grant_counts in exclusive mode`.execute(tx)
    await tx.deleteFrom('grant_counts').execute()
    await sql`
      insert into grant_counts (owner, outstanding)
      select owner, count(*) from grants where due_at is not null group by owner
      union all select ${sql.lit(allOwners)}, count(*) from grants where due_at is not null
      union all select ${countNames.managed}, count(*) from grants where due_at is not null and ${countNames.hasManaged} group by 1
      union all select ${countNames.inAccount}, count(*) from grants where due_at is not null and ${countNames.hasPlace} group by 1
    `.execute(tx)
  })
}

const grants = (dialect: Dialect): Migration => ({
  async up (db) {
    const integer = sql.raw(dialect === 'sqlite' ? 'integer' : 'bigint')
    const strict = sql.raw(dialect === 'sqlite' ? 'strict' : '')
    const strictWithoutRowid = sql.raw(dialect === 'sqlite' ? 'strict, without rowid' : '')
    // Ids sort by their bytes, whatever the locale of the database.
    const bytewise = sql.raw(dialect === 'sqlite' ? '' : 'collate "C"')

    // The last check: an outstanding grant always has a time at which the sweeper looks at it again.
    // So `due_at is not null` means outstanding, and both databases can use it in partial indexes.
    await sql`
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
      ) ${strict}`.execute(db)
    await sql`create unique index grants_by_idempotency_key on grants (owner, idempotency_key)`.execute(db)
    await sql`create index grants_by_team on grants (team, id)`.execute(db)
    await sql`create index grants_by_team_and_state on grants (team, state, id)`.execute(db)
    await sql`create index grants_by_state on grants (state, id)`.execute(db)
    await sql`create index grants_by_job on grants (job_id, id)`.execute(db)
    await sql`create index grants_due on grants (due_at, id) where due_at is not null`.execute(db)
    await sql`create index grants_by_principal on grants (principal_name) where due_at is not null`.execute(db)
    await sql`create index grants_by_expiry on grants (expires_at) where due_at is not null`.execute(db)

    await sql`
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
      ) ${strictWithoutRowid}`.execute(db)

    await sql`
      create table grant_counts (
        owner text primary key not null,
        outstanding ${integer} not null
      ) ${strict}`.execute(db)
  }
})

/** A list as JSON text: it is read and written with its grant alone. */
const dyingKeys: Migration = {
  async up (db) { await sql`alter table grants add column dying_keys text not null default '[]'`.execute(db) }
}

/** So that a list need not read the history of each grant. Of the reasons so far only this one says more than the state. */
const endReason: Migration = {
  async up (db) {
    await sql`alter table grants add column end_reason text`.execute(db)
    await sql`
      update grants set end_reason = 'completed' where id in
        (select grant_id from grant_events where action = 'revoking' and detail like '%"reason":"completed"%')`.execute(db)
  }
}

/** Lists of grants have no workers, and a job may have thousands of those: they must not be read to be passed over. */
const indexesOfJobs: Migration = {
  async up (db) {
    for (const name of ['grants_by_team', 'grants_by_team_and_state', 'grants_by_job']) await db.schema.dropIndex(name).execute()
    await sql`create index jobs_by_team on grants (team, id) where parent_id is null`.execute(db)
    await sql`create index jobs_by_team_and_state on grants (team, state, id) where parent_id is null`.execute(db)
    await sql`create index jobs_by_state on grants (state, id) where parent_id is null`.execute(db)
    await sql`create index jobs_by_job_id on grants (job_id, id) where parent_id is null`.execute(db)
  }
}

/** An account of the pool; '' for the grants from before, and for those without a pool. Where a principal is never changes. */
const account = (dialect: Dialect): Migration => ({
  async up (db) {
    await sql`alter table grants add column account text not null default ''`.execute(db)
    const what = 'the account of a grant never changes'
    // Every change of a principal names the column, so that only another value is refused.
    await (dialect === 'sqlite'
      ? sqliteGuard(db, 'grants_account', 'update of account on grants when new.account <> old.account', what)
      : sql.raw('create trigger grants_account before update of account on grants for each row ' +
        `when (new.account <> old.account) execute function ledger_refuse('${what}')`).execute(db))
  }
})

/** The database itself ensures that events are append-only, and that the identifying columns of a grant never change. */
const guards = (dialect: Dialect): Migration => ({
  up: dialect === 'sqlite' ? sqliteGuards : postgresGuards
})

/** Null for the sessions of earlier releases: see sessionEnd(). */
const sessionsEnd = (dialect: Dialect): Migration => ({
  async up (db) {
    await sql`alter table grants add column sessions_end_at ${sql.raw(dialect === 'sqlite' ? 'integer' : 'bigint')}`.execute(db)
  }
})

const fixedColumns = 'id, owner, team, job_id, request_hash, created_at'
const fixedColumnsWithWorkers = 'id, owner, team, job_id, max_workers, parent_id, worker, created_at'

/** A job of workers is a grant, and each of its workers is one that names it. What a request is compared with is the spec. */
const workers = (dialect: Dialect): Migration => ({
  async up (db) {
    await (dialect === 'sqlite' ? sql`drop trigger grants_fixed` : sql`drop trigger grants_fixed on grants`).execute(db)
    await sql`alter table grants drop column request_hash`.execute(db)
    await sql`alter table grants add column attempt text`.execute(db)
    await sql`alter table grants add column max_workers ${sql.raw(dialect === 'sqlite' ? 'integer' : 'bigint')}`.execute(db)
    await sql`alter table grants add column parent_id text references grants (id)`.execute(db)
    await sql`alter table grants add column worker text`.execute(db)
    await sql`create index grants_by_parent on grants (parent_id, id) where parent_id is not null`.execute(db)
    await (dialect === 'sqlite' ? sqliteGuard : postgresGuard)(
      db, 'grants_fixed', `update of ${fixedColumnsWithWorkers} on grants`, `${fixedColumnsWithWorkers} of a grant never change`
    )
  }
})

const sqliteGuard = (db: Kysely<unknown>, name: string, when: string, what: string) =>
  sql.raw(`create trigger ${name} before ${when} begin select raise(abort, '${what}'); end`).execute(db)

const postgresGuard = (db: Kysely<unknown>, name: string, when: string, what: string) =>
  sql.raw(`create trigger ${name} before ${when} for each statement execute function ledger_refuse('${what}')`).execute(db)

async function sqliteGuards (db: Kysely<unknown>): Promise<void> {
  const guard = (name: string, when: string, what: string) => sqliteGuard(db, name, when, what)
  await guard('grant_events_keep', 'update on grant_events', 'events are append-only')
  await guard('grant_events_stay', 'delete on grant_events', 'events are append-only')
  // INSERT OR REPLACE deletes without firing delete triggers (sqlite.org/lang_conflict.html).
  const taken = 'when exists (select 1 from grant_events e where e.grant_id = new.grant_id and e.version = new.version)'
  await guard('grant_events_append', `insert on grant_events ${taken}`, 'events are append-only')
  await guard('grants_stay', 'delete on grants', 'grants are never deleted')
  await guard('grants_fixed', `update of ${fixedColumns} on grants`, `${fixedColumns} of a grant never change`)
}

async function postgresGuards (db: Kysely<unknown>): Promise<void> {
  await sql`
    create function ledger_refuse() returns trigger language plpgsql as $$
    begin
      raise exception '% on % refused: %', lower(tg_op), tg_table_name, tg_argv[0] using errcode = 'integrity_constraint_violation';
    end
    $$`.execute(db)
  const guard = (name: string, when: string, what: string) => postgresGuard(db, name, when, what)
  await guard('grant_events_append_only', 'update or delete or truncate on grant_events', 'events are append-only')
  await guard('grants_stay', 'delete or truncate on grants', 'grants are never deleted')
  await guard('grants_fixed', `update of ${fixedColumns} on grants`, `${fixedColumns} of a grant never change`)
}
