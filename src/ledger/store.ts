import type { Kysely } from 'kysely'
import type { Tables } from './rows.ts'

export type Dialect = 'sqlite' | 'postgres'

/** What the two databases do differently; everything else is sql.ts. */
export interface Store {
  dialect: Dialect
  db: Kysely<Tables>
  /**
   * Runs `work` as one transaction and resolves once it is durable. What `work` throws undoes it and comes out as thrown.
   * `work` must await nothing but queries on the `tx` it gets.
   */
  write<T>(work: (tx: Kysely<Tables>) => Promise<T>): Promise<T>
  /** The same for `work` that writes with one statement at most: where a transaction costs round trips there is none around it. */
  statement<T>(work: (tx: Kysely<Tables>) => Promise<T>): Promise<T>
  close(): Promise<void>
}

/** The address of the store cannot be used. Never holds it: it may have a password. */
export class LedgerUrlError extends Error { override name = 'LedgerUrlError' }
