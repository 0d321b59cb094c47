import { Kysely, PostgresDialect, sql, type PostgresPool, type PostgresPoolClient, type PostgresQueryResult } from 'kysely'
import { Client, DatabaseError, Pool, types, type ClientConfig, type PoolClient, type PoolConfig } from 'pg'
import { LedgerUrlError } from './ledger.ts'
import { migrate, recount, requireLedger } from './migrations.ts'
import type { Tables } from './rows.ts'
import type { Store } from './sql.ts'

/**
 * In ms. The server's timeouts come first, so that its error gives the reason. The client's own (`answer`) is for a network that does not
 * answer.
 */
const timeouts = { connect: 5_000, lock: 3_000, statement: 5_000, idleInTransaction: 5_000, answer: 7_000, idle: 30_000 }

/** While this replica waits for the lock, another one may be building indexes on a large table. */
const migrationTimeoutMs = 10 * 60_000

/**
 * A store with an up-to-date schema, on PostgreSQL 12 or newer. The URL may have libpq's parameters: sslmode, sslrootcert, ...
 * @param poolSize the highest number of connections
 * @param mustExist whether to refuse a database without a ledger, instead of making one
 */
export async function openPostgres (url: string, poolSize: number, mustExist = false): Promise<Store> {
  const connection = connectionOf(url)
  await migrateOnOwnConnection(connection, mustExist)
  const pool = withErrorListeners(new Pool({
    ...connection,
    max: poolSize,
    idleTimeoutMillis: timeouts.idle,
    statement_timeout: timeouts.statement,
    lock_timeout: timeouts.lock,
    idle_in_transaction_session_timeout: timeouts.idleInTransaction,
    query_timeout: timeouts.answer
  }))
  const db = kyselyOn(pool)
  return {
    dialect: 'postgres',
    db,
    statement: (work) => work(db),
    write: (work) => db.transaction().execute(work),
    async time () {
      const { rows } = await sql<{ now: number }>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as now`.execute(db)
      return rows[0]?.now ?? NaN
    },
    close: () => db.destroy()
  }
}

/** A migration needs longer timeouts, so it has its own connection. */
async function migrateOnOwnConnection (connection: PoolConfig, mustExist: boolean): Promise<void> {
  const db = kyselyOn(withErrorListeners(new Pool({
    ...connection, max: 1, statement_timeout: migrationTimeoutMs, query_timeout: migrationTimeoutMs
  })))
  try {
    if (mustExist) await requireLedger(db, 'postgres')
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
    connectionTimeoutMillis: timeouts.connect,
    keepAlive: true,
    // A committed intent must survive a power failure, whatever the server's default is.
    options: '-c synchronous_commit=on',
    types: { getTypeParser }
  }
  try {
    // Parses the URL and reads the certificate files that it names. Does not connect.
    new Client(config) // eslint-disable-line no-new
  } catch (error) {
    throw new LedgerUrlError(`The ledger’s database URL cannot be used: ${reasonFor(error)}`)
  }
  return config
}

/** Not the error itself: when a URL does not parse, the error's `input` is the whole URL with its password. */
function reasonFor (error: unknown): string {
  if (error instanceof Error && 'path' in error && 'code' in error) return `${error.code} ${error.path}`
  return 'it does not parse. Special characters in user and password must be percent-encoded.'
}

/** Reads int8 as a number, in this pool only: its values here (epoch ms, versions, counts) are far below 2^53. */
const getTypeParser: typeof types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format)

/** Without a listener, a broken connection would end the process. A query that runs on it rejects anyway. */
function withErrorListeners (pool: Pool): Pool {
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

const kyselyOn = (pool: Pool) => new Kysely<Tables>({ dialect: new PostgresDialect({ pool: kyselyPool(pool) }) })

/** Kysely returns every connection to the pool. Here an unusable one is closed instead. */
const kyselyPool = (pool: Pool): PostgresPool => ({
  connect: async () => kyselyClient(await pool.connect()),
  end: () => pool.end()
})

function kyselyClient (client: PoolClient): PostgresPoolClient {
  let broken: Error | undefined
  async function query<R> (text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<R>> {
    // A query after one that got no answer would wait for that answer. So the rollback fails at once.
    if (broken) throw broken
    try {
      const { command, rowCount, rows } = await client.query(text, [...parameters])
      return { command: command as PostgresQueryResult<R>['command'], rowCount: rowCount ?? 0, rows }
    } catch (error) {
      if (isUnusable(error)) broken = error
      throw error
    }
  }
  return { query: query as PostgresPoolClient['query'], release: () => client.release(broken) }
}

/**
 * True when the error did not come from the server, so that the connection itself failed. Also true when the server has become a
 * standby: a new connection may reach the new primary.
 */
const isUnusable = (error: unknown): error is Error =>
  error instanceof DatabaseError ? error.code === readOnlyTransaction : error instanceof Error

/** Source: PostgreSQL documentation, appendix A. */
const readOnlyTransaction = '25006'
