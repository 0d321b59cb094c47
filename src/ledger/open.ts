import { existsSync } from 'node:fs'
import { LedgerUnavailableError, LedgerUrlError, type Ledger } from './ledger.ts'
import { sqlLedger, withLedgerErrors, type Store } from './sql.ts'
import { openSqlite } from './sqlite.ts'

export interface LedgerOptions {
  /** A file path, `sqlite:<path>`, `:memory:`, or `postgres://…`. */
  url: string
  /** SQLite: how long a write waits while another process has the file locked. Default 5,000 ms. */
  busyTimeoutMs?: number
  /** Refuse a path without a file, and a database without a ledger. Default: make one. */
  mustExist?: boolean
  /** PostgreSQL: the highest number of connections. Default 10. */
  poolSize?: number
}

/**
 * Opens the ledger and brings its schema up to date. Rejects with LedgerUnavailableError when the database cannot be opened, with
 * SchemaTooNewError when a newer version of the service has migrated it, with LedgerUrlError when the URL cannot be used.
 * No error contains the URL.
 */
export async function openLedger ({ url, busyTimeoutMs = 5_000, mustExist = false, poolSize = 10 }: LedgerOptions): Promise<Ledger> {
  try {
    return sqlLedger(await withLedgerErrors(() => openStore(url, busyTimeoutMs, poolSize, mustExist)))
  } catch (error) {
    throw error instanceof LedgerUnavailableError ? cannotBeOpened(error.cause) : error
  }
}

/** Names the reason for an operator who has no log yet. Only its code: a database's message may repeat what it was given. */
function cannotBeOpened (cause: unknown): LedgerUnavailableError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
  return new LedgerUnavailableError(`The ledger’s database cannot be opened (${code}).`, { cause })
}

async function openStore (url: string, busyTimeoutMs: number, poolSize: number, mustExist: boolean): Promise<Store> {
  const scheme = schemeOf(url)
  if (scheme === 'postgres' || scheme === 'postgresql') {
    // Its driver is loaded only where it is used.
    const { openPostgres } = await import('./postgres.ts')
    return openPostgres(url, poolSize, mustExist)
  }
  if (scheme === undefined) return openSqlite(pathIn(url, mustExist), busyTimeoutMs, mustExist)
  if (scheme === 'sqlite') return openSqlite(pathIn(url.slice('sqlite:'.length), mustExist), busyTimeoutMs, mustExist)
  throw new LedgerUrlError(`The ledger’s database cannot have a ${scheme}: URL; it must be ${forms}.`)
}

const forms = 'a file path, sqlite:<path>, :memory: or postgres://…'

const schemeOf = (url: string) => /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()

function pathIn (rest: string, mustExist: boolean): string {
  // Many tools write sqlite:///absolute/path. In sqlite://name, the name would be a host.
  const path = rest.startsWith('///') ? rest.slice(2) : rest
  if (path === '' || path.startsWith('//')) throw new LedgerUrlError(`The ledger’s database has no path; it must be ${forms}.`)
  if (mustExist && path !== ':memory:' && !existsSync(path)) {
    throw new LedgerUrlError('There is no ledger at this path. Run this where the service runs, with its JOB_ACCESS_LEDGER.')
  }
  return path
}
