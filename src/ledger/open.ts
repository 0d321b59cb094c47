import { asLedgerError } from './failure.ts'
import { LedgerUnavailableError, type Ledger } from './ledger.ts'
import { SchemaTooNewError } from './migrations.ts'
import { openPostgres } from './postgres.ts'
import { sqlLedger } from './sql.ts'
import { openSqlite } from './sqlite.ts'
import { LedgerUrlError, type Store } from './store.ts'

export interface LedgerOptions {
  /** A file path, `sqlite:<path>`, `:memory:`, or `postgres://…`. */
  url: string
  /** SQLite: how long a write waits for another process that holds the file. Default 5,000 ms. */
  busyTimeoutMs?: number
  /** PostgreSQL: connections at most. Default 10. */
  poolSize?: number
}

/**
 * Opens the ledger and brings its schema up to date. Rejects with LedgerUnavailableError when the database cannot be reached,
 * with SchemaTooNewError when a newer version of the service migrated it, with LedgerUrlError when the URL is none it takes.
 * No error holds the URL.
 */
export async function openLedger ({ url, busyTimeoutMs = 5_000, poolSize = 10 }: LedgerOptions): Promise<Ledger> {
  try {
    return sqlLedger(await openStore(url, busyTimeoutMs, poolSize))
  } catch (error) {
    if (error instanceof LedgerUrlError || error instanceof SchemaTooNewError) throw error
    throw unopened(asLedgerError(error))
  }
}

/** Says why, for an operator who has no log yet; by its code alone, since messages of databases may repeat what they were given. */
function unopened (error: unknown): unknown {
  if (!(error instanceof LedgerUnavailableError)) return error
  const { cause } = error
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
  return new LedgerUnavailableError(`The ledger’s database cannot be opened (${code}).`, { cause })
}

async function openStore (url: string, busyTimeoutMs: number, poolSize: number): Promise<Store> {
  const scheme = schemeOf(url)
  if (scheme === 'postgres' || scheme === 'postgresql') return openPostgres(url, poolSize)
  if (scheme === undefined) return openSqlite(pathIn(url), busyTimeoutMs)
  if (scheme === 'sqlite') return openSqlite(pathIn(url.slice('sqlite:'.length)), busyTimeoutMs)
  throw new LedgerUrlError(`The ledger’s database cannot be a ${scheme}: URL; it takes ${forms}.`)
}

const forms = 'a file path, sqlite:<path>, :memory: or postgres://…'

const schemeOf = (url: string) => /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()

function pathIn (rest: string): string {
  // sqlite:///absolute is what many tools write; in sqlite://name the name would be a host
  const path = rest.startsWith('///') ? rest.slice(2) : rest
  if (path === '' || path.startsWith('//')) throw new LedgerUrlError(`The ledger’s database has no path; it takes ${forms}.`)
  return path
}
