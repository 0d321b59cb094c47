import { IllegalTransitionError, LedgerUnavailableError, StaleGrantError } from './ledger.ts'

/**
 * Sorts what a store threw: a bug (our SQL, a broken constraint) stays the error it is, everything else means that the
 * store cannot do its work right now. Unknown errors count as the latter: the caller then assumes nothing of what was written.
 */
export function asLedgerError (error: unknown): unknown {
  return isOurs(error) || isBug(error)
    ? error
    : new LedgerUnavailableError('The ledger’s database did not do what it was asked.', { cause: error })
}

const isOurs = (error: unknown) =>
  error instanceof LedgerUnavailableError || error instanceof StaleGrantError || error instanceof IllegalTransitionError

const isBug = (error: unknown) =>
  error instanceof TypeError || error instanceof RangeError || isSqliteBug(error) || isPostgresBug(error)

/**
 * SQLITE_ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE, RANGE: primary result codes, the low byte of the extended one.
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
