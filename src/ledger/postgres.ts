import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient, type PostgresQueryResult } from 'kysely'
import { Client, DatabaseError, Pool, types, type ClientConfig, type PoolClient, type PoolConfig } from 'pg'
import { recount } from './counts.ts'
import { migrate } from './migrations.ts'
import type { Tables } from './rows.ts'
import { LedgerUrlError, type Store } from './store.ts'

/** Longest waits, in ms. The server gives up first, so that its error says why; the client's own limit is for a silent network. */
const waits = { connect: 5_000, lock: 3_000, statement: 5_000, idleInTransaction: 5_000, answer: 7_000, idle: 30_000 }

/** Another replica's migration may build indexes on a large table while this one waits for its lock. */
const migrationMs = 10 * 60_000

/**
 * A migrated store on PostgreSQL 12 or newer. The URL may carry what libpq's does: sslmode, sslrootcert, ...
 * @param poolSize connections at most
 */
export async function openPostgres (url: string, poolSize: number): Promise<Store> {
  const connection = connectionOf(url)
  await migrated(connection)
  const pool = watched(new Pool({
    ...connection,
    max: poolSize,
    idleTimeoutMillis: waits.idle,
    statement_timeout: waits.statement,
    lock_timeout: waits.lock,
    idle_in_transaction_session_timeout: waits.idleInTransaction,
    query_timeout: waits.answer
  }))
  const db = kyselyOn(pool)
  return {
    dialect: 'postgres',
    db,
    statement: (work) => work(db),
    write: (work) => db.transaction().execute(work),
    close: () => db.destroy()
  }
}

/** On a connection of its own, with the patience of a migration. */
async function migrated (connection: PoolConfig): Promise<void> {
  const db = kyselyOn(watched(new Pool({ ...connection, max: 1, statement_timeout: migrationMs, query_timeout: migrationMs })))
  try {
    await migrate(db, 'postgres')
    await recount(db, 'postgres')
  } finally {
    await db.destroy()
  }
}

function connectionOf (url: string): ClientConfig {
  const config: ClientConfig = {
    connectionString: url,
    application_name: 'job-access',
    connectionTimeoutMillis: waits.connect,
    keepAlive: true,
    // a committed intent must survive a power cut, whatever the server's default
    options: '-c synchronous_commit=on',
    types: { getTypeParser }
  }
  try {
    // parses the URL and reads the certificates it names; does not connect
    new Client(config) // eslint-disable-line no-new
  } catch (error) {
    throw new LedgerUrlError(`The ledger’s database URL cannot be used: ${reasonFor(error)}`)
  }
  return config
}

/** Not the error itself: a URL that does not parse comes back whole, password included, in `input`. */
function reasonFor (error: unknown): string {
  if (error instanceof Error && 'path' in error && 'code' in error) return `${error.code} ${error.path}`
  return 'it does not parse. Special characters of user and password are percent-encoded.'
}

/** int8 as number, for this pool alone: everything kept in one (epoch ms, versions, counts) is far below 2^53. */
const getTypeParser: typeof types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format as 'text')

/** Without a listener a connection that breaks would end the process. The query at work on it rejects anyway. */
function watched (pool: Pool): Pool {
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

const kyselyOn = (pool: Pool) => new Kysely<Tables>({ dialect: new PostgresDialect({ pool: careful(pool) }) })

/** Kysely returns every connection to the pool; one that is of no use any more must not come back. */
const careful = (pool: Pool): PostgresPool => ({
  connect: async () => carefulClient(await pool.connect()),
  end: () => pool.end()
})

function carefulClient (client: PoolClient): PostgresPoolClient {
  let broken: Error | undefined
  async function query<R> (text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<R>> {
    // A query behind one that never got its answer would wait for it: fail the rollback at once.
    if (broken) throw broken
    try {
      const { command, rowCount, rows } = await client.query(text, [...parameters])
      return { command: command as PostgresQueryResult<R>['command'], rowCount: rowCount ?? 0, rows }
    } catch (error) {
      if (isOfNoUse(error)) broken = error
      throw error
    }
  }
  return { query: query as PostgresPoolClient['query'], release: () => client.release(broken) }
}

/** It failed otherwise than by the server's word; or the server became a standby, and the next connection may find the new primary. */
const isOfNoUse = (error: unknown): error is Error =>
  error instanceof DatabaseError ? error.code === readOnlyTransaction : error instanceof Error

/** Source: PostgreSQL documentation, appendix A. */
const readOnlyTransaction = '25006'
