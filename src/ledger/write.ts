import { sql, type InsertQueryBuilder, type Kysely, type UpdateQueryBuilder } from 'kysely'
import type { NewEvent } from './ledger.ts'
import { count, everyone, type Counts } from './counts.ts'
import type { GrantRow, Tables } from './rows.ts'
import type { Dialect } from './store.ts'

export type GrantStatement =
  | InsertQueryBuilder<Tables, 'grants', GrantRow>
  | UpdateQueryBuilder<Tables, 'grants', 'grants', GrantRow>

/** What goes with a change of a grant. */
export interface Companions {
  event: NewEvent
  at: number
  /** 1: the grant becomes outstanding; -1: it ends. */
  counting: 1 | -1 | undefined
}

export interface Written { row: GrantRow, counts: Counts | undefined }

/**
 * Writes a grant, its event and the counts. Undefined, and nothing written, when `statement` meets no row.
 * Counts come last: whoever locks them holds up every other begin until its commit.
 */
export function writeGrant (
  tx: Kysely<Tables>, dialect: Dialect, statement: GrantStatement, companions: Companions
): Promise<Written | undefined> {
  return dialect === 'postgres' ? inOneStatement(tx, statement, companions) : oneByOne(tx, statement, companions)
}

async function oneByOne (
  tx: Kysely<Tables>, statement: GrantStatement, { event, at, counting }: Companions
): Promise<Written | undefined> {
  const row = await statement.executeTakeFirst()
  if (!row) return undefined
  await tx.insertInto('grant_events').values({
    grant_id: row.id,
    version: row.version,
    at,
    actor: event.actor,
    action: event.action,
    request_id: event.requestId,
    policy_hash: event.policyHash,
    detail: JSON.stringify(event.detail)
  }).execute()
  return { row, counts: counting && await count(tx, row.owner, counting) }
}

/** The same as one statement, which PostgreSQL can and SQLite cannot: one way to the server and back instead of two to four. */
async function inOneStatement (
  tx: Kysely<Tables>, statement: GrantStatement, { event, at, counting }: Companions
): Promise<Written | undefined> {
  const change = sql.lit(counting ?? 0)
  const counted = sql`
    insert into grant_counts (owner, outstanding)
    select ${sql.lit(everyone)}, ${change} from written union all select owner, ${change} from written
    on conflict (owner) do update set outstanding = grant_counts.outstanding + excluded.outstanding
    returning owner, outstanding`
  const { rows: [row] } = await sql<GrantRow & { own: number | null, all: number | null }>`
    with written as (${statement}),
    noted as (
      insert into grant_events (grant_id, version, at, actor, action, request_id, policy_hash, detail)
      select id, version, cast(${at} as bigint), ${event.actor}, ${event.action}, ${event.requestId}, ${event.policyHash},
        ${JSON.stringify(event.detail)}
      from written
    ),
    counted as (${counting ? counted : sql`select owner, null as outstanding from written`})
    select *,
      (select outstanding from counted where counted.owner = written.owner) as own,
      (select outstanding from counted where counted.owner = ${sql.lit(everyone)}) as all
    from written`.execute(tx)
  if (!row) return undefined
  return { row, counts: counting && { own: row.own ?? Infinity, all: row.all ?? Infinity } }
}
