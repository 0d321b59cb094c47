import type { Kysely } from 'kysely'
import { LedgerError, LedgerUnavailableError } from './ledger.ts'
import type { Dialect, Tables } from './rows.ts'

/** What differs between the two databases. Everything else is in sql.ts. */
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
  close(): Promise<void>
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
