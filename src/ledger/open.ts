import type { Ledger } from './ledger.ts'
import { sqlLedger } from './sql.ts'
import { openSqlite } from './sqlite.ts'

export interface LedgerOptions {
  /** A file path, `sqlite:<path>`, `:memory:`, or `postgres://…`. */
  url: string
  /** SQLite: how long a write waits for another process that holds the file. Default 5,000 ms. */
  busyTimeoutMs?: number
  /** PostgreSQL: connections at most. Default 10. */
  poolSize?: number
}

export async function openLedger (options: LedgerOptions): Promise<Ledger> {
  return sqlLedger(await openSqlite(options.url, options.busyTimeoutMs ?? 5000))
}
