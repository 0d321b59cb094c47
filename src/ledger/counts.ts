import { sql, type Kysely } from 'kysely'
import type { Tables } from './rows.ts'
import type { Dialect } from './store.ts'

/** In grant_counts: the row of all owners together. */
export const everyone = ''

/** Outstanding grants of one owner, and in all. */
export interface Counts { own: number, all: number }

/** As of the last commit; locks nothing. */
export const outstanding = (db: Kysely<Tables>, owner: string) =>
  db.selectFrom('grant_counts').select('outstanding').where('owner', '=', owner)

/**
 * Counts a grant in or out and returns the counts with it. Locks them until the transaction ends, so that no two
 * transactions pass the same limit; always both rows in this order, so that no two wait for each other.
 */
export async function count (tx: Kysely<Tables>, owner: string, change: 1 | -1): Promise<Counts> {
  const rows = await tx.insertInto('grant_counts')
    .values([{ owner: everyone, outstanding: change }, { owner, outstanding: change }])
    .onConflict((conflict) => conflict.column('owner').doUpdateSet((eb) => ({
      outstanding: eb('grant_counts.outstanding', '+', eb.ref('excluded.outstanding'))
    })))
    .returningAll()
    .execute()
  const of = (name: string) => rows.find((row) => row.owner === name)?.outstanding ?? Infinity
  return { own: of(owner), all: of(everyone) }
}

/**
 * Counts anew, at start: rows changed by hand, or a restored table, must not refuse grants for ever. The lock lets running
 * replicas finish what they count and holds up their next one, for one pass over the outstanding grants.
 */
export async function recount (db: Kysely<Tables>, dialect: Dialect): Promise<void> {
  await db.transaction().execute(async (tx) => {
    if (dialect === 'postgres') await sql`lock table grant_counts in exclusive mode`.execute(tx)
    await tx.deleteFrom('grant_counts').execute()
    await sql`
      insert into grant_counts (owner, outstanding)
      select owner, count(*) from grants where due_at is not null group by owner
      union all select ${sql.lit(everyone)}, count(*) from grants where due_at is not null`.execute(tx)
  })
}
